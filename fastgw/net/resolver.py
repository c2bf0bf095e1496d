"""Names to addresses, without blocking: the system's resolver, asked in a thread, and its answers kept for a while."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

# How long a look-up that failed is not tried again.
_FAILURE_KEPT_S = 1.0


class Resolver:
    """Remembers each name's last good answer; when a later look-up fails, that answer goes on being used."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self._answers: dict[str, list[str]] = {}
        self._answered_at: dict[str, float] = {}
        self._failures: dict[str, tuple[float, OSError]] = {}
        self._asking: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str, refresh_s: float) -> list[str]:
        """The addresses of a name, or the address itself. Raises socket.gaierror."""
        if _is_address(host):
            return [host]
        now = self._now()
        failed_at, error = self._failures.get(host, (now - _FAILURE_KEPT_S, None))
        may_ask = now - failed_at >= _FAILURE_KEPT_S
        answer = self._answers.get(host)
        if answer is not None:
            if may_ask and now - self._answered_at[host] > refresh_s:
                # The old answer serves meanwhile; a failure of this look-up is no news.
                self._ask(host).add_done_callback(_look_at)
            return answer
        if error is not None and not may_ask:
            raise error
        return await asyncio.shield(self._ask(host))

    def _ask(self, host: str) -> asyncio.Task[list[str]]:
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = self._loop.create_task(self._look_up(host))
        return task

    async def _look_up(self, host: str) -> list[str]:
        try:
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            self._failures[host] = (self._now(), error)
            raise
        finally:
            self._asking.pop(host, None)
        self._failures.pop(host, None)
        self._answers[host] = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._answered_at[host] = self._now()
        return self._answers[host]


def _look_at(task: asyncio.Task[list[str]]) -> None:
    # An exception that nobody looks at would be reported by the loop.
    if not task.cancelled():
        task.exception()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
