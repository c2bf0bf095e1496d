"""A backend that the test plays itself, byte by byte: it takes the gateway's connections with `accept`, and reads and
writes on them in the test's own order. So tunnels, slow readers and deaths at any moment need no thread and no script.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.wire import PATIENCE_S, Wire


@dataclass(frozen=True)
class Asked:
    """A request as the gateway sent it: its head, the empty line included, and the body without its framing."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    def values(self, name: bytes) -> list[bytes]:
        """The values of all header lines of that name."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [value.strip() for found, _, value in lines if found.lower() == name.lower()]


class PlayedConnection(Wire):
    """A connection from the gateway."""

    def read_head(self) -> Asked:
        return Asked(self.read_until(b"\r\n\r\n"), b"")

    def read_request(self) -> Asked:
        """A whole request; trailers are left out."""
        head = self.read_head().head
        asked = Asked(head, b"")
        body = b""
        if asked.values(b"transfer-encoding") == [b"chunked"]:
            while chunk := self.read_chunk():
                body += chunk
            while self.read_line():
                pass
        elif lengths := asked.values(b"content-length"):
            body = self.read_exactly(int(lengths[0]))
        return Asked(head, body)

    def answer(self, body: bytes = b"ok", *lines: bytes, status: bytes = b"200 OK") -> None:
        """Sends a whole answer; `lines` are header lines."""
        fields = b"".join(b"\r\n" + line for line in lines)
        self.send(b"HTTP/1.1 %b%b\r\nContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body))

    def ended(self) -> bool:
        """Waits until the gateway has closed it, with nothing left to read."""
        return self.read_to_end() == b""


class PlayedBackend:
    """A listening socket on a free loopback port or, with `path`, on a Unix socket.

    With `receive_buffer`, in bytes, it can't take much ahead of what the test reads.
    """

    def __init__(self, receive_buffer: int | None = None, path: Path | None = None) -> None:
        self._taken: list[PlayedConnection] = []
        self._listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0) if path is None else str(path))
        self._listener.listen(512)
        self.address = f"unix:{path}"
        if path is None:
            self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self, seconds: float = PATIENCE_S) -> PlayedConnection:
        """The gateway's next connection. Raises TimeoutError."""
        self._listener.settimeout(seconds)
        connection = PlayedConnection(self._listener.accept()[0])
        self._taken.append(connection)
        return connection

    def nobody_connects(self) -> bool:
        """Whether no connection waits to be accepted."""
        try:
            self.accept(0.0)
        except (TimeoutError, BlockingIOError):
            return True
        return False

    def hang_up(self) -> None:
        """Closes what it has taken, and what still waits."""
        while not self.nobody_connects():
            pass
        for connection in self._taken:
            connection.close()
        self._taken.clear()

    def close(self) -> None:
        self.hang_up()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
