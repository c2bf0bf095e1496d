"""A new configuration in one worker first, held against its siblings for a while: what they have counted decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastgw.counters import ANSWERS, BUCKETS, CLASSES, DURATION, FAILED_HANDSHAKES, HANDSHAKES, METHODS, ROUTE
from fastgw.policy.canary import Handshakes, Seen, departure, handshakes_departure, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgw.runtime.row_layout import LayoutKeeper
    from fastgw.runtime.workers import Workers

# Workers write what they have counted twice a second.
_LOOK_S = 0.5


class Canary:
    """Begins with what has been counted so far. `number` is the worker's that tries it; `changed` are routes that take
    other requests or do something else with them. `compares_handshakes` is False where some are meant to fail that
    did not before. A worker that has no siblings is held against what it was before."""

    def __init__(self, workers: Workers, number: int, changed: frozenset[str], compares_handshakes: bool) -> None:
        self._workers = workers
        self._number = number
        self._changed = changed
        self._compares_handshakes = compares_handshakes
        self._pid = workers.pids().get(number)
        self._before = _seen_by_each(workers.rows)
        self._handshakes_before = self._handshakes()

    async def watch(self, seconds: float, is_over: Callable[[], bool]) -> str:
        """For as long, or until it is clear that it does worse; then what is worse, else ""."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        words = ""
        # One that does worse at one look has another: a moment without a processor is no fault of a configuration.
        while (loop.time() < until or words) and not is_over():
            await asyncio.sleep(_LOOK_S)
            if self._workers.pids().get(self._number) != self._pid:
                return f"worker {self._number} has ended"
            did_worse, words = bool(words), self._departure()
            if did_worse and words:
                return words
        return ""

    def _departure(self) -> str:
        tried: dict[str, Seen] = {}
        others: dict[str, Seen] = {}
        now = _seen_by_each(self._workers.rows)
        for name, rows in now.items():
            before = self._before.get(name, [_NOTHING] * len(rows))
            new = [_less(one, other) for one, other in zip(rows, before, strict=True)]
            siblings = [seen for number, seen in enumerate(new) if number != self._number]
            _add(tried, name, new[self._number])
            _add(others, name, together(siblings) if siblings else before[self._number])
        return self._handshakes_departure() or departure(tried, others, self._changed)

    def _handshakes_departure(self) -> str:
        if not self._compares_handshakes:
            return ""
        new = [_since(now, before) for now, before in zip(self._handshakes(), self._handshakes_before, strict=True)]
        siblings = [one for number, one in enumerate(new) if number != self._number]
        ended, failed = sum(one.ended for one in siblings), sum(one.failed for one in siblings)
        others = Handshakes(ended, failed) if siblings else self._handshakes_before[self._number]
        return handshakes_departure(new[self._number], others)

    def _handshakes(self) -> list[Handshakes]:
        """By worker."""
        columns = [self._workers.column(number) for number in range(self._workers.count)]
        return [Handshakes(column[HANDSHAKES], column[FAILED_HANDSHAKES]) for column in columns]


def _since(now: Handshakes, before: Handshakes) -> Handshakes:
    ended = now.ended - before.ended
    # One may have ended between the looks at the two cells.
    return Handshakes(ended, min(now.failed - before.failed, ended))


_NOTHING = Seen(0, 0, 0, (0,) * BUCKETS)


def _add(found: dict[str, Seen], name: str, seen: Seen) -> None:
    if seen.requests:
        found[name] = seen


def _less(now: Seen, before: Seen) -> Seen:
    return Seen(
        now.requests - before.requests,
        now.failed - before.failed,
        now.refused - before.refused,
        tuple(one - other for one, other in zip(now.buckets, before.buckets, strict=True)),
    )


def _seen_by_each(layout: LayoutKeeper) -> dict[str, list[Seen]]:
    """Of each route, by worker."""
    keys = [key for key in layout.layout.places if key[0] == ROUTE]
    return {key[2]: [_seen(row) for row in layout.of_each_worker(key)] for key in keys}


def _seen(row: list[int]) -> Seen:
    classes = [sum(row[ANSWERS + hundreds : ANSWERS + (len(METHODS) + 1) * CLASSES : CLASSES]) for hundreds in range(6)]
    return Seen(sum(classes), classes[0] + classes[5], classes[4], tuple(row[DURATION : DURATION + BUCKETS]))
