from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.outlier import TRIAL_ANSWERS, OutlierDetector, OutlierSettings

DEFAULTS = OutlierSettings()
IN_A_ROW_ONLY = OutlierSettings(failure_rate=1.0)
RATE_ONLY = OutlierSettings(consecutive_failures=0)
LATENCY_ONLY = OutlierSettings(consecutive_failures=0, failure_rate=1.0, latency_factor=5.0)


def fail(detector: OutlierDetector, endpoint: int, times: int, now: float) -> list[bool]:
    return [detector.answered(endpoint, True, 0.01, now) for _ in range(times)]


def succeed(detector: OutlierDetector, endpoint: int, times: int, now: float) -> None:
    for _ in range(times):
        assert not detector.answered(endpoint, False, 0.01, now)


def come_back(detector: OutlierDetector, endpoint: int, now: float) -> None:
    """It stands its trial."""
    assert detector.on_trial >> endpoint & 1
    assert [detector.answered(endpoint, False, 0.01, now) for _ in range(TRIAL_ANSWERS)] == [False] * 4 + [True]
    assert not detector.ejected >> endpoint & 1
    assert not detector.on_trial >> endpoint & 1


# Failures in a row.


def test_the_fifth_failure_in_a_row_ejects() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    assert fail(detector, 1, 5, 1.0) == [False, False, False, False, True]
    assert detector.ejected == 0b010
    assert detector.reason(1) == "5 failures in a row; ejected for 30 s"
    assert (detector.reason(0), detector.reason(2)) == ("", "")


def test_a_good_answer_between_failures_begins_the_row_anew() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    fail(detector, 0, 4, 1.0)
    succeed(detector, 0, 1, 1.0)
    assert fail(detector, 0, 5, 1.0) == [False, False, False, False, True]


def test_the_failures_of_one_endpoint_are_not_those_of_another() -> None:
    detector = OutlierDetector(2, DEFAULTS, 0.0)
    assert [fail(detector, turn % 2, 1, 1.0) for turn in range(8)] == [[False]] * 8


def test_failures_in_a_row_can_be_switched_off() -> None:
    detector = OutlierDetector(2, RATE_ONLY, 0.0)
    assert fail(detector, 0, 19, 1.0) == [False] * 19


def test_what_an_ejected_endpoint_still_answers_changes_nothing() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    fail(detector, 0, 5, 0.0)
    assert fail(detector, 0, 50, 1.0) == [False] * 50
    succeed(detector, 0, 50, 1.0)
    assert not detector.tick(29.9)
    assert detector.tick(30.0)


# The share of failures.


def alternate(detector: OutlierDetector, failures: int, successes: int, now: float) -> None:
    """Good answers first, so that the last failure decides."""
    succeed(detector, 0, successes, now)
    assert not any(fail(detector, 0, failures, now))


def test_more_than_half_of_twenty_answers_ejects_and_half_does_not() -> None:
    detector = OutlierDetector(2, RATE_ONLY, 0.0)
    alternate(detector, 10, 10, 1.0)
    assert fail(detector, 0, 1, 1.0) == [True]
    assert detector.reason(0) == "11 failures in 21 answers within 10 s; ejected for 30 s"


def test_fewer_than_twenty_answers_say_nothing() -> None:
    detector = OutlierDetector(2, RATE_ONLY, 0.0)
    assert fail(detector, 0, 20, 1.0) == [False] * 19 + [True]


def test_answers_older_than_the_window_are_forgotten() -> None:
    detector = OutlierDetector(2, RATE_ONLY, 0.0)
    fail(detector, 0, 19, 0.0)
    assert fail(detector, 0, 1, 10.0) == [False]
    again = OutlierDetector(2, RATE_ONLY, 0.0)
    fail(again, 0, 19, 0.0)
    assert fail(again, 0, 1, 9.0) == [True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.125, 1.0, 4.0]), st.integers(0, 1), st.booleans()), max_size=80
    ),
    st.integers(0, 4),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_ejections_are_those_that_a_list_of_all_answers_gives(
    answers: list[tuple[float, int, bool]], in_a_row: int, rate: float
) -> None:
    wanted = OutlierSettings(
        consecutive_failures=in_a_row, failure_rate=rate, min_answers=5, max_ejected=1.0, base_ejection=1e9
    )
    detector = OutlierDetector(2, dataclasses.replace(wanted, max_ejection=1e9), 0.0)
    seen: list[tuple[int, int, bool]] = []
    ejected = 0
    now = 0.0
    for wait, endpoint, is_failure in answers:
        now += wait
        seen.append((int(now), endpoint, is_failure))
        own = [failed for _, sibling, failed in seen if sibling == endpoint]
        lately = [failed for slot, sibling, failed in seen if sibling == endpoint and slot > int(now) - 10]
        row = next((length for length, failed in enumerate(reversed(own)) if not failed), len(own))
        too_many = len(lately) >= 5 and Fraction(sum(lately), len(lately)) > Fraction(rate)
        before = ejected
        if is_failure and (0 < in_a_row <= row or too_many):
            ejected |= 1 << endpoint
        assert detector.answered(endpoint, is_failure, 0.0, now) == (ejected != before)
        assert not detector.tick(now)
        assert detector.ejected == ejected


# Latency.


def serve(detector: OutlierDetector, latencies: list[float], start: float, seconds: float) -> list[float]:
    """Ten answers a second from each endpoint that has a latency; the times at which the ejected ones changed."""
    changes = []
    for step in range(int(seconds * 10)):
        now = start + step / 10
        for endpoint, latency in enumerate(latencies):
            if latency:
                assert not detector.answered(endpoint, False, latency, now)
        if detector.tick(now):
            changes.append(now)
    return changes


def test_an_endpoint_that_is_more_than_five_times_as_slow_as_its_siblings_is_ejected() -> None:
    detector = OutlierDetector(4, LATENCY_ONLY, 0.0)
    assert len(serve(detector, [0.02, 0.02, 0.101, 0.02], 0.0, 5)) == 1
    assert detector.ejected == 0b0100
    words = "a median latency of 101 ms where its siblings' is 20 ms; ejected for 30 s"
    assert detector.reason(2) == words


@pytest.mark.parametrize(
    ("latencies", "why"),
    [
        ([0.02, 0.02, 0.1], "exactly five times as slow"),
        ([0.02, 0.101, 0.0], "two endpoints with data"),
        ([0.001, 0.001, 0.05], "too fast to be called slow"),
        ([0.4, 0.4, 0.4], "all are slow"),
        ([0.02, 0.4, 0.4], "most are slow"),
    ],
)
def test_an_endpoint_is_not_ejected_for_latency_when(latencies: list[float], why: str) -> None:
    assert serve(OutlierDetector(3, LATENCY_ONLY, 0.0), latencies, 0.0, 30) == [], why


def test_latency_is_not_looked_at_unless_asked_for() -> None:
    assert serve(OutlierDetector(3, DEFAULTS, 0.0), [0.02, 0.02, 9.0], 0.0, 30) == []


def test_twenty_samples_are_needed() -> None:
    # Ten a second, judged at each whole one.
    assert serve(OutlierDetector(3, LATENCY_ONLY, 0.0), [0.02, 0.02, 9.0], 0.0, 30) == [2.0]


def test_a_pause_of_an_instant_with_many_answers_is_one_sample() -> None:
    detector = OutlierDetector(3, LATENCY_ONLY, 0.0)
    serve(detector, [0.02, 0.02, 0.02], 0.0, 5)
    for _ in range(5000):
        assert not detector.answered(2, False, 3.0, 5.0)
    assert serve(detector, [0.02, 0.02, 0.02], 5.0, 20) == []


def test_what_was_slow_long_ago_is_forgotten() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    detector.settings = LATENCY_ONLY
    serve(detector, [0.0, 0.0, 9.0], 0.0, 20)
    assert serve(detector, [0.02, 0.02, 0.0], 31.0, 20) == []


def test_failures_are_no_samples() -> None:
    # A connection that is refused takes no time, and would make the others look slow.
    detector = OutlierDetector(4, LATENCY_ONLY, 0.0)
    for step in range(200):
        for endpoint in range(4):
            detector.answered(endpoint, endpoint < 2, 0.0001 if endpoint < 2 else 0.1, step / 10)
        assert not detector.tick(step / 10)


def test_one_that_another_was_faster_than_is_slow_and_has_neither_failed_nor_succeeded() -> None:
    settings = dataclasses.replace(LATENCY_ONLY, consecutive_failures=2, failure_rate=0.5, min_answers=20)
    detector = OutlierDetector(4, settings, 0.0)
    detector.answered(3, True, 0.0, 0.0)
    for step in range(1, 30):
        now = step / 10
        for endpoint in range(3):
            detector.answered(endpoint, False, 0.02, now)
        detector.outpaced(3, 0.2, now)
        detector.tick(now)
    assert detector.reason(3).startswith("a median latency of 200 ms where its siblings' is 20 ms")
    detector = OutlierDetector(4, settings, 0.0)
    detector.answered(3, True, 0.0, 0.0)
    detector.outpaced(3, 0.2, 0.0)
    # The row of failures goes on.
    assert detector.answered(3, True, 0.0, 0.0)


def test_the_slowest_is_ejected_when_not_all_may_be() -> None:
    detector = OutlierDetector(5, dataclasses.replace(LATENCY_ONLY, max_ejected=0.2), 0.0)
    serve(detector, [0.01, 0.2, 0.4, 0.01, 0.01], 0.0, 5)
    assert detector.ejected == 0b00100


def test_what_an_endpoint_does_now_outweighs_the_rest_of_the_window() -> None:
    detector = OutlierDetector(3, LATENCY_ONLY, 0.0)
    assert serve(detector, [0.02, 0.02, 0.02], 0.0, 10) == []
    # Of the last twenty samples, eleven are slow.
    assert serve(detector, [0.02, 0.02, 9.0], 10.0, 5) == [11.0]


# Trials.


def on_trial(settings: OutlierSettings, latencies: tuple[float, float] = (0.02, 0.02)) -> OutlierDetector:
    """The last of three endpoints is, at 40 s; the latencies are the others'."""
    detector = OutlierDetector(3, dataclasses.replace(settings, consecutive_failures=1), 0.0)
    fail(detector, 2, 1, 0.0)
    serve(detector, [*latencies, 0.0], 20.0, 20)
    assert (detector.ejected, detector.on_trial) == (0b100, 0b100)
    return detector


def test_when_its_time_is_over_an_endpoint_is_on_trial_and_five_good_answers_end_that() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    fail(detector, 1, 5, 0.0)
    assert not detector.tick(29.9)
    assert (detector.ejected, detector.on_trial) == (0b010, 0)
    assert detector.tick(30.0)
    assert (detector.ejected, detector.on_trial) == (0b010, 0b010)
    assert not detector.tick(100.0)
    come_back(detector, 1, 100.0)


def test_one_failure_on_trial_ejects_again_for_longer() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    fail(detector, 1, 5, 0.0)
    detector.tick(30.0)
    succeed(detector, 1, 4, 31.0)
    assert fail(detector, 1, 1, 32.0) == [True]
    assert (detector.ejected, detector.on_trial) == (0b010, 0)
    assert detector.reason(1) == "a failure on trial; ejected for 60 s, number 2 in a row"
    assert not detector.tick(91.9)
    assert detector.tick(92.0)


def test_a_trial_is_failed_where_no_other_may_be_ejected() -> None:
    detector = OutlierDetector(2, DEFAULTS, 0.0)
    fail(detector, 0, 5, 0.0)
    detector.tick(30.0)
    assert fail(detector, 0, 1, 30.0) == [True]


@pytest.mark.parametrize(
    ("latencies", "is_back"),
    [
        ([0.02] * 5, True),
        # Caches may be cold.
        ([9.0, 9.0, 0.02, 0.02, 0.02], True),
        ([9.0, 9.0, 0.02, 0.02, 9.0], False),
    ],
)
def test_a_trial_is_of_latency_too_where_that_is_judged(latencies: list[float], is_back: bool) -> None:
    detector = on_trial(LATENCY_ONLY)
    for latency in latencies[:-1]:
        assert not detector.answered(2, False, latency, 40.0)
        detector.tick(40.0)
    assert detector.answered(2, False, latencies[-1], 40.0)
    assert (detector.ejected, detector.on_trial) == (0 if is_back else 0b100, 0)
    words = "a median latency of 9e+03 ms where its siblings' is 20 ms; ejected for 60 s, number 2 in a row"
    assert detector.reason(2) == ("" if is_back else words)


def test_without_siblings_to_compare_with_good_answers_are_enough() -> None:
    detector = on_trial(LATENCY_ONLY, (0.0, 0.02))
    for _ in range(5):
        detector.answered(2, False, 9.0, 40.0)
        detector.tick(40.0)
    assert detector.ejected == 0


def test_passed_checks_put_an_ejected_endpoint_on_trial_at_once() -> None:
    detector = OutlierDetector(3, DEFAULTS, 0.0)
    fail(detector, 1, 5, 0.0)
    detector.passes_checks(1)
    assert detector.tick(1.0)
    assert detector.on_trial == 0b010
    # Neither an endpoint that is on trial nor one that is well has anything of it.
    detector.passes_checks(1)
    detector.passes_checks(0)
    assert not detector.tick(2.0)
    come_back(detector, 1, 2.0)


# How long.


def ejected_until(detector: OutlierDetector, start: float) -> float:
    """When its time is over. It stands its trial at once."""
    now = start
    while not detector.tick(now):
        now += 0.5
    come_back(detector, 0, now)
    return now


def test_each_ejection_in_a_row_is_longer_up_to_a_bound() -> None:
    detector = OutlierDetector(2, IN_A_ROW_ONLY, 0.0)
    now, lengths = 0.0, []
    for _ in range(12):
        fail(detector, 0, 5, now)
        assert detector.ejected == 0b01
        start, now = now, ejected_until(detector, now)
        lengths.append(now - start)
    assert lengths == [30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0, 300.0, 300.0]


def test_the_reason_tells_how_often() -> None:
    detector = OutlierDetector(2, IN_A_ROW_ONLY, 0.0)
    fail(detector, 0, 5, 0.0)
    assert ejected_until(detector, 30.0) == 30.0
    assert detector.reason(0) == ""
    fail(detector, 0, 5, 30.0)
    assert detector.reason(0) == "5 failures in a row; ejected for 60 s, number 2 in a row"


@pytest.mark.parametrize(
    ("healthy_s", "length_s"), [(0.0, 90.0), (29.5, 90.0), (30.0, 60.0), (60.0, 30.0), (500.0, 30.0)]
)
def test_an_ejection_is_forgiven_for_each_interval_spent_healthy(healthy_s: float, length_s: float) -> None:
    detector = OutlierDetector(2, IN_A_ROW_ONLY, 0.0)
    now = 0.0
    for _ in range(2):
        fail(detector, 0, 5, now)
        now = ejected_until(detector, now)
    for step in range(int(healthy_s * 2) + 1):
        assert not detector.tick(now + step / 2)
    now += healthy_s
    fail(detector, 0, 5, now)
    assert ejected_until(detector, now) - now == length_s


def test_one_that_returns_has_a_clean_slate() -> None:
    detector = OutlierDetector(2, OutlierSettings(base_ejection=1.0), 0.0)
    fail(detector, 0, 100, 0.0)
    assert ejected_until(detector, 1.0) == 1.0
    assert fail(detector, 0, 4, 1.0) == [False] * 4
    succeed(detector, 0, 1, 1.0)
    # Of the window of 10 s, only what came since the return.
    assert fail(detector, 0, 4, 1.0) == [False] * 4


# How many.


@pytest.mark.parametrize(
    ("count", "share", "ejectable"),
    [
        # The only one never, else at least one, else the share rounded down.
        *((1, 0.5, 0), (1, 1.0, 0), (2, 0.5, 1), (2, 0.0, 1), (3, 0.5, 1), (4, 0.5, 2), (5, 0.5, 2)),
        *((10, 0.1, 1), (10, 1.0, 10), (100, 0.29, 29), (3, 0.99, 2)),
    ],
)
def test_only_a_share_of_the_endpoints_is_ejected_at_once(count: int, share: float, ejectable: int) -> None:
    detector = OutlierDetector(count, OutlierSettings(max_ejected=share), 0.0)
    for endpoint in range(count):
        assert any(fail(detector, endpoint, 5, 1.0)) == (endpoint < ejectable)
    assert detector.ejected == (1 << ejectable) - 1


def test_one_that_had_to_stay_is_ejected_for_its_next_failure_once_another_has_returned() -> None:
    detector = OutlierDetector(2, DEFAULTS, 0.0)
    fail(detector, 0, 5, 0.0)
    assert fail(detector, 1, 9, 10.0) == [False] * 9
    assert ejected_until(detector, 30.0) == 30.0
    assert fail(detector, 1, 1, 30.0) == [True]
    assert detector.ejected == 0b10


def test_no_endpoints_are_no_trouble() -> None:
    assert not OutlierDetector(0, DEFAULTS, 0.0).tick(1.0)
