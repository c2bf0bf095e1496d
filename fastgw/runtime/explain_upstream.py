"""Of an explanation: which upstream a request goes to, whether that takes it, at which endpoint, and what holds there.

The choices are those of the policies that traffic asks, with the same arguments. Where they draw lots, all that may be
drawn is told, with its share.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastgw.config.units import duration_text, size_text
from fastgw.exchange import Exchange
from fastgw.hedging import is_hedged
from fastgw.net.endpoint_states import EndpointStates
from fastgw.policy import retry as retry_policy
from fastgw.runtime.dry_run import LiveUpstream, NoPool
from fastgw.runtime.explanation import CHOSEN, NOT_CHOSEN, OUT, POSSIBLE, Considered, Holds, Step
from fastgw.snapshot import Endpoint, RetryPolicy, Route, Upstream

_CONDITIONS = (
    (retry_policy.CONNECT_FAILURE, "connect-failure"),
    (retry_policy.RESET, "reset"),
    (retry_policy.EMPTY_ANSWER, "empty-answer"),
    (retry_policy.TIMEOUT, "timeout"),
)

_ORDER = (CHOSEN, POSSIBLE, NOT_CHOSEN, OUT)

# The arms of a split.


@dataclass(frozen=True, slots=True)
class ArmChoice:
    """Why an arm has the request: `by` is its code, and "drawn" when it is by lot."""

    by: str
    reason: str


def arm_choice(exchange: Exchange, route: Route) -> ArmChoice:
    """Why the upstream is that."""
    if len(route.upstreams) == 1:
        return ArmChoice("only-upstream", "the only upstream")
    arms = exchange.gateway.route_arms[exchange.gateway.snapshot.routes.index(route)]
    if arms is not None:
        if arms.named(exchange.request) >= 0:
            return ArmChoice("arm-named", "the request names it")
        if arms.sticky is not None and arms.kept(exchange.request.cookie(arms.sticky.name)) >= 0:
            return ArmChoice("arm-kept", "the client's cookie leads there")
    return ArmChoice("drawn", f"a split: {shares_text(route)}")


def shares_text(route: Route) -> str:
    """The arms of a split with what each gets."""
    total = sum(route.weights)
    shares = zip(route.upstreams, route.weights, strict=True)
    return ", ".join(f"{name} {100 * weight / total:g} %" for name, weight in shares)


def upstream_step(exchange: Exchange, route: Route, chosen: str) -> Step:
    """Which upstream, and what of the others."""
    choice = arm_choice(exchange, route)
    total = sum(route.weights)
    considered = []
    for name, weight in zip(route.upstreams, route.weights, strict=True) if len(route.upstreams) > 1 else ():
        verdict, code, reason = NOT_CHOSEN, choice.by, "another is told by the request"
        if choice.by == "drawn":
            verdict, code, reason = (POSSIBLE, "drawn", "by lot") if weight else (OUT, "no-weight", "its weight is 0")
        elif name == chosen:
            verdict, reason = CHOSEN, choice.reason
        considered.append(Considered(name, verdict, code, reason, share=weight / total))
    return Step("choose upstream", f"upstream {chosen}", choice.reason, choice.by, tuple(considered))


def mirror_step(exchange: Exchange, route: Route) -> Step | None:
    """Whether a copy goes to a mirror; None: there is none."""
    mirror = route.mirror
    if mirror is None:
        return None
    where = f"routes.{route.name}.mirror"
    holds = (
        Holds(f"{where}.sample", f"{100 * mirror.sample:g}%", "the share of the requests that is copied"),
        Holds(f"{where}.max_body", size_text(mirror.max_body), "a larger body is not copied"),
        Holds(f"{where}.max_in_flight", mirror.max_in_flight, "more at once are not copied"),
        Holds(f"{where}.timeout", duration_text(mirror.timeout), "of a copy"),
        Holds(f"{where}.compare", mirror.compare is not None, "whether the answers are compared"),
    )
    if exchange.request.upgrade:
        return Step("mirror", "not copied", "requests for an upgrade are not", "mirror-upgrade", holds=holds)
    if exchange.request.content_length > mirror.max_body:
        return Step("mirror", "not copied", "its body is larger than max_body", "mirror-body-too-large", holds=holds)
    shared = f"{100 * mirror.sample:g} % of the requests"
    return Step("mirror", f"upstream {mirror.upstream}", shared, "mirrored", holds=holds)


# The upstream.


def admit_step(pool: NoPool) -> Step:
    """Whether the upstream is asked at all."""
    upstream, key = pool.upstream, f"upstreams.{pool.name}"
    holds = []
    if upstream.breaker is not None:
        breaker = upstream.breaker
        open_for = duration_text(breaker.open_for)
        if breaker.consecutive_failures:
            holds.append(Holds(f"{key}.breaker.consecutive_failures", breaker.consecutive_failures, "in a row open it"))
        rate = (
            f"of {breaker.min_answers} answers or more within {duration_text(breaker.window)}, a larger share opens it"
        )
        holds.append(Holds(f"{key}.breaker.failure_rate", f"{100 * breaker.failure_rate:g}%", rate))
        holds.append(Holds(f"{key}.breaker.open_for", open_for, f"then {breaker.trials} are let through"))
    if upstream.concurrency is not None:
        limit = upstream.concurrency
        between = f"per worker; it finds itself, from {limit.min_limit} to {limit.max_limit}"
        holds.append(Holds(f"{key}.concurrency.initial_limit", limit.initial_limit, between))
    if upstream.max_requests:
        holds.append(Holds(f"{key}.max_requests", upstream.max_requests, "in flight per worker; more wait"))
    holds.append(Holds(f"{key}.max_connections", upstream.max_connections, "per endpoint and worker; more wait"))
    holds.append(Holds(f"{key}.max_queued", upstream.max_queued, "wait; more get 503"))
    holds.append(Holds(f"{key}.queue_timeout", duration_text(upstream.queue_timeout), "is waited, then 503"))
    if pool.live is not None and pool.live.breaker_open_s > 0 and upstream.breaker is not None:
        reason = f"its circuit breaker is open, for {pool.live.breaker_open_s} s more"
        return Step("admit", "refused", reason, "breaker-open", holds=tuple(holds))
    guards = [name for name in ("breaker", "concurrency") if getattr(upstream, name) is not None]
    reason = f"within what its {' and its '.join(guards)} allow" if guards else "nothing guards it but its bounds"
    return Step("admit", "admitted", reason, "admitted", holds=tuple(holds))


def endpoint_step(pool: NoPool, exchange: Exchange) -> Step:
    """Which endpoint is picked, and why none of the others."""
    upstream = pool.upstream
    if not upstream.endpoints and pool.live is None:
        reason = f"found while the gateway runs: {upstream.discover}"
        return Step("pick endpoint", "none yet", reason, "not-found-yet")
    states = pool.states()
    if states.out == states.everyone:
        considered = _endpoints(pool, states, (), "no-endpoint", "")
        return Step("pick endpoint", "none", "no endpoint is available", "no-endpoint", considered)
    begins = f"; until others are found: {upstream.discover}" if upstream.discover and pool.live is None else ""
    picked, code, reason = _pick(upstream, states, exchange)
    considered = _endpoints(pool, states, picked, code, reason) if len(upstream.endpoints) > 1 else ()
    names = " or ".join(upstream.endpoints[index].name for index in picked)
    return Step("pick endpoint", names, reason + begins, code, considered)


def _pick(upstream: Upstream, states: EndpointStates, exchange: Exchange) -> tuple[tuple[int, ...], str, str]:
    """The indexes of those that it may be, with the code and the sentence of why."""
    if len(upstream.endpoints) == 1:
        return (0,), "only-endpoint", "the only one"
    open_to_it = tuple(index for index in range(len(upstream.endpoints)) if not states.out >> index & 1)
    spared = ""
    if states.sticky is not None:
        place = states.sticky.place(exchange.sticky_token)
        index = states.pick_for(exchange, upstream.max_connections, states.out)
        if place >= 0 and index == place:
            return (index,), "sticky-cookie", "the client's cookie leads there"
        spared = f"; its cookie leads to {upstream.endpoints[place].name}, which is out" if place >= 0 else ""
    if upstream.balance == "hash":
        what = ":".join(filter(None, upstream.hash_on))
        key = states.key(exchange)
        if key is None:
            return open_to_it, "no-hash-key", f"any: the request has no {what}{spared}"
        index = states.pick_by_key(exchange, upstream.max_connections, states.out)
        return (index,), "hash-key", f"{what} {key.decode('latin-1')} leads there{spared}"
    return open_to_it, upstream.balance, f"by {upstream.balance}{spared}"


def _endpoints(
    pool: NoPool, states: EndpointStates, picked: tuple[int, ...], code: str, reason: str
) -> tuple[Considered, ...]:
    """All endpoints, those first that it may be."""
    upstream = pool.upstream
    open_to_it = [endpoint for index, endpoint in enumerate(upstream.endpoints) if not states.out >> index & 1]
    total = sum(endpoint.weight for endpoint in open_to_it)
    told = []
    for index, endpoint in enumerate(upstream.endpoints):
        against = _against(endpoint, pool.live)
        if index in picked:
            share = endpoint.weight / total if len(picked) > 1 else None
            verdict = POSSIBLE if len(picked) > 1 else CHOSEN
            panic = f"; {against[1]}, but too few others are available" if against is not None else ""
            why = f"by weight {endpoint.weight}" if len(picked) > 1 else reason
            told.append(Considered(endpoint.name, verdict, code, why + panic, share=share))
        elif states.out >> index & 1:
            why_out = against or ("backup", "a backup is for when too few others are available")
            if endpoint.backup and against is None and not open_to_it:
                why_out = ("backup", "a backup, and out like all")
            told.append(Considered(endpoint.name, OUT, *why_out))
        else:
            told.append(Considered(endpoint.name, NOT_CHOSEN, code, "another is meant"))
    return tuple(sorted(told, key=lambda one: _ORDER.index(one.verdict)))


def _against(endpoint: Endpoint, live: LiveUpstream | None) -> tuple[str, str] | None:
    """What speaks against an endpoint."""
    if live is None:
        return None
    if endpoint.name in live.draining:
        return "draining", "it is draining"
    if endpoint.name in live.unhealthy:
        return "unhealthy", "its checks fail"
    return ("ejected", "it is ejected") if endpoint.name in live.ejected else None


def forward_step(pool: NoPool, route: Route | None, exchange: Exchange) -> Step:
    """How long is waited for what, and what happens when it fails."""
    upstream, key = pool.upstream, f"upstreams.{pool.name}"
    holds = []
    if route is not None and route.timeout:
        holds.append(
            Holds(f"routes.{route.name}.timeout", duration_text(route.timeout), "for the whole exchange, then 504")
        )
    holds += [
        Holds(f"{key}.connect_timeout", duration_text(upstream.connect_timeout), "for each connection"),
        Holds(f"{key}.response_timeout", duration_text(upstream.response_timeout), "for the answer's head"),
        Holds(f"{key}.body_timeout", duration_text(upstream.body_timeout), "between two reads or writes of a body"),
    ]
    retry = upstream.retry
    if retry is None:
        reason = "no retries, but after a failed connection"
    elif route is not None and not route.retries:
        reason = "the route wants no retries, but after a failed connection"
    else:
        reason = f"up to {retry.settings.tries - 1} retries"
        holds += _retry_holds(f"{key}.retry", retry, route)
        if retry.hedge is not None and is_hedged(exchange, retry.hedges_by_default):
            slower = "slower than this share of the answers, it is sent to another endpoint, too"
            why = slower if len(upstream.endpoints) > 1 else "but there is no other endpoint for a second try"
            holds.append(Holds(f"{key}.retry.hedge.quantile", f"{100 * retry.hedge.quantile:g}%", why))
            holds.append(Holds(f"{key}.retry.hedge.min_delay", duration_text(retry.hedge.min_delay), "and no sooner"))
    how = [("TLS", upstream.tls is not None), (f"PROXY {upstream.proxy_protocol}", bool(upstream.proxy_protocol))]
    verdict = " and ".join(["HTTP/1.1", *(name for name, is_on in how if is_on)])
    return Step("forward", verdict, reason, "forwarded", holds=tuple(holds))


def _retry_holds(key: str, retry: RetryPolicy, route: Route | None) -> list[Holds]:
    settings = retry.settings
    on = [name for bit, name in _CONDITIONS if settings.conditions & bit]
    on += [str(status) for status in sorted(settings.statuses)] if settings.conditions & retry_policy.STATUS else []
    any_method = route is not None and route.retries_any_method
    whose = "whatever the method" if any_method else "of idempotent methods, or where nothing was sent"
    budget = f"of the requests, or {retry.budget_floor:g}/s"
    return [
        Holds(f"{key}.attempts", settings.tries - 1, "beyond the first"),
        Holds(f"{key}.on", ", ".join(on), whose),
        Holds(f"{key}.budget", f"{100 * retry.budget_share:g}%", budget),
        Holds(f"{key}.max_body", size_text(retry.max_body), "a larger body is not sent again"),
    ]
