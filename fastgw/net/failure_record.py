"""What is noted of an exchange that has failed, for the supervisor: plain data, with what is secret hidden as in the
access log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastgw.errors import CLIENTS_REASONS

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.policy.redaction import Redaction

# A target may have 8 KiB and more, and some of it is enough to know it by.
_PATH_MAX = 2048
# Of what else a client or a proxy before the gateway may choose.
_TEXT_MAX = 256


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """`at` is when the exchange began, in seconds since 1970. `status` is 0 where none was sent, `reason` empty where
    the answer came from elsewhere; `endpoint`, `upstream` and `route` are empty where it did not get so far. It is a
    client's (`is_clients`) where that has brought it upon itself."""

    at: float
    listener: str
    client: str
    scheme: str
    method: str
    host: str
    path: str
    route: str
    upstream: str
    endpoint: str
    status: int
    reason: str
    is_clients: bool
    attempts: int
    duration_ms: float
    request_id: str
    trace_id: str


def record_of(exchange: Exchange, redaction: Redaction, wall: float) -> FailureRecord:
    """`wall`: what the wall clock shows when the exchange's shows 0."""
    request = exchange.request
    path = request.path
    if request.query:
        path += redaction.url(request.query)
    return FailureRecord(
        at=exchange.started + wall,
        listener=exchange.downstream.listener_name,
        client=_text(exchange.client),
        scheme=_text(exchange.downstream.scheme),
        method=_text(request.method),
        host=_text(request.host_name),
        path=_text(path, _PATH_MAX),
        route=exchange.route.name if exchange.route is not None else "",
        upstream=exchange.pool.name if exchange.pool is not None else "",
        endpoint=exchange.endpoint,
        status=exchange.status,
        reason=exchange.reason,
        is_clients=exchange.reason in CLIENTS_REASONS,
        attempts=exchange.tries,
        duration_ms=round((exchange.ended - exchange.started) * 1000, 3),
        request_id=_text(exchange.request_id),
        trace_id=_text(exchange.trace_id),
    )


def _text(value: bytes, most: int = _TEXT_MAX) -> str:
    text = value[:most].decode("latin-1")
    return text if len(value) <= most else text + "…"
