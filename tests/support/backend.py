"""A backend that speaks TCP, not HTTP: it records the bytes it gets, and answers with the bytes it is told to.

One thread serves all connections, so what it records is in the order of arrival.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Answer:
    """`first` is sent at once, `later` when `proceed` is called; then the connection is closed, or reset, or kept."""

    first: bytes = OK
    later: bytes = b""
    close: bool = False
    reset: bool = False


class Recorded:
    """One connection, and what came on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.closed = False
        self.requests = 0
        # Bytes of a request that is not whole yet.
        self.partial = b""
        self.held: Answer | None = None


def end_of_request(data: bytes) -> int:
    """Where the request that `data` begins with ends, or -1; gateways send one form only, so this is simple."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return -1
    head = data[:end].lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        return _end_of_chunks(data, end)
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length: "):
            length = int(line[16:])
    return end + length if len(data) >= end + length else -1


def _end_of_chunks(data: bytes, at: int) -> int:
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -1
        size = int(data[at:line_end], 16)
        if size == 0:
            end = data.find(b"\r\n\r\n", line_end)
            return end + 4 if end >= 0 else -1
        at = line_end + 2 + size + 2


class RecordingBackend:
    """Listens on a free loopback port from the start; `close` ends it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._news = threading.Condition()
        self.connections: list[Recorded] = []
        self._received = b""
        self._answers: deque[Answer] = deque()
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._stopping = False
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake)
        self._thread = threading.Thread(target=self._run, name="backend", daemon=True)
        self._thread.start()

    # For tests.

    @property
    def received(self) -> bytes:
        """All bytes since `expect`, in the order of arrival."""
        with self._news:
            return self._received

    def expect(self, *answers: Answer) -> None:
        """Forgets what came, and answers the next requests with these; further ones with OK."""
        with self._news:
            self._received = b""
            self._answers = deque(answers)
            self.connections = [one for one in self.connections if not one.closed]

    def proceed(self) -> None:
        """Sends the later part of the answer that is held."""
        self._waker.send(b"p")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(condition, _PATIENCE_S), f"{what}; the backend got {self._received!r}"

    def wait_until_received(self, data: bytes) -> None:
        self.wait_for(lambda: data in self._received, f"{data!r} does not come")

    def close(self) -> None:
        self._stopping = True
        self._waker.send(b"x")
        self._thread.join(_PATIENCE_S)
        for one in self.connections:
            one.sock.close()
        for sock in (self._listener, self._waker, self._woken):
            sock.close()
        self._selector.close()

    # In the thread.

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                key.data()

    def _wake(self) -> None:
        if self._woken.recv(1) != b"p":
            return
        for one in self.connections:
            if one.held is not None:
                held, one.held = one.held, None
                self._send(one, held.later)
                self._end(one, held)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = Recorded(sock)
        with self._news:
            self.connections.append(one)
            self._news.notify_all()
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(one))

    def _read(self, one: Recorded) -> None:
        try:
            data = one.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self._hang_up(one)
            return
        with self._news:
            self._received += data
            one.received += data
            one.partial += data
            self._news.notify_all()
        while (end := end_of_request(one.partial)) >= 0 and not one.closed:
            one.partial = one.partial[end:]
            one.requests += 1
            with self._news:
                answer = self._answers.popleft() if self._answers else Answer()
            self._send(one, answer.first)
            if answer.later:
                one.held = answer
            else:
                self._end(one, answer)

    def _send(self, one: Recorded, data: bytes) -> None:
        with contextlib.suppress(OSError):
            one.sock.sendall(data)

    def _end(self, one: Recorded, answer: Answer) -> None:
        if answer.reset:
            one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.reset or answer.close:
            self._hang_up(one)

    def _hang_up(self, one: Recorded) -> None:
        self._selector.unregister(one.sock)
        one.sock.close()
        with self._news:
            one.closed = True
            self._news.notify_all()
