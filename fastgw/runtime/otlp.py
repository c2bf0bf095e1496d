"""Records of exchanges made into OpenTelemetry's spans, as OTLP writes them in Protocol Buffers.

The fields' numbers are those of opentelemetry-proto 1.x
(https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto). Its messages are not used: to
fill them in takes four times as long. Nor is the SDK, whose tracer wants to make ids and to decide on sampling by
itself, and says of its finished spans that nobody else is to make them. Names and meanings of attributes are those of
the semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/); the gateway's own
begin with `fastgw.`.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from fastgw import __version__
from fastgw.counters import METHODS
from fastgw.net.trace_record import AttemptRecord, TraceRecord
from fastgw.runtime.protobuf import data, fixed_32, fixed_64, number, parse

# Fields of the messages, by their numbers.
_REQUEST_RESOURCE_SPANS = 1
_RESOURCE_SPANS_RESOURCE, _RESOURCE_SPANS_SCOPE_SPANS = 1, 2
_RESOURCE_ATTRIBUTES = 1
_SCOPE_SPANS_SCOPE, _SCOPE_SPANS_SPANS = 1, 2
_SCOPE_NAME, _SCOPE_VERSION = 1, 2
_SPAN_TRACE_ID, _SPAN_SPAN_ID, _SPAN_TRACE_STATE, _SPAN_PARENT_SPAN_ID, _SPAN_NAME, _SPAN_KIND = 1, 2, 3, 4, 5, 6
_SPAN_START, _SPAN_END, _SPAN_ATTRIBUTES, _SPAN_LINKS, _SPAN_STATUS, _SPAN_FLAGS = 7, 8, 9, 13, 15, 16
_LINK_TRACE_ID, _LINK_SPAN_ID, _LINK_FLAGS = 1, 2, 6
_STATUS_CODE = 3
_KEY_VALUE_KEY, _KEY_VALUE_VALUE = 1, 2
_ANY_STRING, _ANY_BOOL, _ANY_INT = 1, 2, 3
_RESPONSE_PARTIAL_SUCCESS, _PARTIAL_SUCCESS_REJECTED_SPANS = 1, 1

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
_KIND_SERVER, _KIND_CLIENT = 2, 3
_FAILED = data(_SPAN_STATUS, number(_STATUS_CODE, 2))

_Value = str | int | bool


def encode(records: Iterable[TraceRecord], resource: Mapping[str, str]) -> bytes:
    """One request to export them all. `resource` says whose they are."""
    scope = data(_SCOPE_NAME, _SCOPE.encode()) + data(_SCOPE_VERSION, __version__.encode())
    scope_spans = [data(_SCOPE_SPANS_SCOPE, scope)]
    for record in records:
        scope_spans.append(data(_SCOPE_SPANS_SPANS, _server_span(record)))
        for position, attempt in enumerate(record.attempts):
            scope_spans.append(data(_SCOPE_SPANS_SPANS, _client_span(record, attempt, position)))
    of = b"".join([data(_RESOURCE_ATTRIBUTES, _key_value(key, value)) for key, value in resource.items()])
    spans = data(_RESOURCE_SPANS_RESOURCE, of) + data(_RESOURCE_SPANS_SCOPE_SPANS, b"".join(scope_spans))
    return data(_REQUEST_RESOURCE_SPANS, spans)


def rejected_spans(response: bytes) -> int:
    """How many spans a collector that took a request did not take, by its answer."""
    try:
        partial_success = parse(response).get(_RESPONSE_PARTIAL_SUCCESS)
        found = parse(partial_success) if isinstance(partial_success, bytes) else {}
    except ValueError:
        # What no OTLP receiver answers; the status has said that all is well.
        return 0
    rejected = found.get(_PARTIAL_SUCCESS_REJECTED_SPANS)
    return rejected if isinstance(rejected, int) else 0


def _server_span(record: TraceRecord) -> bytes:
    method, route, scheme = _method(record.method), _text(record.route_path), _text(record.scheme)
    # 500 and above is the server's fault, and what has no status was never answered.
    failed = record.status >= 500 or (not record.status and bool(record.reason))
    host, port = host_and_port(_text(record.host), scheme)
    parts = [
        _begin(record, record.span_id, record.parent_id, f"{_name(method)} {route}" if route else _name(method)),
        number(_SPAN_KIND, _KIND_SERVER),
        fixed_64(_SPAN_START, record.started),
        fixed_64(_SPAN_END, record.ended),
        _known("http.request.method", method),
        _known("url.scheme", scheme),
        _attribute("url.path", _text(record.path)),
        _attribute("url.query", redacted(_text(record.query[1:]))),
        _known("http.route", route),
        _known("http.response.status_code", record.status),
        _known("server.address", host),
        _known("server.port", port),
        _known("client.address", _text(record.client)),
        _known("network.peer.address", _text(record.peer)),
        _known("network.protocol.version", f"1.{record.minor}"),
        _known("user_agent.original", _text(record.user_agent)),
        _known("error.type", (record.reason or str(record.status)) if failed else ""),
        _known("fastgw.route", record.route),
        _known("fastgw.upstream", record.upstream),
        _known("fastgw.reason", record.reason),
        _known("fastgw.listener", record.listener),
        _attribute("fastgw.request_id", _text(record.request_id)),
        _known("fastgw.attempts", len(record.attempts)),
        _known("http.request.method_original", _text(record.method) if method == _OTHER else ""),
        # What there is none of, and what there are none of, are two things.
        _known("http.request.body.size", record.bytes_in, True),
        _known("http.response.body.size", record.bytes_out, True),
        fixed_32(_SPAN_FLAGS, _SAMPLED | _HAS_IS_REMOTE | (_IS_REMOTE if record.parent_id else 0)),
    ]
    if record.link is not None:
        parts.append(data(_SPAN_LINKS, _link(*record.link)))
    if failed:
        parts.append(_FAILED)
    return b"".join(parts)


def _link(trace_id: bytes, span_id: bytes) -> bytes:
    ids = data(_LINK_TRACE_ID, unhexlify(trace_id)) + data(_LINK_SPAN_ID, unhexlify(span_id))
    return ids + fixed_32(_LINK_FLAGS, _HAS_IS_REMOTE | _IS_REMOTE)


def _client_span(record: TraceRecord, attempt: AttemptRecord, position: int) -> bytes:
    method = _method(record.method)
    host, port = host_and_port(attempt.endpoint, record.upstream_scheme)
    error = attempt.error or (str(attempt.status) if attempt.status >= 400 else "")
    path, mark, query = _text(record.target).partition("?")
    target = path + mark + redacted(query)
    parts = [
        _begin(record, attempt.span_id, record.span_id, _name(method)),
        number(_SPAN_KIND, _KIND_CLIENT),
        fixed_64(_SPAN_START, attempt.started),
        fixed_64(_SPAN_END, attempt.ended),
        _known("http.request.method", method),
        _attribute("url.full", f"{record.upstream_scheme}://{attempt.endpoint}{target}" if port else ""),
        _known("http.response.status_code", attempt.status),
        _known("http.request.resend_count", position),
        _known("server.address", host),
        _known("server.port", port),
        _known("network.protocol.version", "1.1"),
        _known("error.type", error),
        _known("fastgw.upstream", record.upstream),
        _known("fastgw.endpoint", attempt.endpoint),
        _known("fastgw.hedge", attempt.is_hedge),
        fixed_32(_SPAN_FLAGS, _SAMPLED | _HAS_IS_REMOTE),
    ]
    if error:
        parts.append(_FAILED)
    return b"".join(parts)


def _begin(record: TraceRecord, span_id: bytes, parent_id: bytes, name: str) -> bytes:
    """Where the span stands in its trace, and what it is called."""
    return b"".join(
        (
            data(_SPAN_TRACE_ID, unhexlify(record.trace_id)),
            data(_SPAN_SPAN_ID, unhexlify(span_id)),
            data(_SPAN_PARENT_SPAN_ID, unhexlify(parent_id)) if parent_id else b"",
            data(_SPAN_TRACE_STATE, _text(record.state).encode()) if record.state else b"",
            data(_SPAN_NAME, name.encode()),
        )
    )


def _attribute(key: str, value: _Value, keeps_zero: bool = False) -> bytes:
    """Nothing if it says nothing: "", 0 or false."""
    return data(_SPAN_ATTRIBUTES, _key_value(key, value)) if value or keeps_zero else b""


# For values that many spans have in common.
_known = lru_cache(4096, typed=True)(_attribute)


def _key_value(key: str, value: _Value) -> bytes:
    if isinstance(value, bool):
        encoded = number(_ANY_BOOL, value)
    elif isinstance(value, int):
        encoded = number(_ANY_INT, value)
    else:
        encoded = data(_ANY_STRING, value.encode())
    return data(_KEY_VALUE_KEY, key.encode()) + data(_KEY_VALUE_VALUE, encoded)


def redacted(query: str) -> str:
    """A query without its values."""
    return _QUERY_VALUE.sub(_REDACTED, query)


@lru_cache(4096)
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
