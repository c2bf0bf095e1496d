"""Whether a request that failed is sent again, when, and whether a slow one is sent twice.

A retry has to be asked for (by what went wrong), safe (nothing was sent, or the method is idempotent, RFC 9110
§9.2.2), possible (the body is still there), and within a budget for the whole upstream: without one, retries double
the load exactly when a backend can't bear it (Google's "Site Reliability Engineering", 2016, ch. 22; Finagle's
RetryBudget). The waits between tries are exponential with full jitter (Marc Brooker, "Exponential Backoff And
Jitter", AWS, 2015). Hedging is from Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from fastgw import errors
from fastgw.errors import Failure
from fastgw.window import Window

# What went wrong, as bit flags; each failure is one of them.
CONNECT_FAILURE = 1  # no connection: not a byte was sent
RESET = 2  # the connection broke
EMPTY_ANSWER = 4  # it was closed without a byte of an answer
TIMEOUT = 8  # no answer in time
STATUS = 16  # an answer, of a chosen status
SLOW = 32  # nothing yet, but it takes long: the other try goes on (hedging)

# Why there is no retry: the stable code for logs, and what explains it.
GRANTED = ""
NOT_CONFIGURED = "retry-not-configured"
NO_TRIES_LEFT = "retry-no-tries-left"
NOT_IDEMPOTENT = "retry-not-idempotent"
BODY_GONE = "retry-body-gone"
NO_BUDGET = "retry-no-budget"
REFUSALS = {
    NOT_CONFIGURED: "The route does not retry after this.",
    NO_TRIES_LEFT: "All tries are used up.",
    NOT_IDEMPOTENT: "The method is not idempotent, so the request may have taken effect already.",
    BODY_GONE: "The request's body is not there any more to be sent again.",
    NO_BUDGET: "The retries of this upstream are at the limit of their budget.",
}

# RFC 9110 §9.2.2; the last three are so by RFC 4918, 3253 and 5323.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"))

# What a budget looks back on: Finagle's 10 s, which outlast a short burst and forget a deployment.
_BUDGET_WINDOW_S = 10.0
# A fifth of the requests, and ten a second for upstreams with little traffic: Finagle's defaults, and Envoy's share.
BUDGET_SHARE = 0.2
BUDGET_FLOOR_PER_SECOND = 10.0


def condition_of(failure: Failure, is_unanswered: bool) -> int:
    """What went wrong on a connection, as one of the flags; 0: it is none of them."""
    if failure is errors.RESPONSE_TIMEOUT:
        return TIMEOUT
    if is_unanswered:
        return EMPTY_ANSWER
    return RESET if failure is errors.UPSTREAM_RESET else 0


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """What a route retries."""

    # Where no answer was begun. Not time-outs: whoever is slow gets slower, and the client has waited already.
    conditions: int = CONNECT_FAILURE | RESET | EMPTY_ANSWER
    # With STATUS among the conditions.
    statuses: frozenset[int] = frozenset((502, 503, 504))
    # The first included. A third try finds another endpoint where two are down at once; more find a sick service.
    tries: int = 3
    # The route says that its requests may be sent twice, whatever their method.
    any_method: bool = False
    # A connection to another data centre takes as long, and a garbage collection, too.
    base_backoff: float = 0.025
    max_backoff: float = 0.25
    # A backend that asks for more gets no retry, and its answer goes to the client. Retry-After counts whole seconds.
    max_retry_after: float = 1.0


class RetryBudget:
    """The retries of an upstream: `share` of its requests of the last 10 s, or `floor_per_second` if that is more."""

    __slots__ = ("_floor", "_share", "_window")

    def __init__(
        self, now: float, share: float = BUDGET_SHARE, floor_per_second: float = BUDGET_FLOOR_PER_SECOND
    ) -> None:
        self._window = Window(_BUDGET_WINDOW_S, now)
        self._share = share
        self._floor = floor_per_second * _BUDGET_WINDOW_S

    def requested(self, now: float) -> None:
        """A request goes out, for the first time."""
        self._window.add(now)

    def has_room(self, now: float) -> bool:
        return self._window.marked(now) + 1 <= max(self._share * self._window.total(now), self._floor)

    def take(self, now: float) -> bool:
        """Whether another retry fits in; if so it is counted."""
        if not self.has_room(now):
            return False
        self._window.mark(now)
        return True


def refusal(
    settings: RetrySettings,
    condition: int,
    status: int,
    method: bytes,
    is_replayable: bool,
    tries: int,
    budget: RetryBudget,
    now: float,
) -> str:
    """Why the request is not sent again after `tries` tries, one of REFUSALS; GRANTED: it is, and the budget has paid.

    `condition` is what went wrong, `status` the answer's if it is STATUS.
    """
    if not settings.conditions & condition or (condition == STATUS and status not in settings.statuses):
        return NOT_CONFIGURED
    if tries >= settings.tries:
        return NO_TRIES_LEFT
    if condition == CONNECT_FAILURE:
        # Nothing was sent: it is safe, the body is still there, and the upstream gets the request only once, so the
        # budget is not asked either. Else one dead endpoint of three would use up all of it.
        return GRANTED
    if method not in IDEMPOTENT and not settings.any_method:
        return NOT_IDEMPOTENT
    if not is_replayable:
        return BODY_GONE
    return GRANTED if budget.take(now) else NO_BUDGET


# When.

# RFC 9110 §5.6.7, the form that is sent today.
_DATE = re.compile(rb"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) ([1-9]\d{3}) (\d\d):(\d\d):(\d\d) GMT")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
# 30 years: what has more digits is no time to wait for.
_DIGITS_MAX = 9

# Returned in place of a wait.
TOO_LATE = -1.0


def backoff(settings: RetrySettings, retry: int, chance: Callable[[], float]) -> float:
    """Seconds to wait before a retry; the first has the number 1. Anything from 0 on, so that retries spread out.

    Whoever has got no connection can go to another endpoint at once.
    """
    # The exponent is bounded, or a float would overflow.
    return chance() * min(settings.max_backoff, settings.base_backoff * 2.0 ** min(retry - 1, 32))


def wait_s(
    settings: RetrySettings, retry: int, retry_after: bytes | None, wall: float, chance: Callable[[], float]
) -> float:
    """As `backoff`, after a 429 or 503 with this Retry-After; TOO_LATE if that is further away than we wait.

    `wall` is what the wall clock shows: Retry-After may be a date (RFC 9110 §10.2.3).
    """
    asked = retry_after_s(retry_after, wall) if retry_after is not None else 0.0
    if asked > settings.max_retry_after:
        return TOO_LATE
    # Those who were told the same second don't come back at once.
    return asked + backoff(settings, retry, chance)


def retry_after_s(value: bytes, wall: float) -> float:
    """How long a Retry-After asks to wait; 0 when it can't be read, or has passed."""
    if value.isdigit():
        return float(value) if len(value) <= _DIGITS_MAX else inf
    found = _DATE.fullmatch(value)
    if found is None or found[2] not in _MONTHS:
        return 0.0
    date = (int(found[3]), _MONTHS.index(found[2]) + 1, int(found[1]), int(found[4]), int(found[5]), int(found[6]))
    return max(0.0, timegm(date) - wall)


# Hedging.

# Enough for a 95th percentile with a dozen samples beyond it.
_SAMPLES_MAX = 256
# Of the first ones; later, when all of them are new: sorting costs 15 µs, and more where it pushes others out of the
# processor's cache, which is hardly anything per sample then.
_SORTED_EVERY = 64


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When a second try goes out while the first is still awaited."""

    # So that one request of twenty goes out twice ("The Tail at Scale" suggests it).
    quantile: float = 0.95
    # What is faster is not worth a second request.
    min_delay: float = 0.01


class HedgeDelay:
    """Learns from an upstream's latencies after how many seconds a second try goes out: `seconds`.

    It is infinite until enough is known. Whether a try is allowed then is `refusal`'s matter, with SLOW.
    """

    __slots__ = ("_count", "_samples", "_settings", "seconds")

    def __init__(self, settings: HedgeSettings) -> None:
        self._settings = settings
        self._samples = [0.0] * _SAMPLES_MAX
        self._count = 0
        self.seconds = inf

    def sample(self, seconds: float) -> None:
        """What a first try took to its answer's head; if a second try has won, after how long that went out.

        Leaving the latter out would lose the slow ones, and the delay would sink and sink. With the time until the
        second answer it would grow and grow while an endpoint that gets more than its twentieth never answers: by
        that one's latency each time, and with it the wait of everybody who is sent there. So 6.6% go out twice instead
        of 5% where latencies are distributed exponentially.
        """
        self._samples[self._count % _SAMPLES_MAX] = seconds
        self._count += 1
        if not self._count % (_SORTED_EVERY if self._count < _SAMPLES_MAX else _SAMPLES_MAX):
            self._learn()

    def _learn(self) -> None:
        known = sorted(self._samples[: self._count])
        rank = ceil(self._settings.quantile * len(known))
        self.seconds = max(self._settings.min_delay, known[max(rank, 1) - 1])
