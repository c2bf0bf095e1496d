"""One coarse sweep for all the time-outs of a worker: a timer per request would cost more than the request's parse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

# How late a time-out may be. Ten looks a second at 10,000 connections are about 5 ms of work.
TICK_S = 0.1
FOREVER = float("inf")


def wall() -> float:
    """The time of day."""
    return time.time()  # noqa: TID251


def wall_offset() -> float:
    """What the wall clock shows when the monotonic clock shows 0; not constant, the wall clock is set now and then."""
    return time.time() - time.monotonic()  # noqa: TID251


class Watched(Protocol):
    """What has deadlines. `deadline` and `write_deadline` are the times at which to look at it again."""

    deadline: float
    write_deadline: float

    def overdue(self, now: float) -> None:
        """One of the deadlines has passed; it sets new ones."""


class Sweep:
    """Looks at all that is watched, TICK_S apart, and then calls `each_tick` with the time.

    `failed` is told of an exception, from inside its handler.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], failed: Callable[[], None]) -> None:
        self.watched: set[Watched] = set()
        self.each_tick: list[Callable[[float], None]] = []
        self._loop = loop
        self._now = now
        self._failed = failed

    def start(self) -> None:
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._loop.call_later(TICK_S, self._tick)
        self.look(self._now())

    def look(self, now: float) -> None:
        for one in tuple(self.watched):
            if one.deadline < now or one.write_deadline < now:
                self._guarded(one.overdue, now)
        for call in tuple(self.each_tick):
            self._guarded(call, now)

    def _guarded(self, call: Callable[[float], None], now: float) -> None:
        # One connection's bug must not end the time-outs of all.
        try:
            call(now)
        except Exception:
            self._failed()
