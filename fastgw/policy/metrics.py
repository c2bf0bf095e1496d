"""Counts ended exchanges, many at a time.

Where a count stands is `counters`' matter. A name in it is always one of the configuration's, so no client can make
more of them.
"""

from __future__ import annotations

from collections import deque
from itertools import compress
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
    HISTOGRAM,
    LISTENER,
    LISTENER_ANSWERS,
    METHODS,
    OWN,
    REASONS,
    REFUSED,
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
# What a tally counts stands as in the rows: as at the end of a route's, from its bytes on, and then as in the histogram
# of an endpoint's.
_OF_ROUTE = OWN + HISTOGRAM - ROUTE_BYTES_IN
_BYTES_IN, _BYTES_OUT = 0, ROUTE_BYTES_OUT - ROUTE_BYTES_IN
_RETRIES = ROUTE_RETRIES - ROUTE_BYTES_IN
_DURATION, _OWN, _HEAD = DURATION - ROUTE_BYTES_IN, OWN - ROUTE_BYTES_IN, _OF_ROUTE
_DURATION_US, _OWN_US, _HEAD_US = _DURATION + BUCKETS, _OWN + BUCKETS, _HEAD + BUCKETS
# Where a number of µs is counted, by how many bits it has.
_DURATION_OF, _OWN_OF, _HEAD_OF = (tuple(begin + bucket for bucket in BUCKET_OF) for begin in (_DURATION, _OWN, _HEAD))
_NOTHING = [0] * (_OF_ROUTE + HISTOGRAM)
_CELLS = range(len(_NOTHING))
# So many kinds of exchanges are added up at once.
_TALLIES_MAX = 4096


class Tally:
    """What exchanges of one kind amount to, since it was last added to the rows."""

    __slots__ = ("_class", "_endpoint", "_listener", "_method_cell", "_reason_cell", "_route", "counts")

    def __init__(self, kind: Kind, rows: Rows) -> None:
        self._route = rows.route(kind.route)
        self._listener = rows.row(LISTENER, kind.listener)
        self._endpoint = rows.row(ENDPOINT, kind.endpoint, kind.upstream) if kind.endpoint else None
        self._method_cell = _METHOD_CELLS.get(kind.method, _OTHER_METHOD)
        self._class = kind.status // 100
        self._reason_cell = _REASON_CELLS[kind.reason] if kind.reason else 0
        self.counts = _NOTHING.copy()

    def add_to_rows(self) -> None:
        counts, route, endpoint = self.counts, self._route, self._endpoint
        exchanges = sum(counts[_DURATION:_DURATION_US])
        if not exchanges:
            return
        route[self._method_cell + self._class] += exchanges
        if self._reason_cell:
            route[self._reason_cell] += exchanges
        self._listener[LISTENER_ANSWERS + self._class] += exchanges
        if endpoint is not None:
            endpoint[ENDPOINT_ANSWERS + self._class] += sum(counts[_HEAD:_HEAD_US])
        # Most are 0; with a thousand kinds, to look at each of them by hand would stop the traffic for a while.
        for cell in compress(_CELLS, counts):
            if cell < _OF_ROUTE:
                route[ROUTE_BYTES_IN + cell] += counts[cell]
            elif endpoint is not None:
                endpoint[HEAD - _OF_ROUTE + cell] += counts[cell]
            counts[cell] = 0


class ExchangeCounts:
    """`failed` is told of a bug, from inside its handler."""

    __slots__ = ("_counted", "_failed", "_rows")

    def __init__(self, rows: Rows, failed: Callable[[], None]) -> None:
        self._rows = rows
        self._failed = failed
        # Kinds that have a tally, the longest first.
        self._counted: deque[Kind] = deque()

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
        while self._counted:
            self._forget_longest()

    def _forget_longest(self) -> None:
        kind = self._counted.popleft()
        if kind.tally is not None:
            kind.tally.add_to_rows()
            kind.tally = None

    def _tally(self, kind: Kind) -> Tally:
        if len(self._counted) >= _TALLIES_MAX:
            self._forget_longest()
        tally = kind.tally = Tally(kind, self._rows)
        self._counted.append(kind)
        return tally

    def _count(self, records: list[Record]) -> None:
        duration_of, head_of, own_of = _DURATION_OF, _HEAD_OF, _OWN_OF
        duration_sum, head_sum, own_sum, bytes_out = _DURATION_US, _HEAD_US, _OWN_US, _BYTES_OUT
        for exchange, kind, duration_us, head_us in records:
            counts = (kind.tally or self._tally(kind)).counts
            counts[duration_of[duration_us.bit_length()]] += 1
            counts[duration_sum] += duration_us
            counts[bytes_out] += exchange.bytes_out
            if exchange.bytes_in:
                counts[_BYTES_IN] += exchange.bytes_in
            if exchange.retries:
                counts[_RETRIES] += exchange.retries
            if exchange.upstream_s:
                counts[head_of[head_us.bit_length()]] += 1
                counts[head_sum] += head_us
                if exchange.tries == 1 and not exchange.in_pieces:
                    # What is left for the gateway itself.
                    own_us = duration_us - head_us
                    if exchange.connect_s or exchange.queued_s:
                        own_us = max(0, own_us - int((exchange.connect_s + exchange.queued_s) * 1e6))
                    counts[own_of[own_us.bit_length()]] += 1
                    counts[own_sum] += own_us
