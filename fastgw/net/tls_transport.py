"""TLS over a transport: between the bytes of the network and the protocol that speaks HTTP.

To the network it is a protocol, to HTTP a transport. It does what uvloop's own does, and four things that that one
does not: the unsent bytes it tells of are those of the socket, a close waits for nobody, one half can be closed
(RFC 8446 §6.1), and no timer and no buffer of 256 KiB hang on each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, cast

# RFC 8446 §5.1: what one record may hold; a read gives one record at the most.
_RECORD_SIZE = 16 * 1024


class ServerSide(ssl.SSLObject):
    """`server_name` is what the client has asked for, lower-case, or empty; `group` is that of its certificates."""

    server_name: bytes = b""
    group: int = 0


# Before a connection is carried, and after its end.
_NOBODY = asyncio.Protocol()


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The server's side of one connection. `handshake` first; then `carry` says who speaks over it."""

    __slots__ = (
        "_context",
        "_encrypt",
        "_holds",
        "_incoming",
        "_outgoing",
        "_protocol",
        "_read",
        "_said_goodbye",
        "_send",
        "_take",
        "_tcp",
        "side",
    )

    def __init__(self, tcp: asyncio.Transport, context: ssl.SSLContext) -> None:
        self._tcp = tcp
        self._context = context
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.side = cast(ServerSide, context.wrap_bio(self._incoming, self._outgoing, server_side=True))
        # What these are made of, where it is there: a call less for each read and write.
        inner = getattr(self.side, "_sslobj", self.side)
        self._read: Callable[[int], bytes] = inner.read
        self._encrypt: Callable[[bytes | bytearray | memoryview], int] = inner.write
        self._take = self._outgoing.read
        self._send = tcp.write
        self._protocol: asyncio.Protocol = _NOBODY
        self._said_goodbye = False
        self._holds = False

    def handshake(self, data: bytes) -> bool:
        """More of the client's handshake; True when it is complete. Raises ssl.SSLError."""
        self._incoming.write(data)
        try:
            self.side.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            # An alert that says why it failed, too.
            self._flush()
        return True

    def carry(self, protocol: asyncio.Protocol) -> None:
        """The handshake is over: `protocol` speaks from here on."""
        self._protocol = protocol
        self._tcp.set_protocol(self)
        protocol.connection_made(self)
        if self._incoming.pending and not self._tcp.is_closing():
            self._deliver()

    # From the network.

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._deliver()

    def _deliver(self) -> None:
        incoming, read = self._incoming, self._read
        data = b""
        more: list[bytes] = []
        ended = False
        try:
            while incoming.pending:
                piece = read(_RECORD_SIZE)
                if not piece:
                    ended = True
                    break
                if data:
                    more.append(piece)
                else:
                    data = piece
        except ssl.SSLWantReadError:
            # The rest of a record is still to come.
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self.abort()
            return
        if data:
            self._protocol.data_received(data + b"".join(more) if more else data)
        if self._outgoing.pending:
            # The answer to a client that wants new keys.
            self._flush()
        if ended and not self._protocol.eof_received():
            self.close()

    def eof_received(self) -> bool:
        # Without its close_notify a client may have been cut off: no half of anything stays open for it.
        self._protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # Let go, or a circle would keep OpenSSL's memory until the garbage collector comes by.
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # From the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._said_goodbye:
            return
        count = self._encrypt(data)
        if count < len(data):
            # One record at a time.
            rest = memoryview(data)[count:]
            while rest:
                rest = rest[self._encrypt(rest) :]
        if not self._holds:
            self._send(self._take())

    def hold(self) -> None:
        """What is written next goes out with the close that follows at once: one packet, where there would be two."""
        self._holds = True

    def write_eof(self) -> None:
        self._say_goodbye()
        self._tcp.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._tcp.is_closing():
            self._say_goodbye()
            self._tcp.close()

    def abort(self) -> None:
        # OpenSSL takes nothing more after a fatal error.
        self._said_goodbye = True
        self._tcp.abort()

    def _say_goodbye(self) -> None:
        """close_notify (RFC 8446 §6.1); the client's own is not waited for."""
        if self._said_goodbye:
            return
        self._said_goodbye = True
        self._holds = False
        with contextlib.suppress(ssl.SSLError):
            self.side.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._tcp.is_closing():
            self._tcp.write(self._outgoing.read())

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def is_reading(self) -> bool:
        return self._tcp.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._context if name == "sslcontext" else self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
