from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy import breaker
from fastgw.policy.breaker import (
    CLOSED,
    EVENTS,
    FAILURE,
    HALF_OPEN,
    OPEN,
    STATES,
    SUCCESS,
    TIMER,
    TRANSITIONS,
    BreakerSettings,
    CircuitBreaker,
)

SETTINGS = BreakerSettings(consecutive_failures=3, min_answers=10, open_for=5.0, trials=2)
RATE_ONLY = BreakerSettings(consecutive_failures=0, min_answers=10)


def in_state(state: int) -> CircuitBreaker:
    """At the time 100."""
    made = CircuitBreaker(SETTINGS, 100.0)
    if state != CLOSED:
        for _ in range(3):
            made.failed(100.0 if state == OPEN else 95.0)
    if state == HALF_OPEN:
        assert made.allows(100.0)
        assert made.allows(100.0)
    assert made.state == state
    return made


# The table.


@pytest.mark.parametrize(
    ("state", "event", "following"),
    [
        *((CLOSED, SUCCESS, CLOSED), (CLOSED, FAILURE, OPEN), (CLOSED, TIMER, CLOSED)),
        *((OPEN, SUCCESS, OPEN), (OPEN, FAILURE, OPEN), (OPEN, TIMER, HALF_OPEN)),
        *((HALF_OPEN, SUCCESS, CLOSED), (HALF_OPEN, FAILURE, OPEN), (HALF_OPEN, TIMER, HALF_OPEN)),
    ],
)
def test_every_event_in_every_state(state: int, event: int, following: int) -> None:
    made = in_state(state)
    if event == SUCCESS:
        made.succeeded(101.0)
        made.succeeded(101.0)
    elif event == FAILURE:
        for _ in range(3 if state == CLOSED else 1):
            made.failed(101.0)
    else:
        made.allows(1000.0)
    assert made.state == following
    assert TRANSITIONS[state][event] == following


def test_the_table_has_an_answer_for_all_there_is() -> None:
    assert [len(row) for row in TRANSITIONS] == [len(EVENTS)] * len(STATES)
    assert set(itertools.chain(*TRANSITIONS)) == set(range(len(STATES)))
    assert [STATES[state] for state in (CLOSED, OPEN, HALF_OPEN)] == ["closed", "open", "half-open"]
    assert [EVENTS[event] for event in (SUCCESS, FAILURE, TIMER)] == ["success", "failure", "timer"]


# Opening.


def test_it_opens_at_the_last_of_the_failures_in_a_row() -> None:
    made = CircuitBreaker(SETTINGS, 0.0)
    seen = []
    for is_failure in (True, True, False, True, True, True):
        made.failed(1.0) if is_failure else made.succeeded(1.0)
        seen.append(made.state)
    assert seen == [CLOSED] * 5 + [OPEN]
    assert made.opened == 1


def test_it_opens_when_more_than_half_of_enough_answers_are_failures() -> None:
    made = CircuitBreaker(RATE_ONLY, 0.0)
    for _ in range(9):
        made.failed(1.0)
    assert made.state == CLOSED
    made.failed(1.0)
    assert made.state == OPEN
    half = CircuitBreaker(RATE_ONLY, 0.0)
    for _ in range(50):
        half.succeeded(1.0)
        half.failed(1.0)
    assert half.state == CLOSED
    half.failed(1.0)
    assert half.state == OPEN


def test_failures_out_of_the_window_are_forgotten() -> None:
    for pause, state in ((9.0, OPEN), (10.0, CLOSED)):
        made = CircuitBreaker(RATE_ONLY, 0.0)
        for _ in range(9):
            made.failed(0.0)
        made.failed(pause)
        assert made.state == state


def test_either_way_of_opening_can_be_switched_off() -> None:
    made = CircuitBreaker(BreakerSettings(consecutive_failures=0, failure_rate=1.0), 0.0)
    for _ in range(1000):
        made.failed(1.0)
    assert made.state == CLOSED


# Open.


def test_nothing_passes_while_it_is_open_and_the_time_is_told() -> None:
    made = in_state(OPEN)
    assert [made.allows(100.0), made.allows(104.9)] == [False, False]
    assert [made.retry_after_s(now) for now in (100.0, 100.5, 103.0, 104.9)] == [5, 5, 2, 1]
    assert made.allows(105.0)
    assert in_state(CLOSED).retry_after_s(100.0) == 0


def test_a_late_failure_does_not_make_it_longer() -> None:
    made = in_state(OPEN)
    made.failed(104.0)
    assert made.opened == 1
    assert made.allows(105.0)


# Half-open.


def test_a_few_requests_pass_and_all_of_them_have_to_succeed() -> None:
    made = in_state(OPEN)
    assert [made.allows(105.0) for _ in range(4)] == [True, True, False, False]
    made.succeeded(106.0)
    assert [made.state, made.allows(106.0)] == [HALF_OPEN, False]
    made.succeeded(106.0)
    assert made.state == CLOSED
    assert made.allows(106.0)


def test_one_failed_trial_opens_it_again_for_as_long() -> None:
    made = in_state(HALF_OPEN)
    made.succeeded(101.0)
    made.failed(102.0)
    assert (made.state, made.opened) == (OPEN, 2)
    assert [made.allows(106.9), made.allows(107.0)] == [False, True]


def test_trials_that_are_left_are_not_made_after_one_has_failed() -> None:
    made = in_state(OPEN)
    assert made.allows(105.0)
    made.failed(105.0)
    assert not made.allows(105.0)


def test_successes_count_for_their_own_trials_only() -> None:
    made = in_state(HALF_OPEN)
    made.succeeded(101.0)
    assert [made.allows(105.0), made.allows(105.0)] == [True, True]
    made.succeeded(105.0)
    assert made.state == HALF_OPEN
    made.succeeded(105.0)
    assert made.state == CLOSED


def test_trials_that_are_never_answered_make_room_for_others() -> None:
    made = in_state(HALF_OPEN)
    assert [made.allows(104.9), made.allows(105.0), made.allows(105.0), made.allows(105.0)] == [
        *(False, True, True, False),
    ]


def test_what_failed_before_is_not_held_against_it_when_it_has_closed() -> None:
    made = in_state(HALF_OPEN)
    made.succeeded(101.0)
    made.succeeded(101.0)
    made.failed(101.0)
    made.failed(101.0)
    assert made.state == CLOSED
    by_rate = CircuitBreaker(BreakerSettings(consecutive_failures=0, min_answers=10, open_for=1.0, trials=1), 0.0)
    for _ in range(10):
        by_rate.failed(0.0)
    assert by_rate.allows(1.0)
    by_rate.succeeded(1.0)
    by_rate.failed(1.0)
    assert by_rate.state == CLOSED


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 5.0]), st.sampled_from(["ask", "good", "bad"])), max_size=60)
)
def test_it_never_lets_more_through_than_it_may(steps: list[tuple[float, str]]) -> None:
    made = CircuitBreaker(SETTINGS, 0.0)
    now = 0.0
    let_through: list[float] = []
    for wait, step in steps:
        now += wait
        if step == "ask":
            if made.allows(now) and made.state != CLOSED:
                let_through.append(now)
        elif step == "good":
            made.succeeded(now)
        else:
            made.failed(now)
        # In any time shorter than it stays open, and with no return to closed, only as many as there are trials.
        if made.state == CLOSED:
            let_through.clear()
        assert len([then for then in let_through if then > now - 5.0]) <= 2


def test_it_tells_its_state() -> None:
    assert repr(in_state(HALF_OPEN)) == "<CircuitBreaker half-open>"
    assert breaker.STATES[in_state(OPEN).state] == "open"


def test_passed_checks_make_an_open_one_half_open_and_change_nothing_else() -> None:
    made = in_state(OPEN)
    assert not made.allows(101.0)
    made.passes_checks(101.0)
    assert made.allows(101.0)
    assert made.state == HALF_OPEN
    made.passes_checks(101.0)
    assert made.allows(101.0)
    assert not made.allows(101.0)
    assert made.state == HALF_OPEN
    closed = in_state(CLOSED)
    closed.passes_checks(101.0)
    assert closed.state == CLOSED
