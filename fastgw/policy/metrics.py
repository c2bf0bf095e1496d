"""Counts ended exchanges, many at a time.

Where a count stands is `counters`' matter. A name in it is always one of the configuration's, so no client can make
more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgw.counters import (
    ANSWERS,
    BUCKET_OF,
    BUCKETS,
    CLASSES,
    DURATION,
    ENDPOINT,
    ENDPOINT_ANSWERS,
    HEAD,
    LISTENER,
    LISTENER_ANSWERS,
    METHODS,
    OWN,
    REASONS,
    REFUSED,
    ROUTE,
    ROUTE_BYTES_IN,
    ROUTE_BYTES_OUT,
    ROUTE_RETRIES,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgw.exchange import Exchange
    from fastgw.rows import Rows

# Where the classes of a method begin.
_METHOD_CELLS = {method: ANSWERS + number * CLASSES for number, method in enumerate(METHODS)}
_OTHER_METHOD = ANSWERS + len(METHODS) * CLASSES
# Of histograms: by a number's bits.
_DURATION_CELLS = tuple([DURATION + bucket for bucket in BUCKET_OF])
_HEAD_CELLS = tuple([HEAD + bucket for bucket in BUCKET_OF])
_OWN_CELLS = tuple([OWN + bucket for bucket in BUCKET_OF])
_DURATION_SUM, _HEAD_SUM, _OWN_SUM = DURATION + BUCKETS, HEAD + BUCKETS, OWN + BUCKETS
_REASON_CELLS = {reason: REFUSED + number for number, reason in enumerate(REASONS)}


class _RowsOf(dict[str, list[int]]):
    """The rows of one kind, by name; of the endpoints of one upstream. A look into it is all that a request pays."""

    def __init__(self, rows: Rows, kind: str, of: str = "") -> None:
        super().__init__()
        self._rows = rows
        self._kind = kind
        self._of = of

    def __missing__(self, name: str) -> list[int]:
        row = self[name] = self._rows.row(self._kind, name, self._of)
        return row


class _Endpoints(dict[str, _RowsOf]):
    """Those of each upstream."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, upstream: str) -> _RowsOf:
        endpoints = self[upstream] = _RowsOf(self._rows, ENDPOINT, upstream)
        return endpoints


class ExchangeCounts:
    """`failed` is told of a bug, from inside its handler."""

    __slots__ = ("_endpoints", "_failed", "_listeners", "_routes", "_rows")

    def __init__(self, rows: Rows, failed: Callable[[], None]) -> None:
        self._rows = rows
        self._failed = failed
        self.look_up_again()

    def look_up_again(self) -> None:
        """The rows are others than before."""
        self._routes = _RowsOf(self._rows, ROUTE)
        self._listeners = _RowsOf(self._rows, LISTENER)
        self._endpoints = _Endpoints(self._rows)

    def take(self, exchanges: list[Exchange]) -> None:
        try:
            self._count(exchanges)
        except Exception:
            self._failed()

    def _count(self, exchanges: list[Exchange]) -> None:
        routes, listeners, endpoints = self._routes, self._listeners, self._endpoints
        cell_of_method = _METHOD_CELLS.get
        for exchange in exchanges:
            route = exchange.route
            row = routes[route.name if route is not None else ""]
            hundreds = exchange.status // 100
            row[cell_of_method(exchange.request.method, _OTHER_METHOD) + hundreds] += 1
            if exchange.bytes_in:
                row[ROUTE_BYTES_IN] += exchange.bytes_in
            row[ROUTE_BYTES_OUT] += exchange.bytes_out
            listeners[exchange.downstream.listener_name][LISTENER_ANSWERS + hundreds] += 1
            took_us = int((exchange.ended - exchange.started) * 1e6)
            row[_DURATION_CELLS[took_us.bit_length()]] += 1
            row[_DURATION_SUM] += took_us
            pool = exchange.pool
            if exchange.upstream_s and pool is not None:
                head_us = int(exchange.upstream_s * 1e6)
                endpoint = endpoints[pool.name][exchange.endpoint]
                endpoint[ENDPOINT_ANSWERS + hundreds] += 1
                endpoint[_HEAD_CELLS[head_us.bit_length()]] += 1
                endpoint[_HEAD_SUM] += head_us
                if exchange.tries == 1 and not exchange.in_pieces:
                    # What is left for the gateway itself.
                    own_us = took_us - head_us
                    if exchange.connect_s or exchange.queued_s:
                        own_us = max(0, own_us - int((exchange.connect_s + exchange.queued_s) * 1e6))
                    row[_OWN_CELLS[own_us.bit_length()]] += 1
                    row[_OWN_SUM] += own_us
            if exchange.reason:
                row[_REASON_CELLS[exchange.reason]] += 1
            if exchange.retries:
                row[ROUTE_RETRIES] += exchange.retries
