"""A client that sends bytes as they are, and reads answers without judging them."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tests.support.wire import PATIENCE_S, ConnectionEndedError, Wire

__all__ = ["Client", "ConnectionEndedError", "Received", "get"]


@dataclass(frozen=True)
class Received:
    """An answer: the head as it came, its empty line included, and the body without its framing."""

    status: int
    head: bytes
    body: bytes
    raw: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of all header lines of that name."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [value.strip() for found, _, value in lines if found.lower() == name.lower()]


def get(path: bytes = b"/", *lines: bytes, host: bytes = b"a.test", method: bytes = b"GET") -> bytes:
    """A whole request without a body; `lines` come after Host."""
    return b"".join((method, b" ", path, b" HTTP/1.1\r\nHost: ", host, *(b"\r\n" + one for one in lines), b"\r\n\r\n"))


class Client(Wire):
    """One connection. `address` is a host and a port, or the path of a Unix socket."""

    def __init__(
        self, address: tuple[str, int] | str, patience: float = PATIENCE_S, receive_buffer: int | None = None
    ) -> None:
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                # Before connecting, so that no larger window is ever offered.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(patience)
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        super().__init__(sock, patience)

    def ask(self, request: bytes) -> Received:
        """Sends a request, and reads its answer."""
        self.send(request)
        return self.read_answer(to_head=request.startswith(b"HEAD "))

    def read_answer(self, to_head: bool = False) -> Received:
        """The next answer, 1xx ones included. Raises ConnectionEndedError."""
        head = self.read_until(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        raw = body = b""
        if to_head or status < 200 or status in (204, 304):
            pass
        elif b"\r\ntransfer-encoding: chunked\r\n" in lower:
            while True:
                line = self.read_until(b"\r\n")
                size = int(line, 16)
                raw += line
                if size == 0:
                    break
                data = self.read_exactly(size + 2)
                raw += data
                body += data[:-2]
            end = self.read_until(b"\r\n")
            raw += end
            while end != b"\r\n":
                end = self.read_until(b"\r\n")
                raw += end
        elif b"\r\ncontent-length: " in lower:
            at = lower.index(b"\r\ncontent-length: ") + 18
            raw = body = self.read_exactly(int(lower[at : lower.index(b"\r\n", at)]))
        else:
            raw = body = self.read_to_end()
        return Received(status, head, body, head + raw)
