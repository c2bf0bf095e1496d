"""What has happened to the gateway as a whole: reloads, upgrades, workers that died. The last of them are kept."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from fastgw.runtime.report import report

_KEPT = 100

DONE = "done"
REFUSED = "refused"
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Event:
    """`time` is UTC; `kind` one of start, reload, upgrade, worker; `outcome` one of done, refused, lost."""

    number: int
    time: str
    kind: str
    outcome: str
    detail: str


class Events:
    """Numbers each event, says it on standard error, and remembers it."""

    def __init__(self) -> None:
        self._count = 0
        self.recent: deque[Event] = deque(maxlen=_KEPT)

    def add(self, kind: str, outcome: str, detail: str) -> Event:
        self._count += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = Event(self._count, at, kind, outcome, detail)
        self.recent.append(event)
        report(f"event {event.number}: {kind} {outcome}: {detail}")
        return event
