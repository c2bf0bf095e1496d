"""Endpoints of a real service time that may be given trouble, each in a process of its own.

A request takes SERVICE_S, and SLOW_S in trouble of that kind: it sleeps, as what waits for a database does, so that an
endpoint bears any number at once. The process is told what to do by lines on its standard input, which reach it also
when nobody can connect. What it is asked for are numbers, `/17`, so that a request that comes twice is told from two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import cast

import uvloop

from benchmarks.processes import end, free_port, pinned

SERVICE_S = 0.005
SLOW_S = 20 * SERVICE_S
CHECK_PATH = "/healthz"

WELL = "well"
SLOW = "slow"
# Kinds of failure.
REFUSED = "refused"  # the listener is closed, and so is every connection
UNAVAILABLE = "503"
RESET = "reset"  # of the connection, in place of an answer
FROZEN = "frozen"  # requests are taken, and answered only when it is well again
FAILURES = (REFUSED, UNAVAILABLE, RESET, FROZEN)

# On close, nothing is waited for: the other side gets a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


class Endpoint:
    """One of these processes, as the benchmark holds it."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> list[int]:
        """To what it was told: the requests that it has seen since the last time, by their numbers."""
        assert self.process.stdout is not None
        numbers: list[int] = json.loads(self.process.stdout.readline())
        return numbers


def become(mode: str, endpoints: Sequence[Endpoint]) -> list[int]:
    """All of them at once, as nearly as can be; returns what they have seen till then since the last time."""
    for endpoint in endpoints:
        endpoint.tell(mode)
    return [number for endpoint in endpoints for number in endpoint.answer()]


@contextlib.contextmanager
def started(cores: Sequence[int], count: int) -> Iterator[list[Endpoint]]:
    """So many of them, all well."""
    with contextlib.ExitStack() as stack:
        endpoints = []
        for _ in range(count):
            port = free_port()
            process = subprocess.Popen(
                pinned(cores, [sys.executable, "-m", "benchmarks.troubled", str(port)]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            # To close its pipes, when it has ended.
            stack.enter_context(process)
            stack.callback(end, process)
            endpoints.append(Endpoint(port, process))
        become(WELL, endpoints)
        yield endpoints


class _Server:
    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.loop = loop
        self.mode = ""
        self.seen: list[int] = []
        self.connections: set[_Connection] = set()
        self.held: list[_Connection] = []
        self._listener: asyncio.Server | None = None

    async def obey(self) -> None:
        """Each line is a mode; the answer says what was seen before."""
        commands = asyncio.StreamReader()
        await self.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := await commands.readline():
            await self._become(line.decode().strip())
            print(json.dumps(self.seen), flush=True)
            self.seen = []

    async def _become(self, mode: str) -> None:
        self.mode = mode
        if mode == REFUSED:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            for connection in tuple(self.connections):
                connection.transport.abort()
        elif self._listener is None:
            self._listener = await self.loop.create_server(
                lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024
            )
        if mode != FROZEN:
            for connection in self.held:
                connection.answer()
            self.held = []


class _Connection(asyncio.Protocol):
    """Requests without bodies, one at a time."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._received = b""
        self._closes = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        server = self._server
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        path = self._received.split(b" ", 2)[1]
        self._closes = path == CHECK_PATH.encode()
        self._received = b""
        if not self._closes:
            server.seen.append(int(path[1:]))
        if server.mode == FROZEN:
            server.held.append(self)
        else:
            server.loop.call_later(SLOW_S if server.mode == SLOW else SERVICE_S, self.answer)

    def answer(self) -> None:
        if self.transport.is_closing():
            return
        if self._server.mode == RESET:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
            return
        status = b"503 Service Unavailable" if self._server.mode == UNAVAILABLE else b"200 OK"
        self.transport.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
        if self._closes:
            self.transport.close()


async def _serve(port: int) -> None:
    await _Server(port, asyncio.get_running_loop()).obey()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve(int(sys.argv[1])))
