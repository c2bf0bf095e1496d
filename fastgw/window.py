"""How many there were lately, and how many of those were of the kind that matters: failures among answers, retries
among requests.

Nothing is kept for each: two numbers that only grow, and what they were when each tenth of the window began.
"""

from __future__ import annotations

# What lies back longer than the window goes by tenths of it: what is counted is never older than the window, and
# never younger than nine tenths of it.
SLOTS = 10


class Window:
    """Counts over the last `seconds`, of a clock whose time is passed in and never goes back."""

    __slots__ = (
        "_marked",
        "_marked_before",
        "_marked_then",
        "_slot",
        "_slot_ends",
        "_slot_s",
        "_total",
        "_total_before",
        "_total_then",
        "seconds",
    )

    def __init__(self, seconds: float, now: float) -> None:
        if seconds <= 0:
            raise ValueError("a window needs a length")
        self.seconds = seconds
        self._slot_s = seconds / SLOTS
        self._slot_ends = now + self._slot_s
        self._slot = 0
        self._total = 0
        self._marked = 0
        # What they were at the window's beginning, and at those of its slots.
        self._total_before = 0
        self._marked_before = 0
        self._total_then = [0] * SLOTS
        self._marked_then = [0] * SLOTS

    def add(self, now: float) -> None:
        """One more."""
        if now >= self._slot_ends:
            self._turn(now)
        self._total += 1

    def mark(self, now: float) -> None:
        """One more of the kind that matters; it is not counted among all by this."""
        if now >= self._slot_ends:
            self._turn(now)
        self._marked += 1

    def total(self, now: float) -> int:
        if now >= self._slot_ends:
            self._turn(now)
        return self._total - self._total_before

    def marked(self, now: float) -> int:
        if now >= self._slot_ends:
            self._turn(now)
        return self._marked - self._marked_before

    def clear(self) -> None:
        """Forgets what there was."""
        self._total_before = self._total
        self._marked_before = self._marked
        self._total_then = [self._total] * SLOTS
        self._marked_then = [self._marked] * SLOTS

    def _turn(self, now: float) -> None:
        steps = int((now - self._slot_ends) / self._slot_s) + 1
        self._slot_ends += steps * self._slot_s
        if steps >= SLOTS:
            self.clear()
            return
        for _ in range(steps):
            self._slot = (self._slot + 1) % SLOTS
            self._total_then[self._slot] = self._total
            self._marked_then[self._slot] = self._marked
        oldest = (self._slot + 1) % SLOTS
        self._total_before = self._total_then[oldest]
        self._marked_before = self._marked_then[oldest]
