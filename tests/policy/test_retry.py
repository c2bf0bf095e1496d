from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.retry import (
    BODY_GONE,
    CONNECT_FAILURE,
    EMPTY_ANSWER,
    GRANTED,
    IDEMPOTENT,
    NO_BUDGET,
    NO_TRIES_LEFT,
    NOT_CONFIGURED,
    NOT_IDEMPOTENT,
    REFUSALS,
    RESET,
    SLOW,
    STATUS,
    TIMEOUT,
    TOO_LATE,
    HedgeDelay,
    HedgeSettings,
    RetryBudget,
    RetrySettings,
    backoff,
    refusal,
    retry_after_s,
    wait_s,
)

DEFAULTS = RetrySettings()
ALL = RetrySettings(conditions=CONNECT_FAILURE | RESET | EMPTY_ANSWER | TIMEOUT | STATUS | SLOW)
CONDITIONS = (CONNECT_FAILURE, RESET, EMPTY_ANSWER, TIMEOUT, STATUS, SLOW)


def always(value: float) -> Callable[[], float]:
    return lambda: value


# The budget.


def test_a_fifth_of_the_requests_may_be_retried() -> None:
    budget = RetryBudget(0.0, floor_per_second=0.0)
    for _ in range(100):
        budget.requested(1.0)
    assert [budget.take(1.0) for _ in range(25)] == [True] * 20 + [False] * 5


def test_the_floor_is_there_without_any_traffic_and_is_not_added_to_the_share() -> None:
    budget = RetryBudget(0.0, floor_per_second=0.5)
    for _ in range(20):
        budget.requested(0.0)
    assert sum(budget.take(1.0) for _ in range(25)) == 5


def test_what_is_refused_is_not_counted() -> None:
    budget = RetryBudget(0.0, floor_per_second=0.1)
    assert [budget.take(0.0) for _ in range(9)] == [True] + [False] * 8
    assert not budget.has_room(9.0)
    assert budget.has_room(10.0)
    assert [budget.take(10.0) for _ in range(2)] == [True, False]


def test_no_share_and_no_floor_are_no_retries() -> None:
    budget = RetryBudget(0.0, 0.0, 0.0)
    budget.requested(0.0)
    assert not budget.take(0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 7.0]), st.integers(0, 9), st.integers(0, 3))),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from([0.0, 0.125, 0.5]),
)
def test_the_budget_grants_what_lists_of_all_requests_and_retries_would(
    steps: list[tuple[float, int, int]], share: float, floor: float
) -> None:
    budget = RetryBudget(0.0, share, floor)
    requests: list[int] = []
    retries: list[int] = []
    now = 0.0
    for wait, requested, asked in steps:
        now += wait
        slot = int(now)
        for _ in range(requested):
            budget.requested(now)
            requests.append(slot)
        for _ in range(asked):
            recent = sum(then > slot - 10 for then in requests)
            spent = sum(then > slot - 10 for then in retries)
            expected = spent < max(int(share * recent), int(floor * 10))
            assert budget.take(now) == expected
            if expected:
                retries.append(slot)


# The decision.


def ask(
    wanted: RetrySettings,
    condition: int,
    *,
    status: int = 0,
    method: bytes = b"GET",
    replayable: bool = True,
    tries: int = 1,
    budget: RetryBudget | None = None,
) -> str:
    budget = budget or RetryBudget(0.0)
    return refusal(wanted, condition, status, method, replayable, tries, budget, 1.0)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_only_what_the_route_names_is_retried(condition: int) -> None:
    only = RetrySettings(conditions=condition, statuses=frozenset((503,)))
    assert [ask(only, happened, status=503) == GRANTED for happened in CONDITIONS] == [
        happened == condition for happened in CONDITIONS
    ]
    assert ask(RetrySettings(conditions=ALL.conditions & ~condition), condition, status=503) == NOT_CONFIGURED


def test_by_default_slowness_and_answers_are_not_retried() -> None:
    granted = [condition for condition in CONDITIONS if ask(DEFAULTS, condition, status=503) == GRANTED]
    assert granted == [CONNECT_FAILURE, RESET, EMPTY_ANSWER]


def test_only_chosen_statuses_are_retried() -> None:
    granted = [status for status in range(100, 600) if ask(ALL, STATUS, status=status) == GRANTED]
    assert granted == [502, 503, 504]


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"LOCK", b"get", b""])
def test_what_is_not_idempotent_is_retried_only_if_nothing_was_sent_or_the_route_says_so(
    condition: int, method: bytes
) -> None:
    expected = GRANTED if condition == CONNECT_FAILURE else NOT_IDEMPOTENT
    assert ask(ALL, condition, status=503, method=method) == expected
    assert ask(dataclasses.replace(ALL, any_method=True), condition, status=503, method=method) == GRANTED


@pytest.mark.parametrize("method", sorted(IDEMPOTENT))
def test_idempotent_methods_are_retried(method: bytes) -> None:
    assert ask(DEFAULTS, RESET, method=method) == GRANTED


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_body_that_is_gone_can_not_be_sent_again(condition: int) -> None:
    expected = GRANTED if condition == CONNECT_FAILURE else BODY_GONE
    assert ask(ALL, condition, status=503, method=b"PUT", replayable=False) == expected


def test_tries_are_counted_with_the_first() -> None:
    assert [ask(DEFAULTS, RESET, tries=tries) for tries in (1, 2, 3, 4)] == [GRANTED] * 2 + [NO_TRIES_LEFT] * 2
    assert ask(RetrySettings(tries=1), CONNECT_FAILURE) == NO_TRIES_LEFT


def test_the_budget_pays_for_what_is_granted_and_for_nothing_else() -> None:
    budget = RetryBudget(0.0, floor_per_second=0.1)
    assert ask(DEFAULTS, TIMEOUT, budget=budget) == NOT_CONFIGURED
    assert ask(DEFAULTS, RESET, tries=3, budget=budget) == NO_TRIES_LEFT
    assert ask(DEFAULTS, RESET, method=b"POST", budget=budget) == NOT_IDEMPOTENT
    assert ask(DEFAULTS, RESET, replayable=False, budget=budget) == BODY_GONE
    assert [ask(DEFAULTS, CONNECT_FAILURE, budget=budget) for _ in range(9)] == [GRANTED] * 9
    assert ask(DEFAULTS, RESET, budget=budget) == GRANTED
    assert ask(DEFAULTS, RESET, budget=budget) == NO_BUDGET
    # A connection that could not be made burdens nobody.
    assert ask(DEFAULTS, CONNECT_FAILURE, budget=budget) == GRANTED


def test_when_all_fails_the_backend_gets_only_a_fifth_more() -> None:
    budget = RetryBudget(0.0, floor_per_second=0.0)
    sent = 0
    for _ in range(1000):
        budget.requested(1.0)
        sent += 1
        tries = 1
        while ask(DEFAULTS, RESET, tries=tries, budget=budget) == GRANTED:
            tries += 1
            sent += 1
    assert sent == 1200


def test_each_refusal_has_its_sentence() -> None:
    assert set(REFUSALS) == {NOT_CONFIGURED, NO_TRIES_LEFT, NOT_IDEMPOTENT, BODY_GONE, NO_BUDGET}
    assert all(sentence.endswith(".") for sentence in REFUSALS.values())


# When.


def test_the_wait_doubles_up_to_a_bound_and_is_spread_from_nothing_on() -> None:
    waits = [backoff(DEFAULTS, retry, always(0.5)) for retry in (1, 2, 3, 4, 5, 6, 5000)]
    assert waits == [0.0125, 0.025, 0.05, 0.1, 0.125, 0.125, 0.125]
    assert backoff(DEFAULTS, 3, always(0.0)) == 0.0
    drawn = random.Random(7)
    assert all(0 <= backoff(DEFAULTS, retry, drawn.random) < 0.25 for retry in range(1, 500))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((b"0", 0.0), (b"1", 1.0), (b"120", 120.0), (b"999999999", 999999999.0), (b"1" * 5000, inf)),
        # 1994-11-06 08:49:37 UTC is 784111777.
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        (b"Sun, 06 Nov 1994 08:49:39 GMT", 2.0),
        (b"Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
        # What can't be read is not there.
        *((b"", 0.0), (b"-1", 0.0), (b"1.5", 0.0), (b"soon", 0.0), (b"Sun, 06 Foo 1994 08:49:39 GMT", 0.0)),
        *((b"\xb2", 0.0), (b"Sunday, 06-Nov-94 08:49:39 GMT", 0.0), (b"Sun, 06 Nov 0000 08:49:39 GMT", 0.0)),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float) -> None:
    assert retry_after_s(value, 784111777.0) == seconds


def test_retry_after_is_respected_up_to_a_bound() -> None:
    assert wait_s(DEFAULTS, 1, None, 0.0, always(0.5)) == 0.0125
    assert wait_s(DEFAULTS, 1, b"0", 0.0, always(0.5)) == 0.0125
    assert wait_s(DEFAULTS, 1, b"1", 0.0, always(0.5)) == 1.0125
    assert wait_s(DEFAULTS, 1, b"2", 0.0, always(0.5)) == TOO_LATE
    assert wait_s(dataclasses.replace(DEFAULTS, max_retry_after=2.0), 1, b"2", 0.0, always(0.5)) == 2.0125


# Hedging.


def test_there_is_no_second_try_until_enough_is_known() -> None:
    delay = HedgeDelay(HedgeSettings())
    for _ in range(63):
        delay.sample(0.1)
    assert delay.seconds == inf
    delay.sample(0.1)
    assert delay.seconds == 0.1


def test_one_of_twenty_takes_longer_than_the_delay() -> None:
    delay = HedgeDelay(HedgeSettings())
    latencies = [number / 1000 for number in range(1, 257)]
    random.Random(3).shuffle(latencies)
    for latency in latencies:
        delay.sample(latency)
    # 244 of 256 are 95.3%.
    assert delay.seconds == 0.244


def test_a_fast_upstream_is_never_asked_twice_below_the_least_delay() -> None:
    delay = HedgeDelay(HedgeSettings(min_delay=0.02))
    for _ in range(64):
        delay.sample(0.001)
    assert delay.seconds == 0.02


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 10), min_size=64, max_size=600), st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0]))
def test_the_delay_is_the_quantile_of_the_latest_samples(samples: list[float], quantile: float) -> None:
    delay = HedgeDelay(HedgeSettings(quantile, min_delay=0.0))
    for sample in samples:
        delay.sample(sample)
    known = len(samples) - len(samples) % (64 if len(samples) < 256 else 256)
    latest = sorted(samples[max(0, known - 256) : known])
    assert delay.seconds == latest[max(0, ceil(quantile * len(latest)) - 1)]


def test_it_follows_an_upstream_that_becomes_slower() -> None:
    delay = HedgeDelay(HedgeSettings())
    for step in range(512):
        delay.sample(0.1 if step < 256 else 0.3)
    assert delay.seconds == 0.3


def test_the_delay_does_not_grow_while_many_first_tries_are_never_answered() -> None:
    chance = random.Random(5)
    delay = HedgeDelay(HedgeSettings())
    for _ in range(256):
        delay.sample(chance.uniform(0.01, 0.02))
    before = delay.seconds
    for _ in range(5000):
        is_frozen = chance.random() < 1 / 3
        first = inf if is_frozen else chance.uniform(0.01, 0.02)
        second = delay.seconds + chance.uniform(0.01, 0.02)
        delay.sample(first if first < second else delay.seconds)
    assert before <= delay.seconds < 0.02
