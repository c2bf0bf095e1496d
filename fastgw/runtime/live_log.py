"""Those who look at the log as it is made, over the admin API: what each wants, and what has come for it.

Workers are told what is wanted, and send nothing while nobody looks. Whoever does not keep up loses lines, and is told
how many; what waits for it has a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgw.policy.log_filter import LogFilter

# Each may have what is below waiting.
_LISTENERS_MAX = 16
_WAITING_BYTES = 1024 * 1024
# What comes when nothing happens, so that a proxy between keeps the connection.
_HEARTBEAT_S = 15.0


class TooMany(Exception):
    """Others look already, as many as may."""


class Listener:
    """One who looks. `stream` is what it gets."""

    def __init__(self, wanted: LogFilter) -> None:
        self.wanted = wanted
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._has_come = asyncio.Event()

    def add(self, messages: bytes, count: int, left_out: int) -> None:
        """So many lines, and how many were left out before."""
        if self._size + len(messages) > _WAITING_BYTES:
            left_out += count
        elif messages:
            self._waiting.append(messages)
            self._size += len(messages)
        self._left_out += left_out
        self._has_come.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events (HTML, section 9.2), without an end."""
        yield b": from now on\n\n"
        while True:
            while self._waiting:
                messages = self._waiting.popleft()
                self._size -= len(messages)
                yield messages
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                yield b'event: dropped\ndata: {"count":%d}\n\n' % left_out
                continue
            self._has_come.clear()
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._has_come.wait()
            except TimeoutError:
                yield b": still here\n\n"


class LiveLogs:
    """`tell_workers` makes them send what these filters take, from now on."""

    def __init__(self, tell_workers: Callable[[tuple[LogFilter, ...]], Awaitable[None]]) -> None:
        self._tell_workers = tell_workers
        self._listeners: set[Listener] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keeps the workers informed."""
        told: tuple[LogFilter, ...] = ()
        while True:
            await self._changed.wait()
            self._changed.clear()
            filters = tuple(dict.fromkeys(listener.wanted for listener in self._listeners))
            if set(filters) != set(told):
                told = filters
                await self._tell_workers(filters)

    @contextlib.contextmanager
    def listening(self, wanted: LogFilter) -> Iterator[Listener]:
        """Raises TooMany."""
        if len(self._listeners) >= _LISTENERS_MAX:
            raise TooMany
        listener = Listener(wanted)
        self._listeners.add(listener)
        self._changed.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._changed.set()

    def add(self, wanted: LogFilter, lines: bytes, count: int, left_out: int) -> None:
        """Of a worker: whole lines that this filter has taken."""
        messages = b"".join(b"event: line\ndata: %b\n\n" % line for line in lines.split(b"\n") if line)
        for listener in self._listeners:
            if listener.wanted == wanted:
                listener.add(messages, count, left_out)
