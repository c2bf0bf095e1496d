"""A connection before its first request, where something comes ahead of it: a PROXY header, a TLS handshake.

When both are over, the connection is another's: `DownstreamConnection` takes the transport, or that of TLS over it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from fastgw import errors
from fastgw.net.acme_challenge import CHALLENGE_PROTOCOL, challenge_context
from fastgw.net.client_hello import ClientHello, read_client_hello
from fastgw.net.clock import FOREVER
from fastgw.net.downstream import NEXT_REQUEST_S, DownstreamConnection
from fastgw.net.origin import Origin
from fastgw.net.proxy_header import Peer, read_header
from fastgw.net.tls import words
from fastgw.net.tls_transport import TlsTransport
from fastgw.policy.forwarded import is_trusted

if TYPE_CHECKING:
    from fastgw.net.listener import Server
    from fastgw.net.tls_listener import TlsListener
    from fastgw.snapshot import KeyPair, Listener

_WENT = "the client closed the connection"


class Arrival(asyncio.Protocol):
    """A client that has just connected."""

    __slots__ = (
        "_awaits_header",
        "_buffer",
        "_ends",
        "_server",
        "_tls",
        "_tls_listener",
        "_transport",
        "deadline",
        "write_deadline",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._awaits_header = server.listener.proxy_protocol
        self._ends: tuple[Peer, Peer] | None = None
        self._tls: TlsTransport | None = None
        # With which the handshake has begun, whatever the listener has adopted since; none where the handshake is all
        # that there is, as an ACME authority's.
        self._tls_listener: TlsListener | None = None
        self._buffer = b""
        # For all of it, from the accept on.
        self.deadline = FOREVER
        self.write_deadline = FOREVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        if not server.admit(self):
            # An answer would cost the handshake, of which there are too many already.
            self._refuse("the listener has as many connections as it may have")
        elif self._is_gone():
            self._transport.abort()
        elif self._awaits_header and not self._is_believed():
            self._refuse("it is none of server.trusted_proxies, and only from them a PROXY header is believed")
        else:
            self.deadline = server.gateway.now() + server.listener.limits.head_timeout

    def _is_gone(self) -> bool:
        """A health check may have reset its connection by now, and nobody can say any more whose it was."""
        return not self._server.listener.address.path and self._transport.get_extra_info("peername") is None

    def _is_believed(self) -> bool:
        snapshot = self._server.gateway.snapshot
        peername = self._transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            return is_trusted(peername[0].encode("ascii", "replace"), snapshot.trusted_proxies)
        return snapshot.trusts_unix

    def data_received(self, data: bytes) -> None:
        try:
            if self._tls is not None:
                self._shake_hands(self._tls, data)
                return
            if self._awaits_header:
                data = self._buffer + data
                header = read_header(data)
                if isinstance(header, str):
                    self._refuse(header)
                    return
                if header is None:
                    self._buffer = data
                    return
                self._awaits_header = False
                self._ends = header.ends
                self._buffer = b""
                data = data[header.size :]
            elif self._buffer:
                data, self._buffer = self._buffer + data, b""
            self._begin(data)
        except Exception:
            self._server.gateway.failed()
            self._transport.abort()

    def _begin(self, data: bytes) -> None:
        """What comes behind the PROXY header, or first where there is none."""
        tls = self._server.tls
        if tls is None:
            self._hand_over(None, data)
        elif data[:1].isalpha():
            # TLS begins with other bytes (RFC 8446 §5.1), and a request with its method.
            self._hand_over(None, b"").refuse_unread(errors.PLAIN_TEXT)
        elif data and self._server.gateway.snapshot.tls_challenges:
            self._begin_where_authorities_ask(tls, data)
        elif data:
            self._begin_handshake(tls, tls.context, data)

    def _begin_where_authorities_ask(self, tls: TlsListener, data: bytes) -> None:
        """An ACME authority may be among the clients: what OpenSSL would tell too late is read ahead of it."""
        hello = read_client_hello(data)
        if hello is None:
            self._buffer = data
            return
        pair = self._challenge(hello)
        if pair is None:
            self._begin_handshake(tls, tls.context, data)
        else:
            self._begin_handshake(None, challenge_context(pair), data)

    def _challenge(self, hello: ClientHello) -> KeyPair | None:
        if CHALLENGE_PROTOCOL not in hello.protocols:
            return None
        return self._server.gateway.snapshot.tls_challenges.get(hello.server_name.lower())

    def _begin_handshake(self, tls: TlsListener | None, context: ssl.SSLContext, data: bytes) -> None:
        self._tls_listener = tls
        self._tls = TlsTransport(self._transport, context)
        self._shake_hands(self._tls, data)

    def _hand_over(self, tls: TlsTransport | None, data: bytes) -> DownstreamConnection:
        server = self._server
        server.handed_over(self)
        session = None if tls is None or self._tls_listener is None else self._tls_listener.session(tls.side)
        connection = server.connection(Origin(self._ends, session))
        protocol = cast(asyncio.Protocol, connection)
        if tls is not None:
            tls.carry(protocol)
        else:
            self._transport.set_protocol(protocol)
            connection.connection_made(self._transport)
            if data and not self._transport.is_closing():
                connection.data_received(data)
        if server.draining:
            connection.drain()
        return connection

    def _shake_hands(self, tls: TlsTransport, data: bytes) -> None:
        try:
            is_complete = tls.handshake(data)
        except ssl.SSLError as error:
            self._fail_handshake(words(error))
            return
        if not is_complete:
            return
        self._server.handshake_ended()
        if self._tls_listener is not None:
            self._hand_over(tls, b"")
        else:
            # RFC 8737 §3: nothing is said over it.
            self.deadline = FOREVER
            tls.close()

    def _fail_handshake(self, why: str) -> None:
        self._server.handshake_failed()
        self._refuse(f"the TLS handshake failed: {why}")

    def _refuse(self, why: str) -> None:
        if self.deadline != FOREVER or not self._transport.is_closing():
            self.deadline = FOREVER
            server = self._server
            server.refusals.tell(server.listener.name, f"connection from {self._who()} refused: {why}")
        # What TLS still has to tell is written.
        self._transport.close()

    def _who(self) -> str:
        peername = self._transport.get_extra_info("peername")
        peer = str(peername[0]) if isinstance(peername, tuple) else "a Unix socket"
        return peer if self._ends is None else f"{self._ends[0][0]} (by {peer})"

    def eof_received(self) -> bool:
        self._ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        self._server.closed(self)

    def _ended(self) -> None:
        # Who has said nothing, as a health check does, has failed in nothing.
        if self.deadline == FOREVER:
            return
        if self._tls is not None:
            self._fail_handshake(_WENT)
        elif self._buffer:
            self._refuse(f"{_WENT} inside the {'PROXY header' if self._awaits_header else 'TLS handshake'}")
        self.deadline = FOREVER

    def overdue(self, now: float) -> None:
        if self._tls is not None:
            self._fail_handshake("it took longer than head_timeout")
        elif self._awaits_header:
            self._refuse("no PROXY header came within head_timeout")
        self.deadline = FOREVER
        self._transport.abort()

    def adopt(self, listener: Listener) -> None:
        """The configuration has changed; what has begun under the old one goes on so."""

    def end(self) -> None:
        """The time of a stop is over."""
        self.abort()

    def drain(self) -> None:
        """The gateway stops; who has just connected may still get an answer."""
        self.deadline = min(self.deadline, self._server.gateway.now() + NEXT_REQUEST_S)

    def abort(self) -> None:
        self.deadline = FOREVER
        self._transport.abort()
