"""Kinds of exchanges: what those of the same route, endpoint, status and so on have in common.

Under load there are few of them. So whoever writes or counts ended exchanges does the work that depends on the kind
alone once, and finds it here.
"""

from __future__ import annotations

from collections import deque
from math import trunc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastgw.exchange import Exchange
    from fastgw.policy.metrics import Tally

# An ended exchange, its kind, and microseconds: of the whole, and until the head of the upstream's answer (0: none).
Record = tuple["Exchange", "Kind", int, int]
# What makes a kind: route, listener, upstream, endpoint, method, status, reason.
_Key = tuple[str, str, str, str, bytes, int, str]

# So many are known at once; with a tally, each takes 2 KB.
_KINDS_MAX = 4096


class Kind:
    """Names are the configuration's, "" where there is none; the method is the client's, so there may be any number of
    kinds.

    `template` is that of its lines in the one access log, and `tally` is what is counted of this kind: None until they
    are needed.
    """

    __slots__ = ("endpoint", "listener", "method", "reason", "route", "status", "tally", "template", "upstream")

    def __init__(
        self, route: str, listener: str, upstream: str, endpoint: str, method: bytes, status: int, reason: str
    ) -> None:
        self.route = route
        self.listener = listener
        self.upstream = upstream
        self.endpoint = endpoint
        self.method = method
        self.status = status
        self.reason = reason
        self.template: bytes | None = None
        self.tally: Tally | None = None


class Kinds:
    """Those that are known to some who write or count."""

    __slots__ = ("_known", "_order")

    def __init__(self) -> None:
        self._known: dict[_Key, Kind] = {}
        # The longest known first. An ordered dictionary would be slower to look things up in, and one that loses its
        # first entries looks through their places at each turn.
        self._order: deque[_Key] = deque()

    def records(self, exchanges: Iterable[Exchange]) -> list[Record]:
        known = self._known
        records: list[Record] = []
        for exchange in exchanges:
            route, pool = exchange.route, exchange.pool
            key = (
                route.name if route is not None else "",
                exchange.downstream.listener_name,
                pool.name if pool is not None else "",
                exchange.endpoint,
                exchange.request.method,
                exchange.status,
                exchange.reason,
            )
            kind = known.get(key)
            if kind is None:
                if len(known) >= _KINDS_MAX:
                    # Not all at once: that would stop the traffic whenever there are a few more.
                    del known[self._order.popleft()]
                kind = known[key] = Kind(*key)
                self._order.append(key)
            duration_us = trunc((exchange.ended - exchange.started) * 1e6)
            records.append((exchange, kind, duration_us, trunc(exchange.upstream_s * 1e6)))
        return records
