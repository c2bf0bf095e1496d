"""The admin API: what the gateway is, and what may be changed about it, for programs and for the dashboard.

`/healthz` and `/readyz` are for orchestrators and tell nothing; all else takes the token, where there is one. Without
one only this machine's processes get here, and a page in somebody's browser does not: names that lead to the loopback
(DNS rebinding) and other pages' requests (CSRF) are refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastgw.config.problems import did_you_mean, names_there_are, toml_text
from fastgw.policy.log_filter import LogFilter, log_filter
from fastgw.runtime.admin_bodies import (
    JSON_MAX,
    TEXT_MAX,
    Refused,
    answer,
    body_of,
    json_bytes,
    override_asked,
    problem,
    request_asked,
    text_asked,
    wrong_shape,
)
from fastgw.runtime.exposition import OPENMETRICS, PROMETHEUS
from fastgw.runtime.live_log import LiveLogs, TooMany
from fastgw.runtime.reloads import Over

if TYPE_CHECKING:
    from fastgw.config.admin import AdminSettings
    from fastgw.runtime.events import Event, Events
    from fastgw.runtime.failures import Failures

_STREAM, _STREAM_KIND = {"Cache-Control": "no-store"}, "text/event-stream"
# What comes when nothing happens, so that a proxy between keeps the connection.
_HEARTBEAT_S = 15.0
# More digits are no event's number.
_ID_DIGITS_MAX = 18
# The dashboard: what it shows it asks for.
_PAGES = {
    "/": ("dashboard/index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard/dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard/dashboard.js", "text/javascript; charset=utf-8"),
}
# What is here, for programs that make clients; a test holds it against the routes and their answers.
_DOCUMENT = "/api/openapi.json"
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
# What tells nothing, and takes no token. The document is the same for all gateways and says no more than the page does,
# which is open, too; who reads it or makes a client of it needs no token yet. It does not tell fastgw's version.
_OPEN = frozenset(("/healthz", "/readyz", _DOCUMENT, *_PAGES))


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

    def failures(self) -> Failures:
        """The exchanges that have failed last."""

    def live_logs(self) -> LiveLogs:
        """Those who look at the log as it is made."""

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
        *(Route(path, _file(name, kind, _PAGE_HEADERS)) for path, (name, kind) in _PAGES.items()),
        Route(_DOCUMENT, _file("openapi.json", "application/json", {"Cache-Control": "no-cache"})),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
        Route("/metrics", api.metrics),
        Route("/api/status", api.status),
        Route("/api/routes", api.routes),
        Route("/api/upstreams", api.upstreams),
        Route("/api/summary", api.summary),
        Route("/api/endpoints", api.override, methods=["POST"]),
        Route("/api/events", api.events),
        Route("/api/failures", api.failures),
        Route("/api/log", api.log),
        Route("/api/config", api.config),
        Route("/api/config/check", api.check, methods=["POST"]),
        Route("/api/reload", api.reload, methods=["POST"]),
        Route("/api/explain", api.explain, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=settings.token)],
        exception_handlers={404: _not_found, 405: _not_allowed, 500: _failed, Over: _over, Refused: _refused},
    )
    # A path with a slash too many is none, and nobody is sent to where Host says.
    app.router.redirect_slashes = False
    return app


def _file(name: str, kind: str, headers: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    body = files("fastgw").joinpath(name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(body, headers={**headers, "Content-Type": kind})

    return send


async def _not_found(request: Request, _error: Exception) -> Response:
    return problem(404, "Not Found", f"There is no {request.url.path}.")


async def _not_allowed(request: Request, error: Exception) -> Response:
    # With Allow (RFC 9110, section 15.5.6).
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(405, "Method Not Allowed", f"{request.url.path} takes no {request.method}.", headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response


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
            detail = "The token of [admin] is missing: Authorization: Bearer TOKEN."
            return problem(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"})
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
        upstream, endpoint, draining, weight = override_asked(await body_of(request, JSON_MAX))
        event = await self._gate.override(upstream, endpoint, draining, weight)
        return answer(dataclasses.asdict(event), 200 if event.outcome == "done" else 404)

    async def summary(self, _request: Request) -> Response:
        return answer(self._gate.summary())

    async def events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return _head_of_stream()
        last = request.headers.get("last-event-id", "")
        number = int(last) if last.isdecimal() and len(last) <= _ID_DIGITS_MAX else 0
        return StreamingResponse(_told(self._gate.events(), number), headers=_STREAM, media_type=_STREAM_KIND)

    async def failures(self, request: Request) -> Response:
        route = request.query_params.get("route")
        if refusal := await self._unknown_route(route):
            return refusal
        failures = self._gate.failures()
        return answer({"failures": failures.last(route), "left_out": failures.left_out})

    async def log(self, request: Request) -> Response | _LiveLog:
        route, statuses = request.query_params.get("route"), request.query_params.get("status")
        if refusal := await self._unknown_route(route):
            return refusal
        if request.method == "HEAD":
            return _head_of_stream()
        try:
            return _LiveLog(self._gate.live_logs(), log_filter(route, statuses))
        except ValueError as error:
            return problem(400, "Bad Request", f"{error}.")

    async def _unknown_route(self, route: str | None) -> Response | None:
        """Exchanges that no route has matched have "" for it."""
        names = [row["name"] for row in await self._gate.routes()] if route else []
        if not route or route in names:
            return None
        instead = did_you_mean(route, names) or names_there_are(names)
        return problem(404, "Not Found", f"There is no route {toml_text(route)}" + (f"; {instead}" if instead else ""))

    async def config(self, _request: Request) -> Response:
        return answer(self._gate.config())

    async def check(self, request: Request) -> Response:
        """Takes the text of a configuration, not JSON: what would be in the file."""
        text = text_asked(await body_of(request, TEXT_MAX))
        problems = await self._gate.check(text)
        return answer({"problems": problems}, 422 if problems else 200)

    async def reload(self, _request: Request) -> Response:
        event = await self._gate.reload()
        return answer(dataclasses.asdict(event), 200 if event.outcome == "done" else 409)

    async def explain(self, request: Request) -> Response:
        method, url, headers = request_asked(await body_of(request, JSON_MAX))
        try:
            explained = self._gate.explain(method, url, headers)
        except ValueError as error:
            raise wrong_shape(str(error)) from None
        return answer(explained)


def _head_of_stream() -> Response:
    head = Response(headers=_STREAM, media_type=_STREAM_KIND)
    # It would be the length of what GET sends.
    del head.headers["Content-Length"]
    return head


class _LiveLog:
    """The answer to whoever looks at the log as it is made, until it looks no more."""

    def __init__(self, live_logs: LiveLogs, wanted: LogFilter) -> None:
        self._live_logs = live_logs
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._live_logs.listening(self._wanted) as listener:
                stream = StreamingResponse(listener.stream(), headers=_STREAM, media_type=_STREAM_KIND)
                await stream(scope, receive, send)
        except TooMany:
            await problem(503, "Service Unavailable", "Too many look at the log already.")(scope, receive, send)


async def _told(events: Events, last: int) -> AsyncIterator[bytes]:
    """Server-sent events (HTML, section 9.2): those that are remembered and came after `last`, and all that come."""
    with events.listening() as queue:
        remembered = tuple(events.last)
        if last > max((event.number for event in remembered), default=0):
            # Of another gateway, which was here before.
            last = 0
        for event in remembered:
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
    return b"%bevent: %b\ndata: %b\n\n" % (number, event.kind.encode(), json_bytes(dataclasses.asdict(event)))
