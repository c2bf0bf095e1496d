"""What would happen to a request, and why: the exchange itself, walked with nobody at its ends.

It is the code that carries traffic, so it can't disagree with it. It stops where a connection would be taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastgw.counters import COLUMN_SIZE
from fastgw.errors import ConfigError, Failure, Problem
from fastgw.exchange import AWAITED, Exchange
from fastgw.gateway import Gateway
from fastgw.hedging import is_hedged
from fastgw.http1.encode import status_line
from fastgw.http1.fields import values
from fastgw.http1.message import Data
from fastgw.http1.parse import RequestParser
from fastgw.net.endpoint_states import EndpointStates
from fastgw.policy.forwarded import lines_before_host
from fastgw.policy.tls_session import TlsSession
from fastgw.ports import Hedges, Observer, Pool, Retries
from fastgw.snapshot import Route, Snapshot, Upstream

# An address of the documentation (RFC 5737), for the client of a made-up request.
_CLIENT = b"192.0.2.1"
_REQUEST_ID = b"0" * 16
# A listener has limits; a made-up request comes to none.
_NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the line: what it is called, what it decided, and why."""

    name: str
    verdict: str
    reason: str


@dataclass(slots=True)
class Explanation:
    """What would happen. `path` is the target that the upstream would get; what does not apply is None. `is_drawn`: the
    upstream is that by lot."""

    route: str | None = None
    upstream: str | None = None
    path: str | None = None
    status: int | None = None
    location: str | None = None
    is_drawn: bool = False
    reason: str = ""
    steps: list[Step] = field(default_factory=list)
    request_headers: list[str] = field(default_factory=list)
    response_headers: list[str] = field(default_factory=list)


def explain(snapshot: Snapshot, method: str, url: str, headers: list[tuple[str, str]]) -> Explanation:
    """Walks a made-up request along the line. Raises ConfigError for a URL or header that is none."""
    explanation = Explanation()
    downstream = _NoClient(snapshot.has_client_cert_headers)
    pools: dict[str, Pool] = {name: _NoPool(upstream) for name, upstream in snapshot.upstreams.items()}
    gateway = Gateway(snapshot, pools, _NoLog(), lambda: 0.0, lambda: 0.0, _REQUEST_ID, lambda: None, [0] * COLUMN_SIZE)
    exchange = Exchange(gateway, downstream, 0.0)
    downstream.exchange = exchange
    parsed = RequestParser().parse(_head(method, url, headers), _NO_LIMIT, _NO_LIMIT)
    if isinstance(parsed, Failure):
        exchange.refuse(parsed)
        explanation.steps.append(Step("parse", "refused", parsed.detail))
    else:
        host = parsed.host_name.decode("latin-1")
        explanation.steps.append(Step("parse", "accepted", f"host {host}, path {parsed.path.decode('latin-1')}"))
        exchange.begin(parsed, b"", True)
    _read_outcome(explanation, exchange, downstream, snapshot)
    return explanation


def _head(method: str, url: str, headers: list[tuple[str, str]]) -> bytes:
    parts = urlsplit(url if "://" in url else f"http://{url}" if not url.startswith("/") else f"http://localhost{url}")
    if not parts.netloc or any(character.isspace() for character in method + url):
        raise ConfigError([Problem("URL", 0, 0, "", f"'{url}' is no URL", "write http://HOST/PATH")])
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"Host: {parts.netloc}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("utf-8")


def _read_outcome(explanation: Explanation, exchange: Exchange, downstream: _NoClient, snapshot: Snapshot) -> None:
    steps = explanation.steps
    route = exchange.route
    explanation.reason = exchange.reason
    if route is not None:
        explanation.route = route.name
        steps.append(Step("match route", route.name, _why_route(exchange)))
    elif exchange.reason:
        steps.append(Step("match route", "none", downstream.detail))
    if exchange.answer != AWAITED:
        explanation.status = exchange.status
        explanation.response_headers = _lines(downstream.fields)
        location = values(downstream.fields, b"location")
        if location:
            explanation.location = location[0].decode("latin-1")
        reply = "the route's own reply" if route is not None else exchange.reason
        steps.append(Step("respond", status_line(exchange.status)[9:].decode(), reply))
        return
    explanation.upstream = exchange.pool.name if exchange.pool is not None else None
    explanation.path = exchange.target.decode("latin-1")
    explanation.request_headers = [f"Host: {exchange.host.decode('latin-1')}", *_lines(exchange.fields)]
    rewritten = exchange.target != exchange.request.path + exchange.request.query
    why = "rewritten by the route" if rewritten else "as it was matched"
    steps.append(Step("transform request", f"{exchange.request.method.decode()} {explanation.path}", why))
    if route is not None:
        chosen = _why_upstream(exchange, route)
        explanation.is_drawn = not chosen
        steps.append(Step("forward", f"upstream {explanation.upstream}", chosen or _shares(route)))
    if route is not None and route.mirror is not None:
        mirror = route.mirror
        steps.append(Step("mirror", f"upstream {mirror.upstream}", f"{100 * mirror.sample:g} % of the requests"))
    if explanation.upstream is not None:
        upstream = snapshot.upstreams[explanation.upstream]
        verdict, why = _endpoint(upstream, exchange)
        steps.append(Step("pick endpoint", verdict, why))
        steps += _hedge(upstream, exchange)


def _why_route(exchange: Exchange) -> str:
    captured = ", ".join(part.decode("latin-1") for part in exchange.captured)
    return f"captured {captured}" if captured else "nothing captured"


def _why_upstream(exchange: Exchange, route: Route) -> str:
    """Empty: it is drawn by lot."""
    if len(route.upstreams) == 1:
        return "the only upstream"
    arms = exchange.gateway.route_arms[exchange.gateway.snapshot.routes.index(route)]
    if arms is not None:
        if arms.named(exchange.request) >= 0:
            return "the request names it"
        if arms.sticky is not None and arms.kept(exchange.request.cookie(arms.sticky.name)) >= 0:
            return "the client's cookie leads there"
    return ""


def _shares(route: Route) -> str:
    total = sum(route.weights)
    shares = zip(route.upstreams, route.weights, strict=True)
    return "a split: " + ", ".join(f"{name} {100 * weight / total:g} %" for name, weight in shares)


def _endpoint(upstream: Upstream, exchange: Exchange) -> tuple[str, str]:
    """Which would be chosen while all are well, and why."""
    if not upstream.endpoints:
        return "none yet", f"found while the gateway runs: {upstream.discover}"
    begins = f"; until others are found: {upstream.discover}" if upstream.discover is not None else ""
    if len(upstream.endpoints) == 1:
        return upstream.endpoints[0].name, "the only one" + begins
    backups = ", ".join(endpoint.name for endpoint in upstream.endpoints if endpoint.backup)
    spared = f"; not {backups}: a backup is for when no other is available" if backups else ""
    spared += begins
    states = _states(upstream)
    if states.sticky is not None and states.sticky.place(exchange.sticky_token) >= 0:
        return upstream.endpoints[states.sticky.place(exchange.sticky_token)].name, "the client's cookie leads there"
    if upstream.balance == "hash":
        what = ":".join(filter(None, upstream.hash_on))
        key = states.key(exchange)
        if key is not None:
            index = states.pick_by_key(exchange, upstream.max_connections, states.out)
            return upstream.endpoints[index].name, f"{what} {key.decode('latin-1')} leads there{spared}"
        return "any", f"the request has no {what}{spared}"
    names = [endpoint.name for endpoint in upstream.endpoints if not endpoint.backup]
    return " or ".join(names), f"by {upstream.balance}{spared}"


def _hedge(upstream: Upstream, exchange: Exchange) -> list[Step]:
    """That a slow one is sent twice, if it is."""
    retry = upstream.retry
    if retry is None or retry.hedge is None or not is_hedged(exchange, retry.hedges_by_default):
        return []
    if len(upstream.endpoints) == 1:
        return [Step("hedge", "no second try", "there is no other endpoint")]
    share, least_ms = 100 * retry.hedge.quantile, 1e3 * retry.hedge.min_delay
    why = f"when it takes longer than {share:g} % of the answers, and {least_ms:g} ms at least"
    return [Step("hedge", "a second try on another endpoint", why)]


def _states(upstream: Upstream) -> EndpointStates:
    return EndpointStates(upstream, lambda: 0.0, lambda: 0.0, lambda _: None)


def _lines(fields: bytes) -> list[str]:
    return [line.decode("latin-1") for line in fields.split(b"\r\n") if line]


class _NoClient:
    """Takes the answer that the gateway gives by itself."""

    def __init__(self, needs_identifying: bool) -> None:
        self.client = _CLIENT
        self.scheme = b"http"
        self.listener_name = ""
        self.congested = False
        self.trusted = False
        self.session: TlsSession | None = None
        self.redirect_to_https = 0
        self.needs_identifying = needs_identifying
        self.forwarded = lines_before_host(_CLIENT, b"http")
        self.exchange: Exchange | None = None
        self.fields = b""
        self.detail = ""

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        self.fields = fields
        self.detail = line[9:].decode("latin-1")

    def send_informational(self, line: bytes, fields: bytes) -> None: ...

    def send_body(self, data: bytes) -> None: ...

    def end_body(self, trailers: bytes) -> None: ...

    def begin_tunnel(self, line: bytes, fields: bytes, peer: Any, protocol: bytes, first: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def splice_end(self) -> tuple[int, float] | None: ...

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return ("", 0), ("", 0)

    def exchange_ended(self) -> None: ...

    def abort(self) -> None: ...


class _NoPool:
    """Never has a connection."""

    def __init__(self, upstream: Upstream) -> None:
        self.name = upstream.name
        self.host = upstream.name.encode()
        self.observer: Observer | None = None
        self.retries: Retries | None = None
        self.hedges: Hedges | None = None
        self.sticky = _states(upstream).sticky

    def acquire(self, exchange: Exchange, fresh: bool) -> None: ...

    def forget(self, exchange: Exchange) -> None: ...

    def has_others(self, tried: int) -> bool:
        return False

    def has_room(self, tried: int) -> bool:
        return False

    def try_again(self, exchange: Exchange, wait_s: float) -> None: ...

    def tried_in_vain(self, endpoint: int, condition: int) -> None: ...


class _NoLog:
    def record(self, exchange: Exchange) -> None: ...
