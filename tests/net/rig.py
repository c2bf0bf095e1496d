"""The real connections of both sides, and the pool between them, over transports and a loop that only take notes.

Bytes in, bytes out: a test says what a client and a backend send, and looks at what they get.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.net.clock import Sweep
from fastgw.net.listener import Server
from fastgw.net.pool import UpstreamPool
from fastgw.net.refusals import Refusals
from fastgw.net.resolver import Resolver
from fastgw.net.upstream import UpstreamConnection
from fastgw.policy.ticket_secret import TicketSecret
from tests.fakes import Bugs, Clock, FakeLog, gateway_of, snapshot_of

CONFIG = '[upstreams.a]\nendpoints = ["b:1"]\n[[routes]]\nupstream = "a"\n'
HIGH_WATER = 64 * 1024


def no_report(message: str) -> None:
    """Nothing is to be said on standard error."""
    raise AssertionError(message)


class FakeLoop:
    """Runs what it is given when it is told to, and its timers when the clock says so."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._ready: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
        self.connecting = 0

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self._ready.append((call, arguments))

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.timers.append((self._now() + seconds, call, arguments))

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Nobody is there to connect to: the request waits for ever."""
        self.connecting += 1
        coroutine.close()
        return cast("asyncio.Future[None]", _NoTask())

    def run(self) -> None:
        due = [timer for timer in self.timers if timer[0] <= self._now()]
        self.timers = [timer for timer in self.timers if timer not in due]
        self._ready.extend(timer[1:] for timer in due)
        while self._ready:
            call, arguments = self._ready.popleft()
            call(*arguments)


class _NoTask:
    def add_done_callback(self, call: Callable[..., None]) -> None: ...

    def cancel(self) -> None: ...


class Wire(asyncio.Transport):
    """A transport: `sent` is what went out. While `blocked`, what is written stays in its buffer."""

    def __init__(self, loop: FakeLoop, protocol: asyncio.Protocol, peername: object) -> None:
        super().__init__({"peername": peername})
        self._loop = loop
        self.protocol = protocol
        self.sent = b""
        self.reading = True
        self.blocked = False
        self.buffer = b""
        self.closed = False
        self.aborted = False
        self.sent_eof = False
        self._told = False

    # What the protocol calls.

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.sent_eof
        if self.closed:
            return
        if not self.blocked:
            self.sent += data
            return
        self.buffer += data
        if len(self.buffer) > HIGH_WATER and not self._told:
            self._told = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.sent_eof = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = self.aborted or not self.closed
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == HIGH_WATER

    # What the other end does.

    def receive(self, *pieces: bytes) -> None:
        """The other end sends; a piece is not read while nobody reads."""
        for piece in pieces:
            if self.closed:
                return
            assert self.reading, "not read now"
            self.protocol.data_received(piece)
            self._loop.run()

    def half_close(self) -> None:
        """The other end says that this was all."""
        if not self.closed and not self.protocol.eof_received():
            self.close()
        self._loop.run()

    def lose(self, error: Exception | None = None) -> None:
        """The other end is gone."""
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(error)
        self._loop.run()

    def unblock(self) -> None:
        """The other end reads all there is."""
        self.blocked = False
        self.sent += self.buffer
        self.buffer = b""
        if self._told:
            self._told = False
            self.protocol.resume_writing()
        self._loop.run()

    def take(self) -> bytes:
        """What went out since the last time."""
        taken, self.sent = self.sent, b""
        return taken


class Rig:
    """One listener and one upstream, `a`, with one endpoint unless the configuration has more."""

    def __init__(self, config: str = CONFIG) -> None:
        self.clock = Clock()
        self.loop = FakeLoop(self.clock)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        snapshot = snapshot_of(config)
        pools: dict[str, Any] = {}
        self.gateway: Gateway = gateway_of(snapshot, self.clock, pools, lambda: 0.0)
        self.sweep = Sweep(loop, self.clock, self.gateway.failed)
        self.pool = UpstreamPool(
            snapshot.upstreams["a"], self.gateway, Resolver(loop, self.clock), self.sweep, loop, no_report, lambda: 0.0
        )
        pools["a"] = self.pool
        self.gateway.bind_routes()
        self.told: list[str] = []
        self.refusals = Refusals(self.told.append, self.clock)
        self.sweep.each_tick.append(self.refusals.tick)
        self.server = Server(
            self.gateway,
            snapshot.listeners[0],
            self.sweep,
            loop,
            self.refusals,
            TicketSecret(bytes(80), 0),
            no_report,
            self.gateway.counters,
        )

    @property
    def logged(self) -> list[Exchange]:
        return cast(FakeLog, self.gateway.log).recorded

    @property
    def bugs(self) -> Bugs:
        return cast(Bugs, self.gateway.failed)

    def client(self, peername: object = ("192.0.2.7", 4711)) -> Wire:
        """A client that has connected."""
        connection = self.server.connect()
        wire = Wire(self.loop, connection, peername)
        connection.connection_made(wire)
        return wire

    def backend(self, endpoint: int = 0) -> Wire:
        """A connection to an endpoint, idle in the pool."""
        connection = UpstreamConnection(self.pool, endpoint, f"b:{endpoint + 1}")
        wire = Wire(self.loop, connection, ("203.0.113.1", 80))
        connection.connection_made(wire)
        self.pool.active[endpoint] += 1
        self.pool.release(connection)
        return wire

    def both(self) -> tuple[Wire, Wire]:
        return self.client(), self.backend()

    def after(self, seconds: float) -> None:
        """Time passes, and the sweep looks at who is overdue."""
        self.clock.now += seconds
        self.gateway.coarse_now = self.clock.now
        self.sweep.look(self.clock.now)
        self.loop.run()


# What comes out, without its framing.


@dataclass
class Message:
    """`lines` are the header lines but those about the framing; `framing` those."""

    start: bytes
    lines: list[bytes]
    framing: list[bytes]
    body: bytes = b""
    trailers: list[bytes] = field(default_factory=list)
    complete: bool = True


_FRAMING = (b"content-length", b"transfer-encoding", b"connection")


def messages(data: bytes, bodiless: int = 0, closed: bool = False) -> list[Message]:
    """All the messages in `data`; the last may be incomplete. `bodiless`: that many answers are to HEAD requests."""
    out = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        framing = [line for line in lines if line.partition(b":")[0].lower() in _FRAMING]
        message = Message(start, [line for line in lines if line not in framing], framing, complete=mark != b"")
        out.append(message)
        status = start[9:12] if start.startswith(b"HTTP/") else b""
        values = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in framing)}
        if status[:1] == b"1" or status in (b"204", b"304") or bodiless:
            bodiless -= bodiless > 0 and status[:1] != b"1"
        elif values.get(b"transfer-encoding") == b"chunked":
            data = _chunks(message, data)
        elif b"content-length" in values:
            length = int(values[b"content-length"])
            message.complete = len(data) >= length
            message.body, data = data[:length], data[length:]
        elif status:
            message.complete = closed
            message.body, data = data, b""
    return out


def _chunks(message: Message, data: bytes) -> bytes:
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark:
            message.complete = False
            return b""
        size = int(line, 16)
        if not size:
            break
        message.body += data[:size]
        if len(data) < size + 2:
            message.complete = False
            return b""
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark or not line:
            message.complete = mark != b""
            return data
        message.trailers.append(line)
