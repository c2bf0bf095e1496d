"""Records of exchanges made into OpenTelemetry's spans, as OTLP writes them.

The messages are those of opentelemetry-proto, filled in directly: the SDK's tracer wants to make ids and to decide on
sampling by itself, and says of its finished spans that nobody else is to make them. Names and meanings of attributes
are those of the semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/); the
gateway's own begin with `fastgw.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from fastgw import __version__
from fastgw.counters import METHODS
from fastgw.net.trace_record import AttemptRecord, TraceRecord

_SCOPE = "fastgw"
# The conventions' word for a method that is not among the known ones; a client must not make up names of spans.
_OTHER = "_OTHER"
_KNOWN_METHODS = frozenset((*METHODS, b"CONNECT", b"TRACE"))
# A query's values may be passwords and tokens; names alone say what was asked.
_QUERY_VALUE = re.compile(r"=[^&]*")
_REDACTED = "=REDACTED"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Flags of a span: whether its parent is known to be in another process.
_HAS_IS_REMOTE = 0x100
_IS_REMOTE = 0x200
_SAMPLED = 1

_Value = str | int | bool


def encode(records: Iterable[TraceRecord], resource: Mapping[str, str]) -> bytes:
    """One request to export them all. `resource` says whose they are."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    _add_attributes(spans.resource.attributes, resource)
    scoped = spans.scope_spans.add()
    scoped.scope.name, scoped.scope.version = _SCOPE, __version__
    for record in records:
        _fill_server(scoped.spans.add(), record)
        for number, attempt in enumerate(record.attempts):
            _fill_client(scoped.spans.add(), record, attempt, number)
    encoded: bytes = request.SerializeToString()
    return encoded


def _fill_server(span: Span, record: TraceRecord) -> None:
    method = _method(record.method)
    route = _text(record.route_path)
    span.name = f"{_name(method)} {route}" if route else _name(method)
    span.kind = Span.SPAN_KIND_SERVER
    _fill_place(span, record, record.span_id, record.parent_id)
    span.flags = _SAMPLED | _HAS_IS_REMOTE | (_IS_REMOTE if record.parent_id else 0)
    span.start_time_unix_nano, span.end_time_unix_nano = record.started, record.ended
    if record.link is not None:
        link = span.links.add()
        link.trace_id, link.span_id = bytes.fromhex(_text(record.link[0])), bytes.fromhex(_text(record.link[1]))
        link.flags = _HAS_IS_REMOTE | _IS_REMOTE
    scheme = _text(record.scheme)
    host, port = host_and_port(_text(record.host), scheme)
    # 500 and above is the server's fault, and what has no status was never answered.
    failed = record.status >= 500 or (not record.status and bool(record.reason))
    attributes: dict[str, _Value] = {
        "http.request.method": method,
        "url.scheme": scheme,
        "url.path": _text(record.path),
        "url.query": redacted(_text(record.query[1:])),
        "http.route": route,
        "http.response.status_code": record.status,
        "server.address": host,
        "server.port": port,
        "client.address": _text(record.client),
        "network.peer.address": _text(record.peer),
        "network.protocol.version": f"1.{record.minor}",
        "user_agent.original": _text(record.user_agent),
        "error.type": (record.reason or str(record.status)) if failed else "",
        "fastgw.route": record.route,
        "fastgw.upstream": record.upstream,
        "fastgw.reason": record.reason,
        "fastgw.listener": record.listener,
        "fastgw.request_id": _text(record.request_id),
        "fastgw.attempts": len(record.attempts),
    }
    if method == _OTHER:
        attributes["http.request.method_original"] = _text(record.method)
    _add_attributes(span.attributes, attributes)
    # What there is none of, and what there are none of, are two things.
    _add_attributes(span.attributes, {"http.request.body.size": record.bytes_in}, keeps_zero=True)
    _add_attributes(span.attributes, {"http.response.body.size": record.bytes_out}, keeps_zero=True)
    if failed:
        span.status.code = Status.STATUS_CODE_ERROR


def _fill_client(span: Span, record: TraceRecord, attempt: AttemptRecord, number: int) -> None:
    method = _method(record.method)
    span.name = _name(method)
    span.kind = Span.SPAN_KIND_CLIENT
    _fill_place(span, record, attempt.span_id, record.span_id)
    span.flags = _SAMPLED | _HAS_IS_REMOTE
    span.start_time_unix_nano, span.end_time_unix_nano = attempt.started, attempt.ended
    host, port = host_and_port(attempt.endpoint, record.upstream_scheme)
    path, mark, query = _text(record.target).partition("?")
    target = path + mark + redacted(query)
    error = attempt.error or (str(attempt.status) if attempt.status >= 400 else "")
    attributes: dict[str, _Value] = {
        "http.request.method": method,
        "url.full": f"{record.upstream_scheme}://{attempt.endpoint}{target}" if port else "",
        "http.response.status_code": attempt.status,
        "http.request.resend_count": number,
        "server.address": host,
        "server.port": port,
        "network.protocol.version": "1.1",
        "error.type": error,
        "fastgw.upstream": record.upstream,
        "fastgw.endpoint": attempt.endpoint,
        "fastgw.hedge": attempt.is_hedge,
    }
    _add_attributes(span.attributes, attributes)
    if error:
        span.status.code = Status.STATUS_CODE_ERROR


def _fill_place(span: Span, record: TraceRecord, span_id: bytes, parent_id: bytes) -> None:
    span.trace_id, span.span_id = bytes.fromhex(_text(record.trace_id)), bytes.fromhex(_text(span_id))
    span.parent_span_id = bytes.fromhex(_text(parent_id))
    span.trace_state = _text(record.state)


def _add_attributes(target: list[KeyValue], values: Mapping[str, _Value], keeps_zero: bool = False) -> None:
    """Those that say something: not "", 0 or false."""
    for key, value in values.items():
        if not value and not keeps_zero:
            continue
        attribute = KeyValue(key=key)
        if isinstance(value, bool):
            attribute.value.bool_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = value
        target.append(attribute)


def redacted(query: str) -> str:
    """A query without its values."""
    return _QUERY_VALUE.sub(_REDACTED, query)


def host_and_port(address: str, scheme: str) -> tuple[str, int]:
    """Of what an authority or an endpoint's name says; 0: it has none, as a Unix socket."""
    if not address or address.startswith("unix:"):
        return address.removeprefix("unix:"), 0
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]") or not port.isdecimal():
        host, port = address, ""
    return host.strip("[]"), int(port) if port else _DEFAULT_PORTS.get(scheme, 0)


def _method(method: bytes) -> str:
    return _text(method) if method in _KNOWN_METHODS else _OTHER


def _name(method: str) -> str:
    return "HTTP" if method == _OTHER else method


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def resource_of(service_name: str, attributes: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What all spans have in common; `attributes` are the configuration's own."""
    return {"service.name": service_name, "service.version": __version__, **dict(attributes)}
