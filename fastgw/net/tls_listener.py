"""TLS of a listener: a context for each group of its certificates, and what is known of a client after the handshake.

All workers derive the keys of session tickets from one secret, so a client resumes its session with any of them. The
keys are different for each listener and for each way to ask for client certificates: a session that began without one
must not be resumed where one is required (CVE-2025-23419).
"""

from __future__ import annotations

import hashlib
import ssl
import sys
from collections.abc import Callable

from fastgw.net.ticket_keys import TICKET_KEYS_SIZE, TicketKeysError, set_ticket_keys
from fastgw.net.tls import MIN_VERSIONS, as_file
from fastgw.net.tls_transport import ServerSide
from fastgw.policy.tls_session import (
    NO_CERTIFICATE_LINES,
    ClientCertificate,
    TlsSession,
    san_text,
    subject_text,
)
from fastgw.snapshot import Listener, ListenerTls

# Of TLS 1.2; those of TLS 1.3 are all right. Each has forward secrecy and authenticated encryption (RFC 9325 §4.2).
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsListener:
    """What a listener's handshakes need. `ticket_secret` is that of all workers; empty: tickets are this one's.

    `report` is told, once, if tickets can't be shared.
    """

    def __init__(
        self, listener: Listener, tls: ListenerTls, ticket_secret: bytes, report: Callable[[str], None]
    ) -> None:
        self._tls = tls
        self._name = listener.name
        self._report = report
        self._contexts = [_context(tls, group) for group in tls.groups]
        # The handshake begins with it; the client's hello may choose another.
        self.context = self._contexts[0]
        self.context.sni_callback = self._choose
        sys.unraisablehook = _without_server_names
        if ticket_secret:
            self.set_ticket_keys(ticket_secret)

    def set_ticket_keys(self, secret: bytes) -> None:
        """Makes the keys of tickets from a secret; what was issued before is not known any more."""
        keys = _ticket_keys(self._name, self._tls, secret)
        try:
            for context in self._contexts:
                set_ticket_keys(context, keys)
        except TicketKeysError as error:
            self._report(f"listener {self._name}: TLS sessions are resumed by the same worker only: {error}")

    def _choose(self, side: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None or not isinstance(side, ServerSide):
            return
        side.server_name = server_name = name.lower().encode("ascii", "replace")
        side.group = group = self._tls.names.group(server_name)
        if group:
            side.context = self._contexts[group]

    def session(self, side: ServerSide) -> TlsSession:
        """What a complete handshake has settled."""
        tls = self._tls
        certificate = _client_certificate(side) if tls.client_ca else None
        lines = b""
        if tls.client_cert_headers:
            lines = NO_CERTIFICATE_LINES if certificate is None else certificate.lines()
        return TlsSession(
            version=side.version() or "",
            server_name=side.server_name,
            group=side.group,
            names=tls.names if len(tls.groups) > 1 else None,
            certificate=certificate,
            lines=lines,
        )


def _context(tls: ListenerTls, group: tuple[int, ...]) -> ssl.SSLContext:
    """What it is made from was checked when the configuration was loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerSide
    context.minimum_version = MIN_VERSIONS[tls.min_version]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for number in group:
        pair = tls.pairs[number]
        with as_file(pair.cert) as cert, as_file(pair.key) as key:
            context.load_cert_chain(cert, key)
    if tls.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED if tls.requires_client_cert else ssl.CERT_OPTIONAL
        with as_file(tls.client_ca) as path:
            context.load_verify_locations(path)
    return context


def _without_server_names(unraisable: sys.UnraisableHookArgs) -> None:
    """Python writes a traceback for each server name that is not ASCII, and anyone can send them; the handshake fails
    all the same, and is told as others are."""
    if not isinstance(unraisable.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(unraisable)


def _ticket_keys(name: str, tls: ListenerTls, master: bytes) -> bytes:
    kdf = hashlib.shake_256()
    auth = b"required" if tls.requires_client_cert else b"optional"
    for part in (master, b"fastgw session tickets", name.encode(), auth, tls.client_ca):
        kdf.update(len(part).to_bytes(8, "big") + part)
    return kdf.digest(TICKET_KEYS_SIZE)


def _client_certificate(side: ServerSide) -> ClientCertificate | None:
    encoded = side.getpeercert(binary_form=True)
    decoded = side.getpeercert()
    if not encoded or not decoded:
        return None
    return ClientCertificate(
        subject=subject_text(decoded.get("subject", ())),  # type: ignore[arg-type]
        san=san_text(decoded.get("subjectAltName", ())),  # type: ignore[arg-type]
        fingerprint=hashlib.sha256(encoded).hexdigest(),
    )
