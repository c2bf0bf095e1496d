"""A syslog as a target of the access log: each line is the message of one RFC 5424 record.

Over UDP (RFC 5426) and a Unix socket each record is a datagram; over TCP its length stands before it (octet counting,
RFC 6587 §3.4.1). A line has no structured data of its own: in JSON it says all there is, and needs no other escaping.
What the other side was given and did not take in before it died, nobody can know, but for UDP where its machine says
that nobody listens.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from fastgw.net.log_writer import LinesLost
from fastgw.snapshot import SyslogTarget

# As much of the lines is made into records at once.
_PIECE_BYTES = 16 * 1024
_CONNECT_S = 2.0
# How long a full socket is waited for before somebody looks at what else there is to do.
_LOOK_S = 0.5
# What was sent is given up when the other side has not acknowledged it for so long.
_UNACKNOWLEDGED_MS = 10_000
# What the kernel holds of a stream is lost unseen when the other side dies, and what waits before it is not. It takes
# twice as much as this, and by itself would take megabytes.
_SEND_BUFFER_BYTES = 128 * 1024
# RFC 5424 §6.2.1: informational.
_SEVERITY = 6
# §6: HOSTNAME; and MSGID, which tells these from what else the program may say.
_HOSTNAME_MAX = 255
_MESSAGE_ID = b"access"
_NOTHING = b"-"

# A receiver says nothing, so whatever comes is its end.
_GONE = select.POLLIN | select.POLLRDHUP | select.POLLHUP | select.POLLERR


def header(facility: int, wall: float, host: bytes, tag: bytes, process: int) -> bytes:
    """All of a record that stands before its message (RFC 5424 §6)."""
    second = int(wall)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
    microseconds = int((wall - second) * 1e6)
    fields = (b"%b.%06dZ" % (stamp, microseconds), host, tag, b"%d" % process, _MESSAGE_ID, _NOTHING)
    return b"<%d>1 %b " % (facility * 8 + _SEVERITY, b" ".join(fields))


def printable(text: str, most: int) -> bytes:
    """A field of a header (PRINTUSASCII), or what says that there is none."""
    return "".join(letter for letter in text if "!" <= letter <= "~").encode()[:most] or _NOTHING


class Syslog:
    """`name` is how the configuration writes it; `wall` tells the time of day."""

    def __init__(self, settings: SyslogTarget, name: str, wall: Callable[[], float]) -> None:
        self.name = name
        self._settings = settings
        self._wall = wall
        self._host = printable(socket.gethostname(), _HOSTNAME_MAX)
        self._socket: socket.socket | None = None
        # Of a stream: what of the records made of `_piece` bytes of lines is not sent yet.
        self._unsent = memoryview(b"")
        self._piece = 0

    def write(self, lines: memoryview) -> int:
        """As Target.write."""
        try:
            sock = self._socket or self._connect()
            return self._write_stream(sock, lines) if self._settings.transport == "tcp" else self._send(sock, lines)
        except LinesLost:
            raise
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        # It is all sent again: the other side can't tell half a record.
        self._unsent = memoryview(b"")

    def _connect(self) -> socket.socket:
        address = self._settings.address
        if self._settings.transport == "tcp":
            sock = socket.create_connection((address.host, address.port), _CONNECT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            sock.setblocking(False)
        else:
            sock = _datagram_socket(address.host, address.port, address.path)
            sock.settimeout(_LOOK_S)
        self._socket = sock
        return sock

    def _header(self) -> bytes:
        settings = self._settings
        return header(settings.facility, self._wall(), self._host, settings.tag.encode(), os.getpid())

    def _send(self, sock: socket.socket, lines: memoryview) -> int:
        before, taken = self._header(), 0
        for line in _first_lines(lines):
            try:
                sock.send(before + line)
            except TimeoutError:
                break
            except OSError as error:
                if error.errno == errno.ECONNREFUSED and self._settings.transport == "udp":
                    # It was the datagram before that nobody has taken; this one is not sent yet.
                    raise LinesLost(os.strerror(errno.ECONNREFUSED), taken, 1) from None
                if error.errno == errno.EMSGSIZE:
                    raise LinesLost(os.strerror(errno.EMSGSIZE), taken + len(line) + 1, 1) from None
                if taken:
                    # What is wrong will be there the next time, too.
                    break
                raise
            taken += len(line) + 1
        return taken

    def _write_stream(self, sock: socket.socket, lines: memoryview) -> int:
        if not self._unsent:
            before, records = self._header(), []
            piece = _first_lines(lines)
            for line in piece:
                records.append(b"%d %b%b" % (len(before) + len(line), before, line))
            self._unsent = memoryview(b"".join(records))
            self._piece = sum(map(len, piece)) + len(piece)
        poller = select.poll()
        poller.register(sock, select.POLLOUT | select.POLLIN | select.POLLRDHUP)
        for _, events in poller.poll(_LOOK_S * 1000):
            if events & _GONE:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._unsent = self._unsent[sock.send(self._unsent) :]
        return 0 if self._unsent else self._piece


def _datagram_socket(host: str, port: int, path: str) -> socket.socket:
    family: int = socket.AF_UNIX
    where: Any = path
    if not path:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.connect(where)
    except OSError:
        sock.close()
        raise
    return sock


def _first_lines(lines: memoryview) -> list[bytes]:
    """The first lines, without their ends: as many as make a piece, or one that is longer."""
    piece = bytes(lines[:_PIECE_BYTES])
    if b"\n" not in piece:
        return [bytes(lines).partition(b"\n")[0]]
    return piece[: piece.rfind(b"\n")].split(b"\n")
