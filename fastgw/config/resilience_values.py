"""The kinds of values in the tables of `resilience`: who reads each, and its JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from fastgw.config.header_lines import header_name
from fastgw.config.patterns import parameter_name
from fastgw.config.problems import Wrong, did_you_mean, kind

_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_RATE = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)/([smhd])")
_STATUS_RANGE = re.compile(r"(\d{3})(?:-(\d{3}))?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# 30 million a second: more is a slip of the pen.
_RATE_MAX = 3e7

SHARE_HINT = 'write it like "20%"'
RATE_HINT = 'write it like "100/s" or "5000/m"'
STATUS_HINT = 'write it like "200" or "200-399"'
CHECK_HINT = 'write it like "/healthz"'
KEY_HINT = 'write "client.ip", "path", "header:NAME", "cookie:NAME" or "query:NAME"'

RETRY_CONDITIONS = ("connect-failure", "reset", "empty-answer", "timeout")
KEY_KINDS = ("header", "cookie", "query")


def _string(value: object, what: str, hint: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be {what}, not {kind(value)}", hint, hint)
    return value


def share(value: object) -> float:
    """From 0 to 1."""
    found = _SHARE.fullmatch(_string(value, "a share", SHARE_HINT))
    if found is None or float(found[1]) > 100:
        raise Wrong("{value} is not a share", SHARE_HINT, SHARE_HINT)
    return float(found[1]) / 100


def rate(value: object) -> float:
    """Per second."""
    found = _RATE.fullmatch(_string(value, "a rate", RATE_HINT))
    if found is None or float(found[1]) / _SECONDS[found[2]] > _RATE_MAX:
        raise Wrong("{value} is not a rate", RATE_HINT, RATE_HINT)
    return float(found[1]) / _SECONDS[found[2]]


def status_range(value: object) -> tuple[int, int]:
    """The first and the last."""
    found = _STATUS_RANGE.fullmatch(_string(value, "a status or a range", STATUS_HINT))
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 200 <= first <= last <= 599:
        raise Wrong("{value} is no range of statuses", STATUS_HINT, STATUS_HINT)
    return first, last


def retry_condition(value: object) -> str:
    """One of the words, or a status."""
    hint = f'write one of {", ".join(RETRY_CONDITIONS)}, or a status such as "503"'
    text = _string(value, "a condition", hint)
    if text in RETRY_CONDITIONS or (text.isdecimal() and text.isascii() and 400 <= int(text) <= 599):
        return text
    raise Wrong("{value} is nothing to retry after", did_you_mean(text, RETRY_CONDITIONS) or hint, hint)


def check_path(value: object) -> str:
    """A path, with a query or without."""
    text = _string(value, "a path", CHECK_HINT)
    if re.fullmatch(r"/[!-~]*", text) is None or "#" in text:
        raise Wrong("{value} is not a path", CHECK_HINT, CHECK_HINT)
    return text


def hash_key(value: object) -> tuple[str, str]:
    """What is hashed: its kind and, for some, its name."""
    text = _string(value, "a key", KEY_HINT)
    if text in ("client.ip", "path"):
        return text, ""
    what, colon, name = text.partition(":")
    if not colon or what not in KEY_KINDS:
        raise Wrong("{value} is not known here", KEY_HINT, KEY_HINT)
    return what, parameter_name(name) if what == "query" else header_name(name).lower() if what == "header" else name


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": rf"{pattern}|\$\{{", "examples": list(examples)}
    return WithJsonSchema(schema)


Share: TypeAlias = Annotated[float, PlainValidator(share), _schema(rf"^{_SHARE.pattern}$", "20%")]
Rate: TypeAlias = Annotated[float, PlainValidator(rate), _schema(rf"^{_RATE.pattern}$", "10/s", "600/m")]
StatusRange: TypeAlias = Annotated[
    tuple[int, int], PlainValidator(status_range), _schema(rf"^{_STATUS_RANGE.pattern}$", "200", "200-399")
]
RetryCondition: TypeAlias = Annotated[
    str, PlainValidator(retry_condition), _schema(f"^({'|'.join(RETRY_CONDITIONS)}|[45][0-9][0-9])$", "reset", "503")
]
CheckPath: TypeAlias = Annotated[str, PlainValidator(check_path), _schema("^/", "/healthz")]
HashKey: TypeAlias = Annotated[
    tuple[str, str],
    PlainValidator(hash_key),
    _schema("^(client.ip|path|(header|cookie|query):.+)$", "client.ip", "header:X-User"),
]
