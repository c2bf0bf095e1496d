"""Connections that are refused before they have said a request: they are told on standard error.

Anyone can make as many as they like, so few of the lines are written, and the others counted.
"""

from __future__ import annotations

from collections.abc import Callable

# As many lines in a second show what goes on; scanners and attackers can cause thousands.
_LINES_MAX = 10
_WINDOW_S = 1.0


class Refusals:
    """Of one worker. `report` writes a line, `now` tells the seconds of a monotonic clock."""

    def __init__(self, report: Callable[[str], None], now: Callable[[], float]) -> None:
        self._report = report
        self._now = now
        self._window_ends = 0.0
        self._lines = 0
        self._untold = 0

    def tell(self, listener: str, what: str) -> None:
        """One connection to `listener` was refused; `what` says whose, and why."""
        self.tick(self._now())
        if self._lines >= _LINES_MAX:
            self._untold += 1
            return
        self._lines += 1
        self._report(f"listener {listener}: {what}")

    def tick(self, now: float) -> None:
        """To be called now and then: says how many were not told."""
        if now < self._window_ends:
            return
        untold, self._untold = self._untold, 0
        if untold:
            self._report(f"{untold} more connections were refused within a second")
        self._window_ends = now + _WINDOW_S
        self._lines = 0
