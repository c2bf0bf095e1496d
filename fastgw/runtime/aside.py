"""Work in a thread that the end of the program does not wait for, where asyncio's own threads are all joined first."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(call: Callable[[], T]) -> T:
    """What a call gives that may block, as on a file system that is gone; or raises what it raises."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], value: object) -> None:
        if not outcome.done():
            settle(value)

    def work() -> None:
        settle: Callable[[Any], None]
        value: object
        try:
            settle, value = outcome.set_result, call()
        except BaseException as error:
            settle, value = outcome.set_exception, error
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, settle, value)

    threading.Thread(target=work, name="aside", daemon=True).start()
    return await outcome
