"""The first step of the line, where there is more to know than an address and a Host: whose request it is, and whether
it has come to the right place.

A connection over TLS, a listener that sends its clients to https, a trusted proxy, or a target that names a scheme ask
for it; others never come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgw import errors
from fastgw.gateway import REQUEST_ID
from fastgw.http1 import encode
from fastgw.policy.forwarded import believe
from fastgw.policy.tls_session import CLIENT_CERTIFICATE_LINES

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.policy.tls_session import TlsSession
    from fastgw.ports import Downstream

# RFC 9110 §4.2.2: what a URL leaves out.
HTTPS_PORT = 443
# RFC 8555 §8.3
_ACME_CHALLENGES = b"/.well-known/acme-challenge/"


def identify(exchange: Exchange) -> bool:
    """Whether the exchange goes on; else it has been answered."""
    request, downstream = exchange.request, exchange.downstream
    if exchange.gateway.snapshot.has_client_cert_headers:
        request.fields = CLIENT_CERTIFICATE_LINES.sub(b"", request.fields)
    session, scheme = downstream.session, downstream.scheme
    if session is not None and session.misdirects(request.host_name):
        # RFC 9110 §15.5.20: else a client would get past what the other certificate's clients must show.
        exchange.fail(errors.MISDIRECTED_HOST)
        return False
    if downstream.trusted:
        scheme = _believe(exchange, downstream, session)
    elif request.scheme and request.scheme != scheme:
        # RFC 9110 §7.4: a request for https that came in plain text is for somebody else.
        exchange.fail(errors.MISDIRECTED)
        return False
    if downstream.redirect_to_https and scheme == b"http" and not _is_asked_by_authority(exchange):
        _redirect_to_https(exchange, downstream.redirect_to_https)
        return False
    return True


def _believe(exchange: Exchange, downstream: Downstream, session: TlsSession | None) -> bytes:
    """A trusted proxy says who its client is, what its id is, and by what scheme it came: gives that."""
    request = exchange.request
    if REQUEST_ID.fullmatch(request.request_id):
        exchange.request_id = request.request_id
    if request.forwarded is None:
        return downstream.scheme
    networks = exchange.gateway.snapshot.trusted_proxies
    forwarding = believe(request.forwarded, downstream.client, downstream.scheme, request.host, networks)
    exchange.client = forwarding.client
    exchange.fields = forwarding.lines if session is None else forwarding.lines + session.lines
    return forwarding.scheme


def _is_asked_by_authority(exchange: Exchange) -> bool:
    """Whether it is for the answer to an ACME authority, which need not follow a redirect (RFC 8555 §8.3)."""
    request = exchange.request
    if not request.path.startswith(_ACME_CHALLENGES):
        return False
    snapshot = exchange.gateway.snapshot
    index, _ = snapshot.router.match(request.host_name, request.path, request.method, request)
    return index >= 0 and snapshot.routes[index].answers_authority


def _redirect_to_https(exchange: Exchange, port: int) -> None:
    """The same URL by https. Without a Host (HTTP/1.0) there is none."""
    request = exchange.request
    if not request.host_name:
        exchange.fail(errors.BAD_HOST)
        return
    where = b"" if port == HTTPS_PORT else b":%d" % port
    path = b"/" if request.path == b"*" else request.path
    location = b"\r\nLocation: https://%b%b%b%b" % (request.host_name, where, path, request.query)
    exchange.reply(encode.status_line(308), 308, location, b"")
