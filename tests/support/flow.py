"""Large bodies that nobody stores: a sender in a thread that says when the way is blocked, and a receiver in bursts."""

from __future__ import annotations

import select
import socket
import threading
import zlib

from tests.support.wire import PATIENCE_S

_PIECE = 1 << 20
# The way is blocked when nothing could be sent for so long.
_BLOCKED_S = 0.03


class ZeroSender:
    """Sends `head` and then `size` zero bytes on a socket, from a thread, as fast as they are taken."""

    def __init__(self, sock: socket.socket, head: bytes, size: int) -> None:
        self.sent = 0
        self.error: OSError | None = None
        # Of its own, so that the test may wait on the other in its own way.
        self._sock = sock.dup()
        self._head = head
        self._size = size
        self._news = threading.Condition()
        self._blocked = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sock.setblocking(False)
        self._thread.start()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        zeros = memoryview(bytes(_PIECE))
        head = memoryview(self._head)
        try:
            while self.sent < self._size or head:
                try:
                    if head:
                        head = head[self._sock.send(head) :]
                    else:
                        self.sent += self._sock.send(zeros[: self._size - self.sent])
                except BlockingIOError:
                    while not poller.poll(_BLOCKED_S * 1000):
                        with self._news:
                            self._blocked = True
                            self._news.notify_all()
        except OSError as error:
            self.error = error
        self._sock.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_until_blocked(self) -> None:
        """Waits until nothing more is taken from now on, or all has been."""
        with self._news:
            self._blocked = False
            assert self._news.wait_for(lambda: self._blocked or self._ended, PATIENCE_S), (
                f"the sender is never blocked: {self.sent} of {self._size} are gone"
            )

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the sender hangs: {self.sent} of {self._size}"


class Receiver:
    """Reads a body of a known size in bursts, and keeps its checksum or nothing of it."""

    def __init__(self, sock: socket.socket, already: bytes, checked: bool) -> None:
        self.received = len(already)
        self.checksum = zlib.crc32(already) if checked else 0
        self._checked = checked
        self._sock = sock
        self._into = memoryview(bytearray(256 * 1024))

    def read_to(self, total: int) -> bool:
        """Reads until `total` bytes have come in all; False when the connection ends before."""
        while self.received < total:
            count = self._sock.recv_into(self._into, min(len(self._into), total - self.received))
            if not count:
                return False
            self.received += count
            if self._checked:
                self.checksum = zlib.crc32(self._into[:count], self.checksum)
        return True


def pattern(size: int) -> bytes:
    """`size` bytes of which no two blocks of 4 KiB are the same."""
    blocks = (number.to_bytes(8, "big") * 512 for number in range(-(-size // 4096)))
    return b"".join(blocks)[:size]
