"""Names to addresses, without blocking: the system's resolver, asked in a thread, and its answers kept for a while."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

# How long a name that has no address is not asked for again.
_FAILURE_KEPT_S = 1.0


class Resolver:
    """Remembers each name's last good answer; when a later look-up fails, that answer goes on being used."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._asking: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str, refresh_s: float) -> list[str]:
        """The addresses of a name, or the address itself. Raises socket.gaierror."""
        if _is_address(host):
            return [host]
        known = self._known.get(host)
        if known is None:
            return await asyncio.shield(self._ask(host))
        asked_at, addresses = known
        if self._now() - asked_at > refresh_s:
            # The old answer serves meanwhile; a failure of this look-up is no news.
            self._ask(host).add_done_callback(lambda task: task.cancelled() or task.exception())
        return addresses

    def _ask(self, host: str) -> asyncio.Task[list[str]]:
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = self._loop.create_task(self._look_up(host))
        return task

    async def _look_up(self, host: str) -> list[str]:
        try:
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            known = self._known.get(host)
            if known is not None:
                self._known[host] = (self._now() - _FAILURE_KEPT_S, known[1])
            raise
        finally:
            self._asking.pop(host, None)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._known[host] = (self._now(), addresses)
        return addresses


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
