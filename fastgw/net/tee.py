"""The two ends of a mirrored request: a tee before the client, and nobody behind the copy.

A tee passes everything on to the client at once, and keeps what the copy will need: the request's body, and the answer
to compare with, each up to a limit. The copy's own answer ends in a shadow, which throws it away or keeps as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgw.policy.mirror import Answer

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.http1.message import Data
    from fastgw.net.mirror import RouteMirror
    from fastgw.policy.tls_session import TlsSession
    from fastgw.ports import Downstream

Addresses = tuple[tuple[str, int], tuple[str, int]]


class KeptAnswer:
    """An answer as far as it is kept: up to `size_max` bytes of its body."""

    __slots__ = ("body", "has_cookies", "is_complete", "is_whole", "lines", "size_max", "status")

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.status = 0
        self.lines = b""
        self.body = b""
        # All of it has come; and all of that has been kept.
        self.is_complete = False
        self.is_whole = True
        # Cookies of the gateway itself, maybe.
        self.has_cookies = False

    def head(self, line: bytes, lines: bytes, first: Data, complete: bool) -> None:
        self.status = int(line[9:12])
        self.lines = lines
        self.is_complete = complete
        self.more(first)

    def more(self, data: Data) -> None:
        if not self.is_whole:
            return
        if len(self.body) + len(data) > self.size_max:
            self.is_whole = False
            self.body = b""
        else:
            self.body += data

    def leaves(self) -> None:
        """The rest does not pass here."""
        self.is_whole = False
        self.body = b""

    def seen(self, with_body: bool) -> Answer:
        return Answer(self.status, self.lines, self.body if with_body else b"")


class Tee:
    """Stands between an exchange and its client. `kept` is None where the answer is not compared."""

    __slots__ = (
        "_body_max",
        "_client",
        "_exchange",
        "_mirror",
        "addresses_seen",
        "body",
        "client",
        "forwarded",
        "has_body",
        "kept",
        "listener_name",
        "needs_identifying",
        "redirect_to_https",
        "scheme",
        "session",
        "trailers",
        "trusted",
    )

    def __init__(self, mirror: RouteMirror, exchange: Exchange, body_max: int, kept: KeptAnswer | None) -> None:
        client = exchange.downstream
        self._mirror = mirror
        self._exchange = exchange
        self._client: Downstream = client
        self._body_max = body_max
        self.kept = kept
        self.body = exchange.pending
        # It was kept whole so far.
        self.has_body = len(self.body) <= body_max
        self.trailers = b""
        self.client = client.client
        self.scheme = client.scheme
        self.listener_name = client.listener_name
        self.trusted = client.trusted
        self.session = client.session
        self.redirect_to_https = client.redirect_to_https
        self.needs_identifying = client.needs_identifying
        self.forwarded = client.forwarded
        # The client may be gone when the copy is sent.
        self.addresses_seen: Addresses = client.addresses()

    # What of the request comes after its head.

    def request_body(self, data: bytes) -> None:
        if self.has_body and len(self.body) + len(data) <= self._body_max:
            self.body += data
        else:
            self.body_leaves()

    def body_leaves(self) -> None:
        """The rest of the body does not pass here, or is too much."""
        self.has_body = False
        self.body = b""

    # ports.Downstream.

    @property
    def congested(self) -> bool:
        return self._client.congested

    @congested.setter
    def congested(self, value: bool) -> None:
        self._client.congested = value

    def send_informational(self, line: bytes, fields: bytes) -> None:
        self._client.send_informational(line, fields)

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        if self.kept is not None:
            self.kept.has_cookies = self._exchange.sticks
            self.kept.head(line, fields, first, complete)
        self._client.send_head(line, fields, body, length, first, complete)

    def send_body(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.more(data)
        self._client.send_body(data)

    def end_body(self, trailers: bytes) -> None:
        if self.kept is not None:
            self.kept.is_complete = True
        self._client.end_body(trailers)

    def begin_tunnel(self, line: bytes, fields: bytes, peer: Any, protocol: bytes, first: bytes) -> None:
        self._client.begin_tunnel(line, fields, peer, protocol, first)

    def pause_reading(self) -> None:
        self._client.pause_reading()

    def resume_reading(self) -> None:
        self._client.resume_reading()

    def splice_end(self) -> tuple[int, float] | None:
        if self.kept is not None:
            self.kept.leaves()
        return self._client.splice_end()

    def addresses(self) -> Addresses:
        return self._client.addresses()

    def exchange_ended(self) -> None:
        """The client comes first; then the copy is sent."""
        exchange = self._exchange
        # So that both free themselves by reference count.
        exchange.downstream = self._client
        exchange.tee = None
        self._client.exchange_ended()
        self._mirror.primary_ended(self, exchange)

    def abort(self) -> None:
        self._client.abort()


class Shadow:
    """Nobody, who gets the answer to a copy. `primary` is what it is compared with, or None."""

    __slots__ = (
        "_addresses",
        "_mirror",
        "client",
        "congested",
        "exchange",
        "forwarded",
        "kept",
        "listener_name",
        "needs_identifying",
        "primary",
        "redirect_to_https",
        "scheme",
        "session",
        "trusted",
    )

    def __init__(self, mirror: RouteMirror, tee: Tee) -> None:
        self._mirror = mirror
        self._addresses = tee.addresses_seen
        self.primary = tee.kept if tee.kept is not None and tee.kept.is_complete else None
        self.kept = KeptAnswer(self.primary.size_max) if self.primary is not None else None
        # The copy; until it has ended.
        self.exchange: Exchange | None = None
        self.client = tee.client
        self.scheme = tee.scheme
        self.listener_name = tee.listener_name
        self.congested = False
        self.trusted = False
        self.session: TlsSession | None = None
        self.redirect_to_https = 0
        self.needs_identifying = False
        self.forwarded = b""

    def send_informational(self, line: bytes, fields: bytes) -> None: ...

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        if self.kept is not None:
            self.kept.head(line, fields, first, complete)

    def send_body(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.more(data)

    def end_body(self, trailers: bytes) -> None:
        if self.kept is not None:
            self.kept.is_complete = True

    def begin_tunnel(self, line: bytes, fields: bytes, peer: Any, protocol: bytes, first: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def splice_end(self) -> tuple[int, float] | None:
        return None

    def addresses(self) -> Addresses:
        return self._addresses

    def exchange_ended(self) -> None:
        copy, self.exchange = self.exchange, None
        if copy is not None:
            self._mirror.copy_ended(copy, self)

    def abort(self) -> None: ...
