"""What happens to the gateway as a whole, numbered: reloads, and workers that die."""

from __future__ import annotations

import time

from fastgw.runtime.report import report

DONE = "done"
REFUSED = "refused"
LOST = "lost"


class Events:
    """Says each event on standard error."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, kind: str, outcome: str, detail: str) -> None:
        """`kind` is one of reload, worker; `outcome` one of the above; `detail` is for people."""
        self._count += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        report(f"event {self._count}: {kind} {outcome} at {at}: {detail}")
