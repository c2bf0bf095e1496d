"""What happens to the gateway as a whole, numbered: reloads, upgrades, workers that die, and certificates."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from fastgw.runtime.report import report

DONE = "done"
REFUSED = "refused"
LOST = "lost"
FAILED = "failed"
WAITS = "waits"

# How many are remembered.
_LAST = 20


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is one of reload, upgrade, worker, acme; `outcome` one of the above; `at` the time (RFC 3339); `detail` is
    for people."""

    number: int
    kind: str
    outcome: str
    at: str
    detail: str


class Events:
    """Says each event on standard error, and remembers the last ones. There have been `count`."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.last: deque[Event] = deque(maxlen=_LAST)

    def add(self, kind: str, outcome: str, detail: str) -> Event:
        self.count += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = Event(self.count, kind, outcome, at, detail)
        self.last.append(event)
        report(f"event {event.number}: {kind} {outcome} at {at}: {detail}")
        return event
