"""An upstream's retries in one worker: whether a request that failed is sent again, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw.policy.retry import (
    CONNECT_FAILURE,
    GRANTED,
    SLOW,
    STATUS,
    TOO_LATE,
    RetryBudget,
    RetrySettings,
    backoff,
    refusal,
    wait_s,
)

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.snapshot import RetryPolicy, Route


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
        if route is not None and not route.retries and condition != CONNECT_FAILURE:
            return TOO_LATE
        settings = self._settings_for(route)
        number = exchange.retries + 1
        if condition == STATUS and retry_after is not None:
            wait = wait_s(settings, number, retry_after, self._wall(), self._chance)
            if wait < 0:
                return TOO_LATE
        else:
            wait = backoff(settings, number, self._chance)
        return wait if self._is_granted(settings, exchange, condition, status) else TOO_LATE

    def may_hedge(self, exchange: Exchange) -> bool:
        """Whether it is sent a second time now, with its first try still awaited."""
        return self._is_granted(self._settings_for(exchange.route), exchange, SLOW, 0)

    def names_status(self, exchange: Exchange, status: int) -> bool:
        """Whether an answer of that status is one to retry after, if all else allows it."""
        route, settings = exchange.route, self._settings
        return (route is None or route.retries) and settings.conditions & STATUS > 0 and status in settings.statuses

    def _settings_for(self, route: Route | None) -> RetrySettings:
        return self._for_any_method if route is not None and route.retries_any_method else self._settings

    def _is_granted(self, settings: RetrySettings, exchange: Exchange, condition: int, status: int) -> bool:
        is_replayable = exchange.replayable and len(exchange.pending) <= self.max_body
        method, tries, now = exchange.request.method, exchange.retries + 1, self._now()
        return refusal(settings, condition, status, method, is_replayable, tries, self._budget, now) == GRANTED
