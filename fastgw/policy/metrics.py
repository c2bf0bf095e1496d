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


# So many kinds of exchanges are added up at once, which take 300 bytes each.
_TALLIES_MAX = 4096

# What exchanges of a kind have in common: the names of route, listener, upstream and endpoint, method and status.
_Kind = tuple[str, str, str, str, bytes, int]


class _Tally:
    """What exchanges of one kind amount to, since it was last added to the rows; and the rows, for what goes there at
    once. One look-up is all that an exchange pays for where it counts."""

    __slots__ = (
        "answers",
        "bytes_in",
        "bytes_out",
        "duration_us",
        "endpoint",
        "head_us",
        "heads",
        "hundreds",
        "listener",
        "method_cell",
        "own_us",
        "route",
    )

    def __init__(self, route: list[int], listener: list[int], endpoint: list[int], method: bytes, status: int) -> None:
        self.route = route
        self.listener = listener
        self.endpoint = endpoint
        self.method_cell = _METHOD_CELLS.get(method, _OTHER_METHOD)
        self.hundreds = status // 100
        self.clear()

    def clear(self) -> None:
        self.answers = self.heads = 0
        self.bytes_in = self.bytes_out = 0
        self.duration_us = self.head_us = self.own_us = 0

    def add_to_rows(self) -> None:
        route, endpoint = self.route, self.endpoint
        route[self.method_cell + self.hundreds] += self.answers
        route[ROUTE_BYTES_IN] += self.bytes_in
        route[ROUTE_BYTES_OUT] += self.bytes_out
        route[_DURATION_SUM] += self.duration_us
        route[_OWN_SUM] += self.own_us
        self.listener[LISTENER_ANSWERS + self.hundreds] += self.answers
        if self.heads:
            endpoint[ENDPOINT_ANSWERS + self.hundreds] += self.heads
            endpoint[_HEAD_SUM] += self.head_us
        self.clear()


class ExchangeCounts:
    """`failed` is told of a bug, from inside its handler."""

    __slots__ = ("_failed", "_rows", "_tallies")

    def __init__(self, rows: Rows, failed: Callable[[], None]) -> None:
        self._rows = rows
        self._failed = failed
        self._tallies: dict[_Kind, _Tally] = {}

    def take(self, exchanges: list[Exchange]) -> None:
        try:
            self._count(exchanges)
        except Exception:
            self._failed()

    def add_to_rows(self) -> None:
        """All that was counted is in the rows then."""
        for tally in self._tallies.values():
            if tally.answers:
                tally.add_to_rows()

    def look_up_again(self) -> None:
        """To be called before the rows change: these get all that was counted."""
        self.add_to_rows()
        self._tallies.clear()

    def _tally(self, kind: _Kind) -> _Tally:
        if len(self._tallies) >= _TALLIES_MAX:
            self.look_up_again()
        route, listener, upstream, endpoint, method, status = kind
        tally = self._tallies[kind] = _Tally(
            self._rows.row(ROUTE, route),
            self._rows.row(LISTENER, listener),
            # Nothing is written to that of no endpoint.
            self._rows.row(ENDPOINT, endpoint, upstream) if endpoint else [],
            method,
            status,
        )
        return tally

    def _count(self, exchanges: list[Exchange]) -> None:
        known = self._tallies.get
        for exchange in exchanges:
            route, pool = exchange.route, exchange.pool
            kind = (
                route.name if route is not None else "",
                exchange.downstream.listener_name,
                pool.name if pool is not None else "",
                exchange.endpoint,
                exchange.request.method,
                exchange.status,
            )
            tally = known(kind) or self._tally(kind)
            row = tally.route
            tally.answers += 1
            tally.bytes_out += exchange.bytes_out
            if exchange.bytes_in:
                tally.bytes_in += exchange.bytes_in
            duration_us = int((exchange.ended - exchange.started) * 1e6)
            tally.duration_us += duration_us
            row[_DURATION_CELLS[duration_us.bit_length()]] += 1
            if exchange.upstream_s and pool is not None:
                head_us = int(exchange.upstream_s * 1e6)
                tally.heads += 1
                tally.head_us += head_us
                tally.endpoint[_HEAD_CELLS[head_us.bit_length()]] += 1
                if exchange.tries == 1 and not exchange.in_pieces:
                    # What is left for the gateway itself.
                    own_us = duration_us - head_us
                    if exchange.connect_s or exchange.queued_s:
                        own_us = max(0, own_us - int((exchange.connect_s + exchange.queued_s) * 1e6))
                    tally.own_us += own_us
                    row[_OWN_CELLS[own_us.bit_length()]] += 1
            if exchange.reason:
                row[_REASON_CELLS[exchange.reason]] += 1
            if exchange.retries:
                row[ROUTE_RETRIES] += exchange.retries
