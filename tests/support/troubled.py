"""A backend in a process of its own that may be given trouble: killed, frozen, or told to behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import subprocess
import sys
from types import TracebackType
from typing import Self

from tests.support.client import Client, get
from tests.support.gateway import ROOT, free_port
from tests.support.observe import eventually

# What an answer takes, in seconds: well, and in mode "slow".
WELL_S = 0.005
SLOW_S = 20 * WELL_S
_PAUSE_OF_NOTHING = struct.pack("ii", 1, 0)


class Troubled:
    """`mode` is how it answers: "well", "503", "reset" (of the connection), "slow"."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.troubled", self.host, str(self.port)], cwd=ROOT
        )

        def listens() -> bool:
            try:
                Client((self.host, self.port)).close()
            except ConnectionRefusedError:
                return False
            return True

        assert eventually(listens)

    def be(self, mode: str) -> None:
        with Client((self.host, self.port)) as client:
            assert client.ask(get(f"/mode/{mode}".encode())).status == 200

    def served(self) -> int:
        """How many requests have come, since the start."""
        with Client((self.host, self.port)) as client:
            return int(client.ask(get(b"/served")).body)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class _Backend:
    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.mode = "well"
        self.served = 0

    async def serve(self) -> None:
        server = await asyncio.start_server(self.answer, self.host, self.port, backlog=512)
        async with server:
            await server.serve_forever()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length: "):
                        length = int(line[16:])
                body = await reader.readexactly(length)
                if not await self.answer_one(writer, path, body):
                    break
        writer.close()

    async def answer_one(self, writer: asyncio.StreamWriter, path: str, body: bytes) -> bool:
        """Whether the connection goes on."""
        status, text = "200 OK", body or str(self.port).encode()
        if path.startswith("/mode/"):
            self.mode = path[6:]
        elif path == "/served":
            text = str(self.served).encode()
        else:
            self.served += path != "/healthz"
            await asyncio.sleep(SLOW_S if self.mode == "slow" else WELL_S)
            if self.mode == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _PAUSE_OF_NOTHING)
                writer.transport.abort()
                return False
            if self.mode == "503":
                status = "503 Service Unavailable"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        await writer.drain()
        return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_Backend(sys.argv[1], int(sys.argv[2])).serve())
