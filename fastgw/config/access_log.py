"""The access log: its tables, and how their values are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from fastgw.config import resilience_values as r
from fastgw.config import values as v
from fastgw.config.addresses import HostPort, endpoint_address
from fastgw.config.patterns import one_of, parameter_name, token
from fastgw.config.problems import Wrong, did_you_mean, kind
from fastgw.config.table import Table, section, setting

FIELDS = (
    "time", "client", "method", "host", "path", "status", "bytes", "duration_us", "upstream_us", "route", "endpoint",
    "consumer", "cache", "reason", "request_id", "listener", "bytes_in", "upstream", "protocol",
    "user_agent", "referer", "attempts", "sampled", "answered_by", "queue_us", "connect_us", "body_us", "earlier_us",
    "gateway_us", "trace_id",
)  # fmt: skip
DEFAULT_FIELDS = list(FIELDS[:15])
# What a field may name: a request's header or query parameter, or an answer's header.
KINDS = ("header", "response", "query")
FORMATS = ("json", "combined")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)

PATH_HINT = 'write "stdout", "off", a file, or "syslog:udp://127.0.0.1:514"'
SYSLOG_HINT = 'write it like "syslog:udp://127.0.0.1:514", "syslog:tcp://logs.internal:601" or "syslog:unix:/dev/log"'
NAMED_HINT = 'write it like "header:User-Agent", "response:Content-Type" or "query:page"'
CLEAR_HINT = 'write it like "header:Cookie" or "query:token"'
TAG_HINT = "use at most 48 letters, digits and any of -_./"

_SYSLOG = re.compile(r"syslog:(?:(udp|tcp)://(.*)|(unix:.*))", re.DOTALL)
# RFC 5424 §6: APP-NAME.
_TAG = re.compile(r"[A-Za-z0-9_./-]{1,48}")


@dataclass(frozen=True, slots=True)
class LogPath:
    """Where lines go: `text` is what was written; with `transport` it is the syslog at `address`."""

    text: str
    transport: str = ""
    address: HostPort | None = None


def log_path(value: object) -> LogPath:
    text = v.text(value)
    if not text or "\0" in text:
        raise Wrong("{value} names no file", PATH_HINT, PATH_HINT)
    if not text.startswith("syslog:"):
        return LogPath(text)
    found = _SYSLOG.fullmatch(text)
    if found is None:
        raise Wrong("{value} is no syslog", SYSLOG_HINT, SYSLOG_HINT)
    try:
        address = endpoint_address(found[2] or found[3])
    except Wrong:
        raise Wrong("{value} names no address of a syslog", SYSLOG_HINT, SYSLOG_HINT) from None
    if address.unix_path and found[1]:
        raise Wrong("{value} names no address of a syslog", SYSLOG_HINT, SYSLOG_HINT)
    return LogPath(text, found[1] or "unix", address)


def field(value: object) -> str:
    """One of the fields, or one that names what is looked up."""
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", NAMED_HINT, NAMED_HINT)
    if ":" not in value:
        return one_of(FIELDS, value)
    return _named(value, KINDS, NAMED_HINT)


def clear_name(value: object) -> str:
    """A header or a query parameter."""
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", CLEAR_HINT, CLEAR_HINT)
    return _named(value, ("header", "query"), CLEAR_HINT)


def _named(value: str, kinds: tuple[str, ...], hint: str) -> str:
    what, colon, name = value.partition(":")
    if not colon or what not in kinds:
        raise Wrong("{value} is not known here", did_you_mean(what, kinds) or hint, hint)
    if what == "query":
        parameter_name(name)
    else:
        token(name)
    return value


def tag(value: object) -> str:
    if _TAG.fullmatch(v.text(value)) is None:
        raise Wrong("{value} is not a tag", TAG_HINT, TAG_HINT)
    return v.text(value)


_LogPath: TypeAlias = Annotated[
    LogPath,
    PlainValidator(log_path),
    WithJsonSchema(
        {"type": "string", "examples": ["stdout", "off", "/var/log/fastgw.log", "syslog:udp://127.0.0.1:514"]}
    ),
]
_Format: TypeAlias = Annotated[str, PlainValidator(partial(one_of, FORMATS)), WithJsonSchema({"enum": list(FORMATS)})]
_Field: TypeAlias = Annotated[
    str,
    PlainValidator(field),
    WithJsonSchema({"anyOf": [{"enum": list(FIELDS)}, {"type": "string", "pattern": "^(header|response|query):.+"}]}),
]
_ClearName: TypeAlias = Annotated[
    str,
    PlainValidator(clear_name),
    WithJsonSchema({"type": "string", "pattern": "^(header|query):.+", "examples": ["query:token"]}),
]
_Facility: TypeAlias = Annotated[
    str, PlainValidator(partial(one_of, FACILITIES)), WithJsonSchema({"enum": list(FACILITIES)})
]
_Tag: TypeAlias = Annotated[
    str, PlainValidator(tag), WithJsonSchema({"type": "string", "pattern": rf"^{_TAG.pattern}$|\$\{{"})
]


class Redact(Table):
    """What stands in no line in clear, beside what is a credential by its name."""

    query: list[v.QueryName] = setting([], "More query parameters whose values are hidden, wherever URLs are logged.")
    headers: list[v.TokenName] = setting([], "More headers whose values are hidden, of requests and answers.")
    clear: list[_ClearName] = setting([], 'What is shown all the same: "query:NAME" or "header:NAME".')


class Syslog(Table):
    """How lines are marked that go to a syslog."""

    facility: _Facility = setting("local7", "Their facility.")
    tag: _Tag = setting("fastgw", "The name of the program, APP-NAME in RFC 5424.")


class AccessLog(Table):
    """One line per exchange."""

    path: _LogPath = setting("stdout", '"stdout", a file, a syslog, or "off".')
    format: _Format = setting("json", 'JSON lines, or the "combined" format of Apache and nginx.')
    fields: list[_Field] = setting(DEFAULT_FIELDS, "What a JSON line holds, in this order.")
    sample: r.Share = setting("100%", "The share of the exchanges without an error that get a line; errors always do.")
    slow: v.Duration | None = setting(
        None, "Exchanges that take as long always get a line, and it says where the time has gone."
    )
    redact: Redact = section(Redact, "What stands in no line in clear.")
    syslog: Syslog = section(Syslog, "How lines are marked that go to a syslog.")


class RouteLog(Table):
    """What differs for a route's exchanges from [access_log]."""

    sample: r.Share | None = setting(None, "As in [access_log].")
    slow: v.DurationOrOff | None = setting(None, "As in [access_log]; false: none is slow.")


RouteLogSetting: TypeAlias = Annotated[RouteLog | Literal[False], v.OnOrOff(RouteLog, (("sample", "100%"),))]
