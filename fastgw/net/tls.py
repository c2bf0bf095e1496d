"""TLS towards upstreams: a context for each, a session kept for each endpoint, and what a failure is called."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Callable, Iterator

from fastgw import errors
from fastgw.errors import Failure
from fastgw.snapshot import UpstreamTls

# An endpoint whose certificate has expired fails for every request; one line in so many seconds is news enough.
_REPORT_EVERY_S = 10.0
# How long a peer may take to answer our close_notify; most close at once, and nobody waits for it.
SHUTDOWN_TIMEOUT_S = 2.0

MIN_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# What OpenSSL says of a certificate (x509_vfy.h); anything else is a matter of trust.
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
_FAILURES = {
    _NOT_YET_VALID: errors.UPSTREAM_TLS_EXPIRED,
    _EXPIRED: errors.UPSTREAM_TLS_EXPIRED,
    _HOST_MISMATCH: errors.UPSTREAM_TLS_NAME_MISMATCH,
    _ADDRESS_MISMATCH: errors.UPSTREAM_TLS_NAME_MISMATCH,
}
# Where in Python's source an error was raised.
_SOURCE_LINE = re.compile(r" \(_ssl\.c:\d+\)$")


def client_context(settings: UpstreamTls) -> ssl.SSLContext:
    """The context of an upstream; what it is made from was checked when the configuration was loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = MIN_VERSIONS[settings.min_version]
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca:
        with as_file(settings.ca) as path:
            context.load_verify_locations(path)
    else:
        context.set_default_verify_paths()
    if settings.cert:
        with as_file(settings.cert) as cert, as_file(settings.key) as key:
            context.load_cert_chain(cert, key)
    return context


@contextlib.contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """A path for what OpenSSL's Python interface takes from files only; it is in no file system, and goes away."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class TlsEndpoint:
    """One endpoint's share in the context of its upstream, and the session that its next connection may resume.

    It stands where the loop takes an SSLContext: the loop asks that for no more than `wrap_bio`, and has no parameter
    for a session.
    """

    __slots__ = ("_context", "_now", "_report", "_reported_at", "_session", "_unreported", "endpoint", "server_name")

    def __init__(
        self,
        context: ssl.SSLContext,
        server_name: str,
        endpoint: str,
        report: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._context = context
        # "": none is sent, and none is verified.
        self.server_name = server_name
        self.endpoint = endpoint
        self._session: ssl.SSLSession | None = None
        self._report = report
        self._now = now
        self._reported_at = -_REPORT_EVERY_S
        self._unreported = 0

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """What the loop calls at the begin of a handshake."""
        return self._context.wrap_bio(
            incoming, outgoing, server_hostname=self.server_name or None, session=self._session
        )

    def keep_session(self, transport: asyncio.Transport) -> None:
        """To be called when something has been read: TLS 1.3 sends what can be resumed after the handshake (RFC 8446
        §4.6.1). It costs about 0.2 ms, a fifth of the handshake that it saves."""
        ssl_object: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        session = None if ssl_object is None else ssl_object.session
        if session is not None:
            self._session = session

    def failed(self, error: Exception) -> Failure:
        """What to answer with; says why on standard error, now and then."""
        now = self._now()
        if now - self._reported_at < _REPORT_EVERY_S:
            self._unreported += 1
        else:
            more = f" ({self._unreported} more since the last report)" if self._unreported else ""
            self._report(f"TLS to {self.endpoint} fails: {words(error)}{more}")
            self._reported_at = now
            self._unreported = 0
        return _failure(error)


def _failure(error: Exception) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _FAILURES.get(error.verify_code, errors.UPSTREAM_TLS_UNTRUSTED)
    return errors.UPSTREAM_TLS_FAILED


def words(error: Exception) -> str:
    """OpenSSL's own, where there are any."""
    if isinstance(error, ssl.SSLError):
        return _SOURCE_LINE.sub("", str(error.strerror or error)).rstrip(".")
    return (error.strerror if isinstance(error, OSError) else None) or "the connection was closed in the handshake"


def end_writing(transport: asyncio.Transport, everything_is_read: bool) -> bool:
    """Tells the other side that this was all, and goes on reading; False when that can't be done.

    TLS says it by close_notify, after which a peer may go on writing (RFC 8446 §6.1), though many close. OpenSSL
    sends it only when nothing that came lies unread.
    """
    if transport.can_write_eof():
        transport.write_eof()
        return True
    ssl_object: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if ssl_object is None or not everything_is_read:
        return False
    try:
        ssl_object.unwrap()
    except ssl.SSLWantReadError:
        # It waits for the peer's close_notify, which comes in the ordinary way.
        pass
    except ssl.SSLError:
        return False
    # What OpenSSL has made of it is sent along with what is written; `write` leaves nothing away.
    transport.writelines(())
    return True
