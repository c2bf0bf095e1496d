"""Whether an upstream is spared: a circuit breaker (Michael Nygard, "Release It!", 2007).

Closed, it lets everything pass and counts. When too much fails it opens, and requests are refused without a try, so
that neither the backend nor those who would wait for it are kept busy. After a while it is half-open: a few requests
are let through, and what becomes of them decides. The table below is all of it. What counts as a failure is the
caller's word.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fastgw.window import Window

CLOSED = 0
OPEN = 1
HALF_OPEN = 2
STATES = ("closed", "open", "half-open")

# Enough successes to be convinced, enough failures to be convinced, time is up.
SUCCESS = 0
FAILURE = 1
TIMER = 2
EVENTS = ("success", "failure", "timer")

# A row for each state, a column for each event.
TRANSITIONS = (
    #  success    failure  timer
    (CLOSED, OPEN, CLOSED),  # closed
    (OPEN, OPEN, HALF_OPEN),  # open: a late answer changes nothing
    (CLOSED, OPEN, HALF_OPEN),  # half-open: the time is that of trials that were never answered; others are let in
)


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When it opens, for how long, and what it takes to close it."""

    # In a row. A whole upstream is only given up for more than a single endpoint is ejected for. 0: off.
    consecutive_failures: int = 20
    # More than this share of the answers in the window. 1: off.
    failure_rate: float = 0.5
    window: float = 10.0
    # Below it, a share says nothing.
    min_answers: int = 50
    # Short: each trial costs a few requests, and each second open costs all of them.
    open_for: float = 5.0
    # Requests that are let through at once, half-open; all of them have to succeed.
    trials: int = 3


class CircuitBreaker:
    """One upstream's, in one worker. The caller asks before each request, and tells what became of it."""

    __slots__ = ("_failures_in_row", "_settings", "_successes", "_trials_left", "_until", "_window", "opened", "state")

    def __init__(self, settings: BreakerSettings, now: float) -> None:
        self._settings = settings
        self._window = Window(settings.window, now)
        self.state = CLOSED
        # How often it has opened.
        self.opened = 0
        # Of a state that ends by itself.
        self._until = 0.0
        self._failures_in_row = 0
        self._trials_left = 0
        self._successes = 0

    def __repr__(self) -> str:
        return f"<CircuitBreaker {STATES[self.state]}>"

    def allows(self, now: float) -> bool:
        """Whether a request may go out now; one that may is told of later, by `succeeded` or `failed`."""
        if self.state == CLOSED:
            return True
        if now >= self._until:
            self._happen(TIMER, now)
        if not self._trials_left:
            return False
        self._trials_left -= 1
        return True

    def passes_checks(self, now: float) -> None:
        """An endpoint that has failed active checks passes them again: trials need not wait any longer."""
        if self.state == OPEN:
            self._until = now

    def retry_after_s(self, now: float) -> int:
        """For those who are refused: whole seconds, at least one."""
        return max(1, ceil(self._until - now)) if self.state != CLOSED else 0

    def succeeded(self, now: float) -> None:
        """A good answer. Half-open, one to an older request counts as well: it tells of the backend as it is now."""
        if self.state == CLOSED:
            self._window.add(now)
            self._failures_in_row = 0
        elif self.state == HALF_OPEN:
            self._successes += 1
            if self._successes >= self._settings.trials:
                self._happen(SUCCESS, now)

    def failed(self, now: float) -> None:
        """A request that failed, by whatever the caller calls so."""
        if self.state == CLOSED:
            self._window.add(now)
            self._window.mark(now)
            self._failures_in_row += 1
            if not self._has_failed_too_much(now):
                return
        self._happen(FAILURE, now)

    def _has_failed_too_much(self, now: float) -> bool:
        settings = self._settings
        if 0 < settings.consecutive_failures <= self._failures_in_row:
            return True
        answers = self._window.total(now)
        return answers >= settings.min_answers and self._window.marked(now) > settings.failure_rate * answers

    def _happen(self, event: int, now: float) -> None:
        """The one place where the state changes."""
        before = self.state
        self.state = TRANSITIONS[before][event]
        if self.state == HALF_OPEN:
            self._trials_left = self._settings.trials
            self._successes = 0
            self._until = now + self._settings.open_for
        elif self.state != before:
            # What was before the change is not held against the upstream after it.
            self._trials_left = 0
            self._failures_in_row = 0
            self._window.clear()
            if self.state == OPEN:
                self.opened += 1
                self._until = now + self._settings.open_for
