"""What would happen to a request, and why: the exchange itself, walked with nobody at its ends.

It is the code that carries traffic, so it can't disagree with it. It stops where a connection would be taken. What the
steps have considered beside what they have chosen is told from the snapshot.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastgw.errors import ConfigError, Failure, Problem
from fastgw.exchange import AWAITED, Exchange
from fastgw.http1.encode import status_line
from fastgw.http1.fields import values
from fastgw.http1.message import RequestHead
from fastgw.http1.parse import RequestParser
from fastgw.runtime.dry_run import DryRun, Live
from fastgw.runtime.explain_upstream import (
    admit_step,
    arm_choice,
    endpoint_step,
    forward_step,
    mirror_step,
    upstream_step,
)
from fastgw.runtime.explanation import MISSED, POSSIBLE, Considered, Explanation, Holds, Step
from fastgw.runtime.near_routes import near_routes
from fastgw.snapshot import HeaderEdits, Listener, Route, Snapshot

# A listener has limits; a made-up request comes to none.
_NO_LIMIT = 1 << 30
_HTTPS = "https"


def explain(
    snapshot: Snapshot, method: str, url: str, headers: list[tuple[str, str]], live: Live | None = None
) -> Explanation:
    """Walks a made-up request along the line, and tells of each step. `live`: how the upstreams are just now; None: all
    is well with them. Raises ConfigError for a URL or header that is none."""
    head = _head(method, url, headers)
    dry_run = DryRun(snapshot, live)
    request, exchange = _walked(dry_run, head)
    explanation = _outcome(exchange, dry_run)
    if isinstance(request, Failure):
        explanation.steps = [
            Step("parse", "refused", f"{request.reason}: {request.detail}", request.reason),
            _respond(exchange),
        ]
    else:
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        explanation.steps = _steps(exchange, dry_run, request, scheme)
    return explanation


def outcome(snapshot: Snapshot, method: str, url: str, headers: list[tuple[str, str]]) -> Explanation:
    """The same without its steps, for whoever has many requests. Raises as `explain` does."""
    dry_run = DryRun(snapshot)
    _, exchange = _walked(dry_run, _head(method, url, headers))
    return _outcome(exchange, dry_run)


def _head(method: str, url: str, headers: list[tuple[str, str]]) -> bytes:
    parts = urlsplit(url if "://" in url else f"http://{url}" if not url.startswith("/") else f"http://localhost{url}")
    if not parts.netloc or any(character.isspace() for character in method + url):
        raise ConfigError([Problem("URL", 0, 0, "", f"'{url}' is no URL", "write http://HOST/PATH")])
    if any("\r" in line or "\n" in line for header in headers for line in header):
        raise ConfigError([Problem("header", 0, 0, "", "a header is one line", "write its name and its value")])
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"Host: {parts.netloc}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("utf-8")


def _walked(dry_run: DryRun, head: bytes) -> tuple[RequestHead | Failure, Exchange]:
    parsed = RequestParser().parse(head, _NO_LIMIT, _NO_LIMIT)
    return parsed, dry_run.walk(parsed)


def _outcome(exchange: Exchange, dry_run: DryRun) -> Explanation:
    explanation = Explanation(reason=exchange.reason)
    route = exchange.route
    explanation.route = route.name if route is not None else None
    is_drawn = route is not None and bool(route.upstreams) and arm_choice(exchange, route).by == "drawn"
    if exchange.pool is not None:
        explanation.upstream = exchange.pool.name
        explanation.is_drawn = is_drawn
    if exchange.answer == AWAITED:
        explanation.path = _text(exchange.target)
        explanation.request_headers = [f"Host: {_text(exchange.host)}", *_lines(exchange.fields)]
        return explanation
    explanation.status = exchange.status
    explanation.response_headers = _lines(dry_run.client.fields)
    location = values(dry_run.client.fields, b"location")
    explanation.location = _text(location[0]) if location else None
    return explanation


# The steps.


def _steps(exchange: Exchange, dry_run: DryRun, request: RequestHead, scheme: str) -> list[Step]:
    snapshot, route = dry_run.snapshot, exchange.route
    asked = f"host {_text(request.host_name)}, path {_text(request.path)}"
    steps = [Step("parse", "accepted", asked, "accepted"), _identify(exchange, snapshot, scheme)]
    if route is None and exchange.reason not in ("no-route", "method-not-allowed"):
        return [*steps, _respond(exchange)]
    steps.append(_match_route(exchange, snapshot, request))
    if exchange.pool is None or route is None:
        return [*steps, _respond(exchange), _finish(snapshot)]
    pool = dry_run.pools[exchange.pool.name]
    steps.append(upstream_step(exchange, route, pool.name))
    if (mirror := mirror_step(exchange, route)) is not None:
        steps.append(mirror)
    steps.append(_transform_request(exchange, route))
    if exchange.answer != AWAITED and not exchange.reason:
        # Max-Forwards is used up.
        return [*steps, _respond(exchange), _finish(snapshot)]
    steps.append(admit_step(pool))
    if exchange.reason != "breaker-open":
        steps.append(endpoint_step(pool, exchange))
    if exchange.answer != AWAITED:
        return [*steps, _respond(exchange), _finish(snapshot)]
    steps += [forward_step(pool, route, exchange), _transform_response(exchange, route), _finish(snapshot)]
    return steps


def _identify(exchange: Exchange, snapshot: Snapshot, scheme: str) -> Step:
    if exchange.reason in ("misdirected", "misdirected-host", "bad-host"):
        return Step("identify", "refused", exchange.reason, exchange.reason)
    considered = tuple(_listener(one, scheme) for one in snapshot.listeners)
    return Step("identify", "accepted", f"a client that nobody speaks for, by {scheme}", "accepted", considered)


def _listener(listener: Listener, scheme: str) -> Considered:
    """Whether a request by a scheme can come by a listener, and what that does with it first."""
    speaks = _HTTPS if listener.tls is not None else "http"
    name = f"{listener.name} on {listener.address}"
    if speaks != scheme:
        return Considered(name, MISSED, "other-scheme", f"speaks {speaks}", speaks, scheme)
    if listener.redirect_to_https:
        return Considered(name, POSSIBLE, "redirect-to-https", "answers 308: it sends everybody to https")
    if listener.tls is not None and listener.tls.client_ca and listener.tls.requires_client_cert:
        return Considered(name, POSSIBLE, "client-certificate", "takes clients with a certificate that it trusts")
    return Considered(name, POSSIBLE, "accepted", f"speaks {speaks}")


def _match_route(exchange: Exchange, snapshot: Snapshot, request: RequestHead) -> Step:
    route = exchange.route
    index = snapshot.routes.index(route) if route is not None else -1
    names = [one.name for one in snapshot.routes]
    near = near_routes(snapshot.router, names, request, index)
    if route is not None:
        captured = ", ".join(_text(part) for part in exchange.captured)
        reason = f"captured {captured}" if captured else "nothing captured"
        return Step("match route", route.name, reason, "matched", near)
    if exchange.reason == "no-route":
        return Step("match route", "none", "no route matches", exchange.reason, near)
    allowed = ", ".join(_text(method) for method in _allowed(snapshot, request))
    reason = f"{_text(request.method)} is not among the methods for it: {allowed}"
    return Step("match route", "none", reason, exchange.reason, near)


def _allowed(snapshot: Snapshot, request: RequestHead) -> tuple[bytes, ...]:
    return snapshot.router.match(request.host_name, request.path, request.method, request)[1]


def _transform_request(exchange: Exchange, route: Route) -> Step:
    request = exchange.request
    rewritten = exchange.target != request.path + request.query
    why = "rewritten by the route" if rewritten else "as it was matched"
    code = "rewritten" if rewritten else "as-matched"
    holds = list(_edits(f"routes.{route.name}.request.headers", route.request_edits))
    if exchange.host != request.host:
        holds.insert(0, Holds(f"routes.{route.name}.rewrite.host", _text(exchange.host), "in place of the client's"))
    return Step("transform request", f"{_text(request.method)} {_text(exchange.target)}", why, code, holds=tuple(holds))


def _transform_response(exchange: Exchange, route: Route) -> Step:
    holds = list(_edits(f"routes.{route.name}.response.headers", route.response_edits))
    if exchange.arm_cookie is not None:
        is_set = "set anew" if exchange.arm_line else "the client has it already"
        holds.append(Holds(f"routes.{route.name}.split.sticky.cookie", _text(exchange.arm_cookie.name), is_set))
    sticky = exchange.pool.sticky if exchange.pool is not None else None
    if sticky is not None and exchange.pool is not None:
        is_set = "set unless the client has the endpoint's"
        holds.append(Holds(f"upstreams.{exchange.pool.name}.sticky.cookie", _text(sticky.name), is_set))
    verdict, code = ("edited", "edited") if holds else ("as it comes", "as-it-comes")
    return Step("transform response", verdict, "Via, X-Request-Id and Date are the gateway's", code, holds=tuple(holds))


def _edits(key: str, edits: HeaderEdits | None) -> list[Holds]:
    if edits is None:
        return []
    added = [line.partition(": ") for line in _lines(edits.lines)]
    replaced = {name.decode() for name in edits.names}
    holds = [Holds(f"{key}.{'set' if name.lower() in replaced else 'add'}.{name}", value) for name, _, value in added]
    gone = sorted(replaced - {name.lower() for name, _, _ in added})
    return [*holds, *(Holds(f"{key}.remove", name) for name in gone)]


def _respond(exchange: Exchange) -> Step:
    route = exchange.route
    is_own = route is not None and route.reply is not None and not exchange.reason
    why = "the route's own reply" if is_own else exchange.reason or "the gateway's own reply"
    return Step("respond", status_line(exchange.status)[9:].decode(), why, exchange.reason or "own-reply")


def _finish(snapshot: Snapshot) -> Step:
    log = snapshot.access_log
    if log.path == "off":
        return Step("finish", "not logged", "access_log.path is off", "not-logged")
    return Step("finish", f"logged as {log.format}", f"to {log.path}", "logged")


def _lines(fields: bytes) -> list[str]:
    return [line.decode("latin-1") for line in fields.split(b"\r\n") if line]


def _text(value: bytes) -> str:
    return value.decode("latin-1")
