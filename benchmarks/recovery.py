"""How soon clients are served again when all endpoints have failed and return, and what retries ask of them meanwhile.

All three fail at once, for five seconds, with everything on that is there against it: health checks, ejection of
outliers, retries within a budget and, in most cases, a breaker. Requests have numbers, so that the endpoints can tell
those that were sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from time import monotonic

from benchmarks.clients import Clients, Outcome, errors
from benchmarks.guarded import gateway_before
from benchmarks.results import (
    FAILED_FOR,
    FIRST_SUCCESS,
    RECOVERED,
    REQUESTS_ASKED,
    REQUESTS_SEEN,
    RETRIES,
    RETRIES_ALLOWED,
    Sample,
)
from benchmarks.troubled import CHECK_PATH, FAILURES, REFUSED, UNAVAILABLE, WELL, become, started

ENDPOINTS = 3
CONNECTIONS = 64
INTERVALS_MS = (1000, 500)
FAILURE_S = 5.0

_UPSTREAM = """\
balance = "power-of-two"
connect_timeout = "1s"
response_timeout = "1s"
health = {{ path = "{path}", interval = "{interval_ms}ms", timeout = "500ms" }}
outliers = {{ latency_factor = 5 }}
retry = {{ on = ["connect-failure", "reset", "empty-answer", "timeout", "503"] }}
breaker = {breaker}
"""
# The budget's: a fifth of the requests of the last 10 s, or 10 a second.
_BUDGET_SHARE, _BUDGET_FLOOR, _BUDGET_WINDOW_S = 0.2, 100, 10.0
_WARM_UP_S = 4.0
# More than the breaker's time and that of its trials.
_OBSERVED_S = 8.0
_SMOKE_S = 2.0
_SLICE_S = 0.1
_GOOD_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class RecoveryCase:
    failure: str
    interval_ms: int
    breaks: bool = True

    @property
    def name(self) -> str:
        return f"{self.failure}, checked each {self.interval_ms} ms" + ("" if self.breaks else ", no breaker")


def cases(smoke: bool) -> list[RecoveryCase]:
    if smoke:
        return [RecoveryCase(UNAVAILABLE, 500)]
    kinds = [RecoveryCase(failure, interval) for failure in FAILURES for interval in INTERVALS_MS]
    # Without it, it is the budget alone that keeps retries from them.
    return kinds + [RecoveryCase(failure, 500, False) for failure in FAILURES if failure != REFUSED]


async def measure(
    case: RecoveryCase, number: int, smoke: bool, cores: Sequence[int], load_cores: Sequence[int], place: Path
) -> Sample:
    """One turn. The failure lasts a second longer in each of three rounds: the breaker's own time shall not end with
    it."""
    upstream = _UPSTREAM.format(path=CHECK_PATH, interval_ms=case.interval_ms, breaker=str(case.breaks).lower())
    seconds = 1.0 if smoke else FAILURE_S + (number - 1) % 3
    warm_up_s, observed_s = (_SMOKE_S, _SMOKE_S) if smoke else (_WARM_UP_S, _OBSERVED_S)
    with started(load_cores, ENDPOINTS) as endpoints, gateway_before(endpoints, upstream, cores, place) as gateway:
        clients = Clients(gateway.port)
        await clients.start(CONNECTIONS)
        await asyncio.sleep(warm_up_s)
        failed = monotonic()
        seen_before = become(case.failure, endpoints)
        await asyncio.sleep(seconds)
        seen = become(WELL, endpoints)
        returned = monotonic()
        await asyncio.sleep(observed_s)
        await clients.stop()
        interval_s = case.interval_ms / 1000
        after = clients.since(returned, returned + observed_s)
        # A request that was on its way at the beginning has been seen before.
        first_tries = len(set(seen) - set(seen_before))
        figures = {
            FIRST_SUCCESS: first_success(after, returned) / interval_s,
            RECOVERED: recovered(after, returned) / interval_s,
            FAILED_FOR: seconds,
            RETRIES: len(seen) - first_tries,
            RETRIES_ALLOWED: allowed(clients.since(failed - _BUDGET_WINDOW_S, failed), len(set(seen))),
            REQUESTS_ASKED: len(clients.since(failed, returned)),
            REQUESTS_SEEN: len(seen),
        }
        return Sample("recovery", case.name, number, figures)


def first_success(outcomes: Sequence[Outcome], returned: float) -> float:
    """Seconds from the endpoints' return; nan: there was none."""
    return next((outcome.at - returned for outcome in outcomes if outcome.is_good), nan)


def recovered(outcomes: Sequence[Outcome], returned: float) -> float:
    """Seconds until the end of the last slice of a tenth of a second in which more than one of a hundred failed."""
    slices: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        slices.setdefault(int((outcome.at - returned) / _SLICE_S), []).append(outcome)
    bad = [number for number, some in slices.items() if errors(some) > (1 - _GOOD_SHARE) * len(some)]
    return (max(bad, default=-1) + 1) * _SLICE_S


def allowed(before: Sequence[Outcome], requests: int) -> float:
    """How many retries the budget allows at the most, in a failure that is no longer than its window: a share of what
    it looks back on at the beginning, and of what comes. What the breaker refuses does not count."""
    return max(_BUDGET_SHARE * (len(before) + requests), _BUDGET_FLOOR)
