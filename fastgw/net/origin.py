"""What came ahead of a connection's first request."""

from __future__ import annotations

from fastgw.net.proxy_header import Peer
from fastgw.policy.tls_session import TlsSession


class Origin:
    """`ends` are the client and what it has connected to, as a PROXY header told, or None when the connection's own
    addresses hold; `session` is what the TLS handshake settled, or None on plain text."""

    __slots__ = ("ends", "session")

    def __init__(self, ends: tuple[Peer, Peer] | None, session: TlsSession | None) -> None:
        self.ends = ends
        self.session = session
