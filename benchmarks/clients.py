"""Clients on kept connections that note what became of each request, and when: for phases, where wrk has only totals.

Each asks for the next number as soon as it has its answer. After a failure it waits for a moment, or refusals, which
cost next to nothing, would be most of what is measured.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from time import monotonic
from typing import cast

_PAUSE_S = 0.01
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")
_LOST = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one request: when its answer was there, how long it took, and its status; 0: the connection ended first."""

    at: float
    seconds: float
    status: int

    @property
    def is_good(self) -> bool:
        return self.status == 200


class Clients:
    """`outcomes` are in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: list[Outcome] = []
        self.asked = 0
        self.is_stopped = False
        self._clients: set[_Client] = set()
        self._ended = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def start(self, connections: int) -> None:
        for _ in range(connections):
            await self.connect()

    async def connect(self) -> None:
        if not self.is_stopped:
            await asyncio.get_running_loop().create_connection(lambda: _Client(self), "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Returns when all connections are closed."""
        self.is_stopped = True
        for client in tuple(self._clients):
            client.transport.abort()
        if self._clients:
            await self._ended.wait()

    def came(self, client: _Client) -> None:
        self._clients.add(client)

    def left(self, client: _Client) -> None:
        self._clients.discard(client)
        if self.is_stopped:
            if not self._clients:
                self._ended.set()
        else:
            task = asyncio.get_running_loop().create_task(self.connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def since(self, begin: float, end: float) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if begin <= outcome.at < end]


class _Client(asyncio.Protocol):
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._awaited = 0
        self._began = 0.0
        self._is_waiting = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._clients.came(self)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting and not self._clients.is_stopped:
            self._note(_LOST)
        self._clients.left(self)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        if not self._awaited:
            head_end = received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = _LENGTH.search(received, 0, head_end + 2)
            self._awaited = head_end + 4 + (int(length[1]) if length else 0)
        if len(received) < self._awaited:
            return
        status = int(received[9:12])
        self._received = b""
        self._awaited = 0
        self._note(status)
        if status == 200:
            self._ask()
        else:
            self._loop.call_later(_PAUSE_S, self._ask)

    def _ask(self) -> None:
        if self.transport.is_closing():
            return
        clients = self._clients
        clients.asked += 1
        self._is_waiting = True
        self._began = monotonic()
        self.transport.write(b"GET /%d HTTP/1.1\r\nHost: bench.test\r\n\r\n" % clients.asked)

    def _note(self, status: int) -> None:
        now = monotonic()
        self._is_waiting = False
        self._clients.outcomes.append(Outcome(now, now - self._began, status))


def percentile(outcomes: list[Outcome], share: float) -> float:
    """Of the seconds that they took; nan when there are none."""
    took = sorted([outcome.seconds for outcome in outcomes])
    return took[min(int(share * len(took)), len(took) - 1)] if took else float("nan")


def errors(outcomes: list[Outcome]) -> int:
    return sum(not outcome.is_good for outcome in outcomes)
