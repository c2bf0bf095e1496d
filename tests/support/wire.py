"""One end of a connection in the test's own hands: bytes out as they are, bytes in as they are asked for."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

PATIENCE_S = 10.0


class ConnectionEndedError(Exception):
    """The connection ended before what was waited for came; it carries what did come."""


class Wire:
    """A connected socket, and what was read from it but not asked for yet."""

    def __init__(self, sock: socket.socket, patience: float = PATIENCE_S) -> None:
        self.sock = sock
        self.sock.settimeout(patience)
        if sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> None:
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionEndedError(self.buffer)
        self.buffer += data

    def read_until(self, mark: bytes) -> bytes:
        """All up to and with `mark`."""
        while mark not in self.buffer:
            self._more()
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read_to_end(self) -> bytes:
        """What comes until the other side closes or resets."""
        try:
            while True:
                self._more()
        except ConnectionEndedError:
            taken, self.buffer = self.buffer, b""
            return taken

    def read_line(self) -> bytes:
        """A line, without its end."""
        return self.read_until(b"\r\n")[:-2]

    def read_chunk(self) -> bytes:
        """The data of the next chunk; the last one is empty, and its trailers are left to read."""
        size = int(self.read_line(), 16)
        return self.read_exactly(size + 2)[:-2] if size else b""

    def reset(self) -> None:
        """Closes so that the other side gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
