"""What leaves a worker of an exchange that was recorded: plain values, from which spans are made elsewhere.

Times are whole nanoseconds since 1970; ids are hexadecimal digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.tracing import Attempt, Trace

# Longer texts of a client are cut.
_TEXT_MAX = 1024


class AttemptRecord(NamedTuple):
    span_id: bytes
    started: int
    ended: int
    endpoint: str
    status: int
    error: str
    is_hedge: bool


class TraceRecord(NamedTuple):
    """`link` is the ids of a trace that is not continued; `parent_id` is empty where this begins one."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    state: bytes
    link: tuple[bytes, bytes] | None
    started: int
    ended: int
    method: bytes
    scheme: bytes
    host: bytes
    path: bytes
    query: bytes
    target: bytes
    minor: int
    user_agent: bytes
    status: int
    reason: str
    route: str
    route_path: bytes
    upstream: str
    upstream_scheme: str
    listener: str
    client: bytes
    peer: bytes
    request_id: bytes
    bytes_in: int
    bytes_out: int
    attempts: tuple[AttemptRecord, ...]


def record_of(exchange: Exchange, trace: Trace, wall: float) -> TraceRecord:
    """`wall`: what the wall clock shows when the exchange's shows 0."""
    trace.close(exchange)
    request, downstream, pool = exchange.request, exchange.downstream, exchange.pool
    upstream = exchange.gateway.snapshot.upstreams.get(pool.name) if pool is not None else None
    parent, link = trace.parent, trace.link
    return TraceRecord(
        trace.context.trace_id,
        trace.span_id,
        parent.span_id if parent is not None else b"",
        trace.context.state,
        (link.trace_id, link.span_id) if link is not None else None,
        _nanoseconds(exchange.started, wall),
        _nanoseconds(exchange.ended, wall),
        request.method,
        downstream.scheme,
        request.host[:_TEXT_MAX],
        request.path[:_TEXT_MAX],
        request.query[:_TEXT_MAX],
        exchange.target[:_TEXT_MAX],
        request.minor,
        (request.header(b"user-agent") or b"")[:_TEXT_MAX],
        exchange.status,
        exchange.reason,
        exchange.route.name if exchange.route is not None else "",
        trace.route_path,
        pool.name if pool is not None else "",
        "" if upstream is None else "http" if upstream.tls is None else "https",
        downstream.listener_name,
        exchange.client,
        downstream.client,
        exchange.request_id,
        exchange.bytes_in,
        exchange.bytes_out,
        tuple([_attempt_record(attempt, wall) for attempt in trace.attempts]),
    )


def _attempt_record(attempt: Attempt, wall: float) -> AttemptRecord:
    started, ended = _nanoseconds(attempt.started, wall), _nanoseconds(attempt.ended, wall)
    return AttemptRecord(
        attempt.span_id, started, ended, attempt.endpoint, attempt.status, attempt.error, attempt.is_hedge
    )


def _nanoseconds(at: float, wall: float) -> int:
    return int((at + wall) * 1e9)
