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

    from fastgw.policy.kind import Kind, Record
    from fastgw.rows import Rows

# Where the classes of a method begin.
_METHOD_CELLS = {method: ANSWERS + number * CLASSES for number, method in enumerate(METHODS)}
_OTHER_METHOD = ANSWERS + len(METHODS) * CLASSES
_REASON_CELLS = {reason: REFUSED + number for number, reason in enumerate(REASONS)}
# An empty histogram.
_NONE = [0] * len(BUCKET_OF)
# So many kinds of exchanges are added up at once.
_TALLIES_MAX = 1024


class Tally:
    """What exchanges of one kind amount to, since it was last added to the rows. Histograms are by a number's bits."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "duration_us",
        "durations",
        "endpoint",
        "head_us",
        "heads",
        "hundreds",
        "listener",
        "method_cell",
        "own_us",
        "owns",
        "reason_cell",
        "retries",
        "route",
    )

    def __init__(self, kind: Kind, rows: Rows) -> None:
        self.route = rows.row(ROUTE, kind.route)
        self.listener = rows.row(LISTENER, kind.listener)
        self.endpoint = rows.row(ENDPOINT, kind.endpoint, kind.upstream) if kind.endpoint else None
        self.method_cell = _METHOD_CELLS.get(kind.method, _OTHER_METHOD)
        self.hundreds = kind.status // 100
        self.reason_cell = _REASON_CELLS[kind.reason] if kind.reason else 0
        self._clear()

    def _clear(self) -> None:
        self.durations, self.heads, self.owns = _NONE.copy(), _NONE.copy(), _NONE.copy()
        self.duration_us = self.head_us = self.own_us = 0
        self.bytes_in = self.bytes_out = self.retries = 0

    def add_to_rows(self) -> None:
        count = sum(self.durations)
        if not count:
            return
        route = self.route
        route[self.method_cell + self.hundreds] += count
        route[ROUTE_BYTES_IN] += self.bytes_in
        route[ROUTE_BYTES_OUT] += self.bytes_out
        route[ROUTE_RETRIES] += self.retries
        if self.reason_cell:
            route[self.reason_cell] += count
        self.listener[LISTENER_ANSWERS + self.hundreds] += count
        _add(route, DURATION, self.durations, self.duration_us)
        _add(route, OWN, self.owns, self.own_us)
        if self.endpoint is not None:
            self.endpoint[ENDPOINT_ANSWERS + self.hundreds] += sum(self.heads)
            _add(self.endpoint, HEAD, self.heads, self.head_us)
        self._clear()


def _add(row: list[int], begin: int, by_bits: list[int], total_us: int) -> None:
    """To the histogram that begins there."""
    for bucket, count in zip(BUCKET_OF, by_bits, strict=True):
        row[begin + bucket] += count
    row[begin + BUCKETS] += total_us


class ExchangeCounts:
    """`failed` is told of a bug, from inside its handler."""

    __slots__ = ("_counted", "_failed", "_rows")

    def __init__(self, rows: Rows, failed: Callable[[], None]) -> None:
        self._rows = rows
        self._failed = failed
        # Kinds that have a tally.
        self._counted: list[Kind] = []

    def take(self, records: list[Record]) -> None:
        try:
            self._count(records)
        except Exception:
            self._failed()

    def add_to_rows(self) -> None:
        """All that was counted is in the rows then."""
        for kind in self._counted:
            if kind.tally is not None:
                kind.tally.add_to_rows()

    def look_up_again(self) -> None:
        """To be called before the rows change: these get all that was counted."""
        self.add_to_rows()
        for kind in self._counted:
            kind.tally = None
        self._counted.clear()

    def _tally(self, kind: Kind) -> Tally:
        if len(self._counted) >= _TALLIES_MAX:
            self.look_up_again()
        tally = kind.tally = Tally(kind, self._rows)
        self._counted.append(kind)
        return tally

    def _count(self, records: list[Record]) -> None:
        for exchange, kind, duration_us, head_us in records:
            tally = kind.tally or self._tally(kind)
            tally.durations[duration_us.bit_length()] += 1
            tally.duration_us += duration_us
            tally.bytes_out += exchange.bytes_out
            if exchange.bytes_in:
                tally.bytes_in += exchange.bytes_in
            if exchange.retries:
                tally.retries += exchange.retries
            if exchange.upstream_s:
                tally.heads[head_us.bit_length()] += 1
                tally.head_us += head_us
                if exchange.tries == 1 and not exchange.in_pieces:
                    # What is left for the gateway itself.
                    own_us = duration_us - head_us
                    if exchange.connect_s or exchange.queued_s:
                        own_us = max(0, own_us - int((exchange.connect_s + exchange.queued_s) * 1e6))
                    tally.owns[own_us.bit_length()] += 1
                    tally.own_us += own_us
