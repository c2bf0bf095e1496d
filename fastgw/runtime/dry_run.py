"""The line with nobody at its ends: requests that were made up, or come from a log, walked by the exchange itself.

It is the code that carries traffic, so what it decides is what traffic gets. A walk ends where a connection would be
taken. Nothing is sent, waited for or logged, and a split is always drawn the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastgw import errors
from fastgw.counters import COLUMN_SIZE
from fastgw.errors import Failure
from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.http1.message import Data, RequestHead
from fastgw.net.endpoint_states import EndpointStates
from fastgw.net.slots import Slots, first_slots
from fastgw.policy.forwarded import lines_before_host
from fastgw.policy.tls_session import TlsSession
from fastgw.ports import Hedges, Observer, Pool, Retries
from fastgw.snapshot import Listener, Snapshot, Upstream

# An address of the documentation (RFC 5737), for the client of a made-up request.
_CLIENT = b"192.0.2.1"
_REQUEST_ID = b"0" * 16


@dataclass(frozen=True, slots=True)
class LiveUpstream:
    """How an upstream is just now: the names of its endpoints that are unhealthy, ejected or draining, and for how many
    seconds its circuit breaker is still open (0: it is not)."""

    unhealthy: frozenset[str] = frozenset()
    ejected: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()
    breaker_open_s: int = 0


# By upstream's name; of one that is not there, all is well.
Live = Mapping[str, LiveUpstream]


class DryRun:
    """The line of one configuration. `live`: how its upstreams are just now; None: nobody asks, and nothing is refused
    for that."""

    def __init__(self, snapshot: Snapshot, live: Live | None = None) -> None:
        self.snapshot = snapshot
        self.pools = {
            name: NoPool(upstream, None if live is None else live.get(name, LiveUpstream()))
            for name, upstream in snapshot.upstreams.items()
        }
        pools: dict[str, Pool] = dict(self.pools)
        self.gateway = Gateway(
            snapshot, pools, _NoLog(), lambda: 0.0, lambda: 0.0, _REQUEST_ID, lambda: None, [0] * COLUMN_SIZE
        )
        # Of the walk that was last.
        self.client = NoClient(snapshot, None)
        self._anywhere = self.client
        self._at = {listener.name: NoClient(snapshot, listener) for listener in snapshot.listeners}

    def walk(self, request: RequestHead | Failure, listener: str = "") -> Exchange:
        """The exchange of a request that has come by a listener (empty, or none of ours: by any), as far as it gets;
        `client` is who has its answer, if it is answered."""
        self.client = client = self._at.get(listener, self._anywhere)
        client.fields, client.body = b"", b""
        exchange = Exchange(self.gateway, client, 0.0)
        if isinstance(request, Failure):
            exchange.refuse(request)
        else:
            exchange.begin(request, b"", True)
        return exchange


class NoClient:
    """Takes the answer that the gateway gives by itself."""

    def __init__(self, snapshot: Snapshot, listener: Listener | None) -> None:
        self.client = _CLIENT
        self.scheme = b"https" if listener is not None and listener.tls is not None else b"http"
        self.listener_name = listener.name if listener is not None else ""
        self.congested = False
        self.trusted = False
        self.session: TlsSession | None = None
        self.redirect_to_https = listener.redirect_to_https if listener is not None else 0
        self.needs_identifying = snapshot.has_client_cert_headers or bool(self.redirect_to_https)
        self.forwarded = lines_before_host(_CLIENT, self.scheme)
        self.fields = b""
        self.body = b""

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        self.fields, self.body = fields, bytes(first)

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


class NoPool:
    """Never has a connection. Says why not as a real one does, where it is known how its upstream is."""

    def __init__(self, upstream: Upstream, live: LiveUpstream | None) -> None:
        self.upstream = upstream
        self.live = live
        self.name = upstream.name
        self.host = upstream.name.encode()
        self.observer: Observer | None = None
        self.retries: Retries | None = None
        self.hedges: Hedges | None = None
        self._states: EndpointStates | None = None
        self.sticky = self.states().sticky if upstream.sticky is not None else None

    def states(self) -> EndpointStates:
        """Its endpoints, with what speaks against them. Made when first asked for: a table for hashing costs some."""
        if self._states is None:
            self._states = _states(self.upstream, self.live or LiveUpstream())
        return self._states

    def acquire(self, exchange: Exchange, fresh: bool) -> None:
        failure = self._refusal()
        if failure is not None:
            exchange.not_connected(failure, -1)

    def _refusal(self) -> Failure | None:
        if self.live is None:
            return None
        if self.live.breaker_open_s > 0 and self.upstream.breaker is not None:
            return replace(errors.BREAKER_OPEN, retry_after_s=self.live.breaker_open_s)
        states = self.states()
        return errors.NO_ENDPOINT if states.out == states.everyone else None

    def forget(self, exchange: Exchange) -> None: ...

    def has_others(self, tried: int) -> bool:
        return False

    def has_room(self, tried: int) -> bool:
        return False

    def tried_in_vain(self, endpoint: int, condition: int) -> None: ...

    def try_again(self, exchange: Exchange, wait_s: float) -> None: ...


class _NoLog:
    def record(self, exchange: Exchange) -> None: ...


def _states(upstream: Upstream, live: LiveUpstream) -> EndpointStates:
    slots = first_slots(upstream.endpoints)
    if upstream.endpoints:
        slots = Slots(upstream.endpoints, _mask(upstream, live.draining))
    states = EndpointStates(upstream, lambda: 0.0, lambda: 0.0, lambda _: None, slots)
    if states.detector is not None:
        states.detector.ejected = _mask(upstream, live.ejected)
    states.set_unhealthy(live.unhealthy)
    return states


def _mask(upstream: Upstream, names: frozenset[str]) -> int:
    return sum(1 << index for index, endpoint in enumerate(upstream.endpoints) if endpoint.name in names)
