"""A syslog for records of RFC 5424 over UDP, TCP (octet counting, RFC 6587) or a Unix socket, and checks them."""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.observe import eventually

_RECORD_MAX = 1 << 17
_JOIN_S = 10.0

# RFC 5424 §6, with the limits of its fields; no structured data, which a gateway has none of.
_RECORD = re.compile(
    rb"<(?P<priority>0|[1-9][0-9]{0,2})>1 "
    rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z) "
    rb"(?P<host>[!-~]{1,255}) (?P<program>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<message_id>[!-~]{1,32}) - "
    rb"(?P<message>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Record:
    facility: int
    severity: int
    time: str
    host: str
    program: str
    process: int
    message_id: str
    message: bytes


def parsed(data: bytes) -> Record:
    """A record; fails where it is none."""
    found = _RECORD.fullmatch(data)
    assert found is not None, data
    priority = int(found["priority"])
    assert priority <= 191, data
    stamp = found["time"].decode()
    time.strptime(stamp.partition(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S")
    texts = {name: found[name].decode() for name in ("host", "program", "message_id")}
    return Record(
        facility=priority // 8,
        severity=priority % 8,
        time=stamp,
        process=int(found["process"]),
        message=found["message"],
        **texts,
    )


class SyslogReceiver:
    """`transport` is "udp", "tcp" or "unix"; it listens from the start, and at the same address when it comes back."""

    def __init__(self, transport: str, directory: Path) -> None:
        self._transport = transport
        self._path = directory / "syslog"
        self._port = 0
        self._taken: list[bytes] = []
        self._listener = self._listen()
        self.setting = "syslog:unix:syslog"
        if transport != "unix":
            self._port = self._listener.getsockname()[1]
            self.setting = f"syslog:{transport}://127.0.0.1:{self._port}"
        self._begin()

    @property
    def count(self) -> int:
        """Of the records that came, since it was made."""
        return len(self._taken)

    @property
    def records(self) -> list[Record]:
        return [parsed(data) for data in self._taken[: self.count]]

    def wait_for(self, count: int, seconds: float = 10.0) -> bool:
        """Whether there are so many records in time."""
        return eventually(lambda: self.count >= count, seconds)

    def die(self) -> None:
        """As by a kill in the middle of its work: connections are reset, and nobody listens any more."""
        if self._thread.is_alive():
            self._waker.send(b"x")
            self._thread.join(_JOIN_S)
            assert not self._thread.is_alive()
            self._path.unlink(missing_ok=True)

    def come_back(self) -> None:
        self._listener = self._listen()
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    def _listen(self) -> socket.socket:
        if self._transport == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.bind(str(self._path))
            return sock
        if self._transport == "tcp":
            return socket.create_server(("127.0.0.1", self._port))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # All that a gateway sends in half a second may come at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", self._port))
        return sock

    def _begin(self) -> None:
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self._thread.start()

    # In the thread.

    def _run(self) -> None:
        # What of each connection is no whole record yet.
        rests: dict[socket.socket, bytes] = {}
        while True:
            ready, _, _ = select.select([self._woken, self._listener, *rests], [], [])
            if self._woken in ready:
                break
            for sock in ready:
                if sock is not self._listener:
                    self._read(sock, rests)
                elif self._transport == "tcp":
                    rests[sock.accept()[0]] = b""
                else:
                    self._taken.append(sock.recv(_RECORD_MAX))
        for sock in rests:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in (self._waker, self._woken, self._listener, *rests):
            sock.close()

    def _read(self, sock: socket.socket, rests: dict[socket.socket, bytes]) -> None:
        data = sock.recv(1 << 20)
        if not data:
            # Whoever ends a connection has sent whole records.
            self._taken += [b"torn: " + rests[sock]] if rests[sock] else []
            del rests[sock]
            sock.close()
            return
        data = rests[sock] + data
        while True:
            length, space, rest = data.partition(b" ")
            if not space or len(rest) < int(length):
                break
            self._taken.append(rest[: int(length)])
            data = rest[int(length) :]
        rests[sock] = data
