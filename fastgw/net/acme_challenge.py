"""The TLS handshake in which an ACME authority sees that a host is ours (RFC 8737)."""

from __future__ import annotations

import ssl

from fastgw.net.tls import as_file
from fastgw.snapshot import KeyPair

# RFC 8737 §6.2: what the authority offers by ALPN, and nobody else.
CHALLENGE_PROTOCOL = b"acme-tls/1"


def challenge_context(pair: KeyPair) -> ssl.SSLContext:
    """Made for one handshake: there are a handful in the life of a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8737 §3 asks for 1.2 or later.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([CHALLENGE_PROTOCOL.decode()])
    with as_file(pair.cert) as cert, as_file(pair.key) as key:
        context.load_cert_chain(cert, key)
    return context
