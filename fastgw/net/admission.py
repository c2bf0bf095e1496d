"""Whether an upstream is asked at all: its circuit breaker, and its adaptive limit on what awaits an answer.

Both look at requests, not at tries: one that succeeds in the end has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw import errors
from fastgw.errors import Failure
from fastgw.policy.breaker import CLOSED, OPEN, STATES, CircuitBreaker
from fastgw.policy.concurrency import ConcurrencyLimit

if TYPE_CHECKING:
    from fastgw.snapshot import Upstream


# What has become of an upstream or one of its endpoints: which of both, a word for it, and a line for people.
Tell = Callable[[str, str, str], None]


class Admission:
    """Of one worker. `in_flight` counts the requests that await an answer's head: streams and tunnels don't. `report`
    and `tell` are told of the breaker."""

    def __init__(
        self, upstream: Upstream, now: Callable[[], float], report: Callable[[str], None], tell: Tell | None = None
    ) -> None:
        self._name = upstream.name
        self._now = now
        self._report = report
        self._tell = tell
        self._breaker = CircuitBreaker(upstream.breaker, now()) if upstream.breaker else None
        self._limit = ConcurrencyLimit(upstream.concurrency, now()) if upstream.concurrency else None
        self.in_flight = 0

    @property
    def breaker_state(self) -> int:
        """One of policy.breaker."""
        return self._breaker.state if self._breaker is not None else CLOSED

    def refusal(self) -> Failure | None:
        """Why a new request is refused; None: it is admitted, and `concluded` is called for it."""
        limit, breaker = self._limit, self._breaker
        # The breaker counts those that it lets through, so it comes last.
        if limit is not None and self.in_flight >= limit.limit:
            return errors.OVERLOADED
        if breaker is not None and breaker.state != CLOSED:
            now, before = self._now(), breaker.state
            is_allowed = breaker.allows(now)
            if breaker.state != before:
                self._say(breaker.state)
            if not is_allowed:
                return replace(errors.BREAKER_OPEN, retry_after_s=breaker.retry_after_s(now))
        self.in_flight += 1
        return None

    def concluded(self, is_failure: bool | None) -> None:
        """A request has its answer's head, or will have none; None: that says nothing of the upstream."""
        self.in_flight -= 1
        breaker = self._breaker
        if breaker is None or is_failure is None:
            return
        before = breaker.state
        if is_failure:
            breaker.failed(self._now())
        else:
            breaker.succeeded(self._now())
        if breaker.state != before:
            self._say(breaker.state)

    def _say(self, state: int) -> None:
        line = f"upstream {self._name}: the circuit breaker is {STATES[state]}"
        # Whoever reads what the program says of itself has no use for what lasts a moment.
        if state in (OPEN, CLOSED):
            self._report(line)
        if self._tell is not None:
            self._tell("upstream", f"breaker-{STATES[state]}", line)

    def passes_checks(self) -> None:
        """An endpoint is healthy again."""
        if self._breaker is not None:
            self._breaker.passes_checks(self._now())

    def sample(self, seconds: float, was_dropped: bool) -> None:
        """What a try took; `was_dropped`: it came to nothing, or to an answer that means overload."""
        if self._limit is not None:
            self._limit.sample(seconds, self.in_flight, was_dropped, self._now())
