"""The admin API: what the gateway is, and what may be changed about it, for programs and for the dashboard.

`/healthz` and `/readyz` are for orchestrators and tell nothing; all else takes the token, where there is one. Without
one only this machine's processes get here, and a page in somebody's browser does not: names that lead to the loopback
(DNS rebinding) and other pages' requests (CSRF) are refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastgw.config.values import WEIGHT_MAX
from fastgw.runtime.exposition import OPENMETRICS, PROMETHEUS
from fastgw.runtime.reloads import Over

if TYPE_CHECKING:
    from fastgw.config.admin import AdminSettings
    from fastgw.runtime.events import Event, Events

# What comes when nothing happens, so that a proxy between keeps the connection.
_HEARTBEAT_S = 15.0
# The dashboard: what it shows it asks for.
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
}
# Nothing from elsewhere, nothing that data could bring in, and in nobody's frame.
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# What tells nothing, and takes no token.
_OPEN = frozenset(("/healthz", "/readyz", *_PAGES))
# A number; more digits are none of ours.
_EVENT_ID = re.compile(r"[0-9]{1,18}")
# Of what is posted: a configuration with 100,000 routes has 15 MB.
_BODY_MAX = 64 * 1024 * 1024


class Gate(Protocol):
    """What the API does with the gateway."""

    def status(self) -> dict[str, Any]:
        """What `fastgw status` shows."""

    async def metrics(self, openmetrics: bool) -> bytes:
        """The metrics as they are now, in one format or the other."""

    async def routes(self) -> list[dict[str, Any]]:
        """The routing table, in the order of matching."""

    def upstreams(self) -> list[dict[str, Any]]:
        """The upstreams and their endpoints, as they are now."""

    def summary(self) -> dict[str, Any]:
        """What has been counted, for whoever draws it."""

    def config(self) -> dict[str, Any]:
        """The configuration in force, its secrets hidden."""

    def events(self) -> Events:
        """What happens."""

    async def check(self, text: str) -> list[dict[str, Any]]:
        """What is wrong with a configuration."""

    async def override(self, upstream: str, endpoint: str, draining: bool | None, weight: int | None) -> Event:
        """Lets an endpoint drain or not, or gives it a weight; None leaves that as it is."""

    async def reload(self) -> Event:
        """Reads the configuration's file again."""

    def explain(self, method: str, url: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
        """What would happen to a request. Raises ValueError for what is none."""


def make_app(gate: Gate, settings: AdminSettings) -> Starlette:
    """The application for uvicorn."""
    api = _Api(gate)
    routes = [
        *(Route(path, _page(name, kind)) for path, (name, kind) in _PAGES.items()),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
        Route("/metrics", api.metrics),
        Route("/api/status", api.status),
        Route("/api/routes", api.routes),
        Route("/api/upstreams", api.upstreams),
        Route("/api/summary", api.summary),
        Route("/api/endpoints", api.override, methods=["POST"]),
        Route("/api/events", api.events),
        Route("/api/config", api.config),
        Route("/api/config/check", api.check, methods=["POST"]),
        Route("/api/reload", api.reload, methods=["POST"]),
        Route("/api/explain", api.explain, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=settings.token)],
        exception_handlers={404: _not_found, 405: _not_allowed, 500: _failed, Over: _over},
    )


def _page(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    body = (files("fastgw") / "dashboard" / name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(body, headers={**_PAGE_HEADERS, "Content-Type": kind})

    return send


def answer(value: Any, status: int = 200) -> Response:
    """JSON that no cache keeps."""
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def problem(status: int, title: str, detail: str) -> Response:
    """RFC 9457."""
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Response(body, status, {"Cache-Control": "no-store"}, "application/problem+json")


async def _not_found(request: Request, _error: Exception) -> Response:
    return problem(404, "Not Found", f"There is no {request.url.path}.")


async def _not_allowed(request: Request, _error: Exception) -> Response:
    return problem(405, "Method Not Allowed", f"{request.url.path} takes no {request.method}.")


async def _over(_request: Request, _error: Exception) -> Response:
    return problem(503, "Service Unavailable", "The gateway stops, or another has taken its place: ask again.")


async def _failed(_request: Request, _error: Exception) -> Response:
    return problem(500, "Internal Server Error", "A bug in fastgw; standard error says more.")


class Guard:
    """Lets in who knows the token; without a token, who is no browser on somebody else's behalf."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["path"] in _OPEN:
            return None
        headers = dict(scope["headers"])
        if self._token:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            if hmac.compare_digest(token.lstrip(b" "), self._token) and scheme.lower() == b"bearer":
                return None
            refused = problem(401, "Unauthorized", "The token of [admin] is missing: Authorization: Bearer TOKEN.")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")
        if not _names_this_machine(host):
            return problem(403, "Forbidden", "Without a token, ask by an IP address or as localhost.")
        # A page's picture or script has no Origin, but browsers say where it comes from (Fetch Metadata).
        is_foreign = headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        if is_foreign or (origin and origin != f"http://{host}"):
            return problem(403, "Forbidden", "Another site's page asks.")
        return None


def _names_this_machine(host: str) -> bool:
    """Whether a Host header can't be a name that somebody's DNS server leads here."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name in ("", "localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class _Api:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def healthz(self, _request: Request) -> Response:
        return answer({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        is_ready = self._gate.status()["is_serving"]
        return answer({"status": "ok" if is_ready else "not ready"}, 200 if is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        body = await self._gate.metrics(openmetrics)
        return Response(body, headers={"Content-Type": OPENMETRICS if openmetrics else PROMETHEUS})

    async def status(self, _request: Request) -> Response:
        return answer(self._gate.status())

    async def routes(self, _request: Request) -> Response:
        return answer(await self._gate.routes())

    async def upstreams(self, _request: Request) -> Response:
        return answer(self._gate.upstreams())

    async def override(self, request: Request) -> Response:
        return await _with_body(request, self._override)

    async def _override(self, body: bytes) -> Response:
        shape = '{"upstream": "a", "endpoint": "10.0.0.1:80", "draining": true, "weight": 2}'
        try:
            asked = orjson.loads(body)
            draining, weight = asked.get("draining"), asked.get("weight")
            upstream, endpoint = asked.get("upstream", ""), asked["endpoint"]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            return problem(400, "Bad Request", f"{error}; write {shape}, with one of the last two or both.")
        is_right = isinstance(upstream, str) and isinstance(endpoint, str) and isinstance(draining, bool | None)
        is_weight = weight is None or (type(weight) is int and 0 <= weight <= WEIGHT_MAX)
        if not is_right or not is_weight or (draining is None and weight is None):
            return problem(422, "Unprocessable Content", f"Write {shape}, with one of the last two or both.")
        event = await self._gate.override(upstream, endpoint, draining, weight)
        return answer(dataclasses.asdict(event), 200 if event.outcome == "done" else 404)

    async def summary(self, _request: Request) -> Response:
        return answer(self._gate.summary())

    async def events(self, request: Request) -> Response:
        events, last = self._gate.events(), request.headers.get("last-event-id", "")
        stream = _told(events, int(last) if _EVENT_ID.fullmatch(last) else 0)
        return StreamingResponse(stream, headers={"Cache-Control": "no-store"}, media_type="text/event-stream")

    async def config(self, _request: Request) -> Response:
        return answer(self._gate.config())

    async def check(self, request: Request) -> Response:
        """Takes the text of a configuration, not JSON: what would be in the file."""
        return await _with_body(request, self._check)

    async def _check(self, body: bytes) -> Response:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return problem(400, "Bad Request", "The configuration is not UTF-8.")
        problems = await self._gate.check(text)
        return answer({"problems": problems}, 422 if problems else 200)

    async def reload(self, _request: Request) -> Response:
        event = await self._gate.reload()
        return answer(dataclasses.asdict(event), 200 if event.outcome == "done" else 409)

    async def explain(self, request: Request) -> Response:
        return await _with_body(request, self._explain)

    async def _explain(self, body: bytes) -> Response:
        try:
            asked = orjson.loads(body)
            method, url = str(asked["method"]), str(asked["url"])
            headers = [(str(name), str(value)) for name, value in asked.get("headers", [])]
            return answer(self._gate.explain(method, url, headers))
        except orjson.JSONDecodeError as error:
            return problem(400, "Bad Request", f"Not valid JSON: {error}.")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            shape = '{"method": "GET", "url": "http://localhost/", "headers": [["Name", "value"]]}'
            return problem(422, "Unprocessable Content", f"{error}; write {shape}")


async def _told(events: Events, last: int) -> AsyncIterator[bytes]:
    """Server-sent events (HTML, section 9.2): those that are remembered and came after `last`, and all that come."""
    with events.listening() as queue:
        if last > max((event.number for event in events.last), default=0):
            # That was of a gateway before this one.
            last = 0
        for event in tuple(events.last):
            if event.number > last:
                yield _message(event)
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    news = await queue.get()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if news is None:
                return
            yield _message(news)


def _message(event: Event) -> bytes:
    number = b"id: %d\n" % event.number if event.number else b""
    return b"%bevent: %b\ndata: %b\n\n" % (number, event.kind.encode(), orjson.dumps(dataclasses.asdict(event)))


async def _with_body(request: Request, use: Callable[[bytes], Awaitable[Response]]) -> Response:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _BODY_MAX:
            return problem(413, "Content Too Large", f"More than {_BODY_MAX >> 20} MiB.")
        parts.append(part)
    return await use(b"".join(parts))
