"""The kinds of values in the TOML language: for each, who reads it and what its JSON Schema is.

The readers do all the checking, so that every message is in our words; pydantic only walks the structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from fastgw.config import acme_values, addresses, header_lines, patterns, units
from fastgw.config.addresses import HostPort
from fastgw.config.patterns import PathPattern, Template, ValueTest
from fastgw.config.problems import Wrong, kind
from fastgw.http1.target import parse_host, split_absolute

REDIRECT_STATUSES = (301, 302, 303, 307, 308)
BALANCES = ("round-robin", "least-requests", "power-of-two", "ewma", "random", "hash")
TLS_VERSIONS = ("1.2", "1.3")
PROXY_VERSIONS = ("v1", "v2")
CLIENT_AUTHS = ("required", "optional")
ACME_CHALLENGES = ("http-01", "tls-alpn-01")

# Names stand in logs, metrics and URLs of the admin interface, so they stay plain.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
# Beyond this, a bigger number says nothing that a ratio of smaller ones does not.
WEIGHT_MAX = 1000
REQUEST_HINT = 'write it like "GET http://shop.example.com/products/1"'
_NAME_HINT = "use at most 64 letters, digits and any of -_."


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", "put it into quotes", "put it into quotes")
    return value


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {kind(value)}", "write true or false", "write true or false")
    return value


def name(value: object) -> str:
    if re.fullmatch(NAME_PATTERN, text(value)) is None:
        raise Wrong("{value} is not a name", _NAME_HINT, _NAME_HINT)
    return text(value)


def whole(least: int, most: int | None, value: object) -> int:
    """A whole number between two bounds."""
    hint = (
        f"write a whole number from {least} to {most}" if most is not None else f"write a whole number, {least} or more"
    )
    if not isinstance(value, int) or isinstance(value, bool):
        meant = f"write {value}" if isinstance(value, str) and value.isdecimal() and value.isascii() else hint
        raise Wrong(f"must be a whole number, not {kind(value)}", meant, hint)
    if value < least or (most is not None and value > most):
        raise Wrong("{value} is out of range", hint, hint)
    return value


def workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    hint = 'write "auto" or a whole number, 1 or more'
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Wrong("{value} is not a number of processes", hint, hint)
    return value


def redirect_status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in REDIRECT_STATUSES:
        hint = f"write one of {', '.join(map(str, REDIRECT_STATUSES))}"
        raise Wrong("{value} is not the status of a redirect", hint, hint)
    return value


def https_port(value: object) -> int | Literal[False]:
    """The port of a redirect's goal; `true` is the one of https."""
    hint = "write true, or the port that clients find https on"
    if isinstance(value, bool):
        return 443 if value else False
    if not isinstance(value, int):
        raise Wrong(f"must be true, false or a port, not {kind(value)}", hint, hint)
    if not 1 <= value <= 65535:
        raise Wrong("{value} is no port", hint, hint)
    return value


def file_path(value: object) -> str:
    if not text(value) or "\0" in text(value):
        raise Wrong("{value} names no file", "name a file", "name a file")
    return text(value)


def off_or(read: Callable[[object], Any], value: object) -> Any:
    """`false`, which switches a default off, or what `read` makes of the value."""
    return False if value is False else read(value)


def one_as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def in_table(key: str, what: str, hint: str, value: object) -> object:
    """The short form of a table that needs no more than one key."""
    if isinstance(value, str):
        return {key: value}
    if not isinstance(value, dict):
        raise Wrong(f"must be {what} or a table, not {kind(value)}", hint, hint)
    return value


def split(value: object) -> object:
    """The name of one upstream, as the split that it stands for."""
    return [{"upstream": value}] if isinstance(value, str) else value


@dataclass(frozen=True)
class Short:
    """The short form of a list or table in the JSON Schema: a string, beside the long form."""

    description: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "description": self.description}, handler(schema)]}


@dataclass(frozen=True)
class OffOr:
    """A table, or `false` to switch a default off."""

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, inner: Callable[[Any], Any]) -> Any:
            return False if value is False else inner(value)

        return core_schema.no_info_wrap_validator_function(read, handler.generate_schema(self.model))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"const": False}]}


@dataclass(frozen=True)
class OnOrOff:
    """A table, or `true` for one with all its defaults or for the table `on`, or `false` for none."""

    model: type[BaseModel]
    on: tuple[tuple[str, str], ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, inner: Callable[[Any], Any]) -> Any:
            if value is not None and not isinstance(value, (bool, dict, self.model)):
                hint = "write true, false or { … }"
                raise Wrong(f"must be true, false or a table, not {kind(value)}", hint, hint)
            return False if value is False else inner(dict(self.on) if value is True else value)

        return core_schema.no_info_wrap_validator_function(read, handler.generate_schema(self.model))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, handler(schema)]}


def _or_reference(pattern: str) -> str:
    """A pattern that lets `${...}` pass: what that brings in, no editor can know."""
    return rf"{pattern}|\$\{{"


def _string(pattern: str = "", *examples: str) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string"}
    if pattern:
        schema["pattern"] = _or_reference(pattern)
    if examples:
        schema["examples"] = list(examples)
    return WithJsonSchema(schema)


def _integer(least: int, most: int | None = None) -> WithJsonSchema:
    bounds = {"minimum": least} | ({"maximum": most} if most is not None else {})
    return WithJsonSchema({"type": "integer", **bounds})


def _or_false(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"const": False}]})


_DURATION_EXAMPLES = ["250ms", "5s", "1m30s", "24h"]
_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": _or_reference(units.DURATION_PATTERN),
    "examples": _DURATION_EXAMPLES,
}

Text: TypeAlias = Annotated[str, PlainValidator(text), _string()]
Flag: TypeAlias = Annotated[bool, PlainValidator(flag), WithJsonSchema({"type": "boolean"})]
Name: TypeAlias = Annotated[str, PlainValidator(name), _string(NAME_PATTERN)]
Positive: TypeAlias = Annotated[int, PlainValidator(partial(whole, 1, None)), _integer(1)]
Natural: TypeAlias = Annotated[int, PlainValidator(partial(whole, 0, None)), _integer(0)]
EndpointWeight: TypeAlias = Annotated[int, PlainValidator(partial(whole, 1, WEIGHT_MAX)), _integer(1, WEIGHT_MAX)]
SplitWeight: TypeAlias = Annotated[int, PlainValidator(partial(whole, 0, WEIGHT_MAX)), _integer(0, WEIGHT_MAX)]
# 1xx are no final answers.
Status: TypeAlias = Annotated[int, PlainValidator(partial(whole, 200, 599)), _integer(200, 599)]
RedirectStatus: TypeAlias = Annotated[
    int, PlainValidator(redirect_status), WithJsonSchema({"enum": list(REDIRECT_STATUSES)})
]
Workers: TypeAlias = Annotated[
    int | Literal["auto"],
    PlainValidator(workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]

Duration: TypeAlias = Annotated[float, PlainValidator(units.duration), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrZero: TypeAlias = Annotated[float, PlainValidator(units.duration_or_zero), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrOff: TypeAlias = Annotated[
    float | Literal[False], PlainValidator(partial(off_or, units.duration)), _or_false(_DURATION_SCHEMA)
]
Size: TypeAlias = Annotated[int, PlainValidator(units.size), _string(units.SIZE_PATTERN, "512B", "64KiB", "10MB")]
SizeOrZero: TypeAlias = Annotated[
    int, PlainValidator(units.size_or_zero), _string(units.SIZE_PATTERN, "512B", "64KiB", "10MB")
]
ByteRate: TypeAlias = Annotated[
    int, PlainValidator(units.byte_rate), _string(units.BYTE_RATE_PATTERN, "240B/s", "64KiB/s")
]

ListenAddress: TypeAlias = Annotated[
    HostPort,
    PlainValidator(addresses.listen_address),
    _string("", "0.0.0.0:8080", "[::]:8080", "unix:/run/fastgw.sock"),
]
EndpointAddress: TypeAlias = Annotated[
    HostPort, PlainValidator(addresses.endpoint_address), _string("", "10.0.0.1:80", "[::1]:80", "unix:/run/app.sock")
]
NameAndPort: TypeAlias = Annotated[HostPort, PlainValidator(addresses.name_and_port), _string("", "app.internal:8080")]
ServiceName: TypeAlias = Annotated[str, PlainValidator(addresses.service_name), _string("", "_http._tcp.app.internal")]
DnsServer: TypeAlias = Annotated[HostPort, PlainValidator(addresses.dns_server), _string("", "127.0.0.1:53")]
# None is a client on a Unix socket.
Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network | None, PlainValidator(addresses.network), _string("", "10.0.0.0/8", "192.0.2.7", "unix:")
]

Balance: TypeAlias = Annotated[
    str, PlainValidator(partial(patterns.one_of, BALANCES)), WithJsonSchema({"enum": list(BALANCES)})
]
FilePath: TypeAlias = Annotated[str, PlainValidator(file_path), _string()]
ServerName: TypeAlias = Annotated[str, PlainValidator(addresses.server_name), _string("", "products.internal")]
TlsVersion: TypeAlias = Annotated[
    str, PlainValidator(partial(patterns.one_of, TLS_VERSIONS)), WithJsonSchema({"enum": list(TLS_VERSIONS)})
]
ClientAuth: TypeAlias = Annotated[
    str, PlainValidator(partial(patterns.one_of, CLIENT_AUTHS)), WithJsonSchema({"enum": list(CLIENT_AUTHS)})
]
AcmeNames: TypeAlias = Annotated[
    bool | list[str],
    PlainValidator(acme_values.acme_names),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]}),
]
AcmeChallenge: TypeAlias = Annotated[
    str, PlainValidator(partial(patterns.one_of, ACME_CHALLENGES)), WithJsonSchema({"enum": list(ACME_CHALLENGES)})
]
HttpsUrl: TypeAlias = Annotated[str, PlainValidator(acme_values.https_url), _string("^https://")]
Email: TypeAlias = Annotated[str, PlainValidator(acme_values.email), _string("@")]
HmacKey: TypeAlias = Annotated[str, PlainValidator(acme_values.hmac_key), _string()]
HttpsPort: TypeAlias = Annotated[
    int | Literal[False],
    PlainValidator(https_port),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]
ProxyVersion: TypeAlias = Annotated[
    str | Literal[False],
    PlainValidator(partial(off_or, partial(patterns.one_of, PROXY_VERSIONS))),
    _or_false({"enum": list(PROXY_VERSIONS)}),
]

Host: TypeAlias = Annotated[
    str, PlainValidator(patterns.host_pattern), _string("", "shop.example.com", "*.example.com")
]
Hosts: TypeAlias = Annotated[list[Host], BeforeValidator(one_as_list), Short("One host.")]
PathText: TypeAlias = Annotated[
    PathPattern, PlainValidator(patterns.path_pattern), _string("^/", "/products/{id}", "/static/*")
]
Method: TypeAlias = Annotated[str, PlainValidator(patterns.method), WithJsonSchema({"enum": list(patterns.METHODS)})]
Condition: TypeAlias = Annotated[
    ValueTest, PlainValidator(patterns.condition), _string("", "1", "~^v[0-9]+$", "present", "absent")
]
TokenName: TypeAlias = Annotated[str, PlainValidator(patterns.token), _string()]
QueryName: TypeAlias = Annotated[str, PlainValidator(patterns.parameter_name), _string()]
HeaderName: TypeAlias = Annotated[str, PlainValidator(header_lines.header_name), _string()]
HeaderValue: TypeAlias = Annotated[str, PlainValidator(header_lines.header_value), _string()]
PathTemplateText: TypeAlias = Annotated[
    Template, PlainValidator(patterns.path_template), _string("^/", "/v2/items/{id}")
]
PathPrefix: TypeAlias = Annotated[bytes, PlainValidator(patterns.path_prefix), _string("^/", "/api")]
RedirectTarget: TypeAlias = Annotated[
    Template, PlainValidator(patterns.redirect_target), _string("^(https?://|/)", "https://shop.example.com/items/{id}")
]
Authority: TypeAlias = Annotated[str, PlainValidator(patterns.authority), _string("", "products.internal")]
AuthorityOrOff: TypeAlias = Annotated[
    str | Literal[False], PlainValidator(partial(off_or, patterns.authority)), _or_false({"type": "string"})
]


def sample_url(value: object) -> str:
    """An absolute URL with a host."""
    hint = 'write it like "http://shop.example.com/products/1"'
    if not isinstance(value, str):
        raise Wrong(f"must be a URL, not {kind(value)}", hint, hint)
    parts = split_absolute(value.encode())
    if parts is None or parse_host(parts[0]) is None or re.search(r"\s", value):
        raise Wrong("{value} is not a URL with a host", hint, hint)
    return value


def sample_request(value: object) -> object:
    """ "METHOD URL" as the table that it stands for."""
    if not isinstance(value, str):
        return in_table("url", '"METHOD URL"', REQUEST_HINT, value)
    word, _, url = value.strip().partition(" ")
    if not url:
        raise Wrong("{value} is not a method and a URL", REQUEST_HINT, REQUEST_HINT)
    return {"method": word, "url": url.strip()}


SampleUrl: TypeAlias = Annotated[str, PlainValidator(sample_url), _string("^https?://")]
