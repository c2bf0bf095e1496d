"""What happens to the gateway as a whole, numbered: reloads, upgrades, workers that die, certificates; and, without a
number, what becomes of its endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastgw.runtime.report import report

DONE = "done"
REFUSED = "refused"
LOST = "lost"
FAILED = "failed"
WAITS = "waits"

# What is counted from 0 on: a counter that begins at 1 has not grown yet for Prometheus, so that nobody is told.
_COUNTED = (
    *(("reload", DONE), ("reload", REFUSED), ("upgrade", DONE), ("upgrade", REFUSED)),
    *(("worker", LOST), ("acme", DONE), ("acme", FAILED)),
)
# How many are remembered: of what becomes of upstreams and their endpoints, and, so that those don't push them out, of
# all else.
_LAST = 20
_OF_UPSTREAMS = ("endpoint", "upstream")
# By how many a listener may be behind.
_BEHIND_MAX = 200


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is one of reload, upgrade, worker, acme, endpoint, upstream, tracing; `outcome` one of the above, or a
    worker's word for it; `at` the time (RFC 3339); `detail` is for people."""

    number: int
    kind: str
    outcome: str
    at: str
    detail: str


class Events:
    """Says each event on standard error, tells those who listen, and remembers the last ones."""

    def __init__(self) -> None:
        self.last: deque[Event] = deque()
        # How many there were of each kind and outcome.
        self.counts: Counter[tuple[str, str]] = Counter(dict.fromkeys(_COUNTED, 0))
        self._listening: set[asyncio.Queue[Event | None]] = set()

    def next(self, kind: str, outcome: str, detail: str) -> Event:
        """One that is about to happen."""
        number = max((event.number for event in self.last), default=0) + 1
        return Event(number, kind, outcome, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), detail)

    def add(self, kind: str, outcome: str, detail: str) -> Event:
        return self.tell(self.next(kind, outcome, detail))

    def tell(self, event: Event) -> Event:
        """It has happened."""
        self._remember(event)
        report(f"event {event.number}: {event.kind} {event.outcome} at {event.at}: {event.detail}")
        self._pass_on(event)
        return event

    def note(self, kind: str, outcome: str, detail: str) -> None:
        """It has happened to a worker, which has said so itself."""
        event = self.next(kind, outcome, detail)
        self._remember(event)
        self._pass_on(event)

    def _remember(self, event: Event) -> None:
        self.counts[event.kind, event.outcome] += 1
        self._keep(event)

    def _keep(self, event: Event) -> None:
        self.last.append(event)
        alike = [one for one in self.last if (one.kind in _OF_UPSTREAMS) == (event.kind in _OF_UPSTREAMS)]
        if len(alike) > _LAST:
            self.last.remove(alike[0])

    def pass_by(self, kind: str, outcome: str, detail: str) -> None:
        """What happens all the time, such as a health check that fails: it has no number, and is not remembered."""
        report(detail)
        self._pass_on(Event(0, kind, outcome, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), detail))

    def _pass_on(self, event: Event) -> None:
        for queue in tuple(self._listening):
            # Whoever is so far behind finds out by the numbers.
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Event | None]]:
        """All events from now on; None: no more are told."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BEHIND_MAX)
        self._listening.add(queue)
        try:
            yield queue
        finally:
            self._listening.discard(queue)

    def hang_up(self) -> None:
        """Whoever listens is to ask again, or elsewhere."""
        for queue in self._listening:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    def go_on_from(self, history: Iterable[Event]) -> None:
        """What happened in the gateway whose place this one has taken; its own events stay behind that."""
        own, self.last = self.last, deque()
        for event in (*history, *own):
            self._keep(event)
