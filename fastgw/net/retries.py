"""An upstream's retries in one worker: whether a request that failed is sent again, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw.policy.retry import CONNECT_FAILURE, GRANTED, STATUS, TOO_LATE, RetryBudget, backoff, refusal, wait_s

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.snapshot import RetryPolicy


class Retries:
    """`max_body` is how much of a request's body is kept, in bytes. `wall` tells the time of day, in seconds."""

    def __init__(
        self, policy: RetryPolicy, now: Callable[[], float], wall: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self.max_body = policy.max_body
        self._settings = policy.settings
        self._for_any_method = replace(policy.settings, any_method=True)
        self._budget = RetryBudget(now(), policy.budget_share, policy.budget_floor)
        self._now = now
        self._wall = wall
        self._chance = chance

    def requested(self) -> None:
        """A request goes out for the first time."""
        self._budget.requested(self._now())

    def wait_s(self, exchange: Exchange, condition: int, status: int, retry_after: bytes | None) -> float:
        """How long to wait before the next try; negative: there is none."""
        route = exchange.route
        settings = self._settings
        if route is not None:
            if not route.retries and condition != CONNECT_FAILURE:
                return TOO_LATE
            if route.retries_any_method:
                settings = self._for_any_method
        number = exchange.retries + 1
        if condition == STATUS and retry_after is not None:
            wait = wait_s(settings, number, retry_after, self._wall(), self._chance)
            if wait < 0:
                return TOO_LATE
        else:
            wait = backoff(settings, number, self._chance)
        is_replayable = exchange.replayable and len(exchange.pending) <= self.max_body
        method, budget, now = exchange.request.method, self._budget, self._now()
        why = refusal(settings, condition, status, method, is_replayable, number, budget, now)
        return wait if why == GRANTED else TOO_LATE
