"""Bodies of the admin API: what is asked in them, and how answers are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from fastgw.config.route_checks import json_text
from fastgw.config.values import WEIGHT_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

# A configuration with 100,000 routes has 15 MB.
TEXT_MAX = 64 * 1024 * 1024
# Of JSON: a request that is explained may have headers that no gateway would take.
JSON_MAX = 1024 * 1024
# Names of upstreams and endpoints are told on, on standard error and as events: they stay on their line. The longest is
# a host with its port.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,300}")
_OVERRIDE = (
    'write {"upstream": "a", "endpoint": "10.0.0.1:80", "draining": true, "weight": 2}, '
    "with one of the last two or both"
)
_REQUEST = 'write {"method": "GET", "url": "http://localhost/", "headers": [["Name", "value"]]}'


class Refused(Exception):
    """A request whose body is not what it should be; carries the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def json_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # A configuration may have whole numbers of more than 64 bits, and a path may be no UTF-8.
        return json_text(value).encode(errors="replace")


def answer(value: Any, status: int = 200) -> Response:
    """JSON that no cache keeps."""
    return Response(json_bytes(value) + b"\n", status, {"Cache-Control": "no-store"}, "application/json")


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """RFC 9457."""
    body = json_bytes({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/problem+json")


def wrong_shape(what: str) -> Refused:
    return Refused(problem(422, "Unprocessable Content", what))


async def body_of(request: Request, size_max: int) -> bytes:
    """Raises Refused when it is larger."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > size_max:
            raise Refused(problem(413, "Content Too Large", f"More than {size_max >> 20} MiB."))
        parts.append(part)
    return b"".join(parts)


def text_asked(body: bytes) -> str:
    """The text of a configuration, as it would be read from its file. Raises Refused."""
    try:
        return body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Refused(problem(400, "Bad Request", "The configuration is not UTF-8.")) from None


def override_asked(body: bytes) -> tuple[str, str, bool | None, int | None]:
    """Of an endpoint: its upstream, which may be empty, its name, whether it drains, its weight. Raises Refused."""
    asked = _members(body, ("endpoint",), ("upstream", "draining", "weight"), _OVERRIDE)
    upstream, endpoint = asked.get("upstream", ""), asked["endpoint"]
    draining, weight = asked.get("draining"), asked.get("weight")
    for key, name in (("upstream", upstream), ("endpoint", endpoint)):
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise wrong_shape(f'"{key}" is no name; {_OVERRIDE}')
    if not isinstance(draining, bool | None):
        raise wrong_shape(f'"draining" is true or false; {_OVERRIDE}')
    if isinstance(weight, float) and weight.is_integer():
        # JSON has one kind of number: 2.0 is 2.
        weight = int(weight)
    if weight is not None and (type(weight) is not int or not 0 <= weight <= WEIGHT_MAX):
        raise wrong_shape(f'"weight" is a whole number from 0 to {WEIGHT_MAX}; {_OVERRIDE}')
    if draining is None and weight is None:
        raise wrong_shape(f"nothing is to change; {_OVERRIDE}")
    return upstream, endpoint, draining, weight


def request_asked(body: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    """Of a made-up request: its method, its URL, its headers. Raises Refused."""
    asked = _members(body, ("method", "url"), ("headers",), _REQUEST)
    method, url, headers = asked["method"], asked["url"], asked.get("headers", [])
    if not isinstance(method, str) or not isinstance(url, str):
        raise wrong_shape(f'"method" and "url" are strings; {_REQUEST}')
    if not isinstance(headers, list) or not all(_is_header(header) for header in headers):
        raise wrong_shape(f'"headers" is a list of names with values; {_REQUEST}')
    return method, url, [(name, value) for name, value in headers]


def _is_header(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _members(body: bytes, required: tuple[str, ...], optional: tuple[str, ...], shape: str) -> dict[str, Any]:
    """A JSON object that has these members and no others; of one that is there twice, the last."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(problem(400, "Bad Request", f"Not valid JSON: {error}.")) from None
    if not isinstance(asked, dict):
        raise wrong_shape(f"not a JSON object; {shape}")
    if missing := [name for name in required if name not in asked]:
        raise wrong_shape(f'"{missing[0]}" is missing; {shape}')
    if unknown := sorted(asked.keys() - {*required, *optional}):
        raise wrong_shape(f'"{unknown[0]}" is unknown; {shape}')
    return asked
