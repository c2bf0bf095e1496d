"""The table of tracing, what must agree in it, and what it is compiled to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, WithJsonSchema

from fastgw.config import resilience_values as r
from fastgw.config import values as v
from fastgw.config.document import Path, touches
from fastgw.config.problems import Report, Wrong, did_you_mean, kind
from fastgw.config.table import Table, setting
from fastgw.config.trace_settings import TraceExport
from fastgw.policy.trace_context import FORMATS, PARENTS, TracingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDPOINT_HINT = 'write it like "http://127.0.0.1:4318"'
_FORMATS_HINT = "write any of " + ", ".join(f'"{name}"' for name in FORMATS)
_PARENTS_HINT = "write one of " + ", ".join(f'"{name}"' for name in PARENTS)

_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


def endpoint(value: object) -> str:
    """The URL of an OTLP receiver."""
    if not isinstance(value, str):
        raise Wrong(f"must be a URL, not {kind(value)}", _ENDPOINT_HINT, _ENDPOINT_HINT)
    if _ENDPOINT.fullmatch(value) is None or not _has_host(value):
        raise Wrong("{value} is no URL of an OTLP receiver", _ENDPOINT_HINT, _ENDPOINT_HINT)
    return value


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def one_of(known: Sequence[str], hint: str, value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", hint, hint)
    if value not in known:
        raise Wrong("{value} is not known here", did_you_mean(value, known) or hint, hint)
    return value


_Endpoint: TypeAlias = Annotated[
    str, PlainValidator(endpoint), WithJsonSchema({"type": "string", "examples": ["http://127.0.0.1:4318"]})
]
_Format: TypeAlias = Annotated[
    str,
    PlainValidator(lambda value: one_of(FORMATS, _FORMATS_HINT, value)),
    WithJsonSchema({"enum": list(FORMATS)}),
]
_Parents: TypeAlias = Annotated[
    str,
    PlainValidator(lambda value: one_of(PARENTS, _PARENTS_HINT, value)),
    WithJsonSchema({"enum": list(PARENTS)}),
]


class Tracing(Table):
    """Traces of exchanges, for an OpenTelemetry collector."""

    endpoint: _Endpoint = setting("http://127.0.0.1:4318", "Where OTLP is taken by HTTP; /v1/traces is put behind it.")
    sample: r.Share = setting("1%", "The share of the requests without a parent that are recorded.")
    parents: _Parents = setting(
        "trusted", 'Whose traces are continued, recorded or not as they say: server.trusted_proxies\', "all" or "none".'
    )
    propagation: list[_Format] = setting(
        ["w3c"], 'How upstreams are told, and clients understood: "w3c", "b3" (one line) and "b3multi".'
    )
    service_name: v.Text = setting("fastgw", "What the gateway is called in its traces.")
    headers: dict[v.HeaderName, v.HeaderValue] = setting({}, "What the collector is sent beside them, such as a key.")
    attributes: dict[v.Text, v.Text] = setting({}, "More of the resource, such as deployment.environment.name.")


class RouteTracing(Table):
    """How a route's requests are traced."""

    sample: r.Share = Field(
        description="The share of the requests without a parent that are recorded.", examples=["10%"]
    )


def trace_export(tracing: Tracing | None) -> TraceExport | None:
    """What the process that exports gets."""
    if tracing is None:
        return None
    headers, attributes = tuple(tracing.headers.items()), tuple(tracing.attributes.items())
    return TraceExport(tracing.endpoint, tracing.service_name, headers, attributes)


def tracing_settings(tracing: Tracing | None) -> TracingSettings | None:
    """What the workers get."""
    if tracing is None:
        return None
    return TracingSettings(tracing.sample, tuple(tracing.propagation), tracing.parents)


def check_tracing(tracing: Tracing | None, report: Report) -> None:
    """Reports all contradictions in the table."""
    if tracing is None:
        return
    if not tracing.propagation:
        message = "then no upstream is told of any trace"
        report.at_value(("tracing", "propagation"), message, _FORMATS_HINT)
    for index, name in enumerate(tracing.propagation):
        if name in tracing.propagation[:index]:
            report.at_value(("tracing", "propagation", index), "it is there twice", "remove one")
    if not tracing.service_name:
        report.at_value(("tracing", "service_name"), "the name is empty", "remove it, or name the gateway")
    seen: set[str] = set()
    for name in tracing.headers:
        if name.lower() in seen:
            where: Path = ("tracing", "headers", name)
            report.at_key(where, "the header is there twice", "keep one: case makes no difference")
        seen.add(name.lower())


def check_route_tracing(
    path: Path, route: RouteTracing | bool | None, tracing: Tracing | None, report: Report, broken: frozenset[Path]
) -> None:
    """Reports what a route says in vain."""
    if isinstance(route, RouteTracing) and tracing is None and not touches(broken, ("tracing",)):
        report.at_key(path, "nothing is traced", 'write [tracing] with endpoint = "http://127.0.0.1:4318"')
