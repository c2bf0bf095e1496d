from __future__ import annotations

from collections import Counter
from math import exp
from random import Random as Chance

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastgw.policy.balancer import NO_ENDPOINT
from fastgw.policy.peak_ewma import PeakEwma
from tests.support.chi_square import chi_square

ROOM = 1000
TAU = 10.0
# Clocks begin anywhere.
START = 123_456.0


def balancer(*weights: float) -> PeakEwma:
    return PeakEwma(weights, Chance(1).random, TAU)


def heard(*latencies: float, at: float = START) -> PeakEwma:
    """Endpoints of equal weight that have each answered once."""
    ewma = balancer(*([1] * len(latencies)))
    for endpoint, latency in enumerate(latencies):
        ewma.observe(endpoint, latency, at)
    return ewma


def shares(ewma: PeakEwma, active: list[int], excluded: int = 0, count: int = 3000) -> Counter[int]:
    return Counter([ewma.pick(active, ROOM, excluded) for _ in range(count)])


# What is known of an endpoint


def test_a_latency_above_the_average_takes_its_place_at_once() -> None:
    ewma = heard(0.1)
    ewma.observe(0, 2.0, START + 0.001)
    assert ewma.average(0) == pytest.approx(2.0)


def test_a_latency_below_the_average_brings_it_down_as_much_as_time_has_passed() -> None:
    ewma = heard(2.0)
    ewma.observe(0, 0.1, START + 5)
    assert ewma.average(0) == pytest.approx(2.0 * exp(-0.5) + 0.1 * (1 - exp(-0.5)))
    ewma.observe(0, 0.1, START + 5)
    assert ewma.average(0) == pytest.approx(2.0 * exp(-0.5) + 0.1 * (1 - exp(-0.5)))


def test_it_does_not_matter_how_many_answers_bring_an_average_down() -> None:
    few, many = heard(2.0), heard(2.0)
    few.observe(0, 0.1, START + 20)
    for step in range(1, 2001):
        many.observe(0, 0.1, START + step / 100)
    assert many.average(0) == pytest.approx(few.average(0))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(1e-4, 30), st.floats(0, 40)), min_size=1, max_size=60),
    st.integers(0, 7),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
def test_averages_and_picks_are_those_of_the_formula(
    answers: list[tuple[int, float, float]], excluded: int, active: tuple[int, int, int]
) -> None:
    weights = (1, 2.5, 4)
    ewma = balancer(*weights)
    # The first answer is the first epoch.
    now = START
    epoch = START + answers[0][2]
    known: dict[int, tuple[float, float]] = {}
    for endpoint, latency, pause in answers:
        now += pause
        assume(abs(now - epoch - 10 * TAU) > 0.01)
        if now - epoch > 10 * TAU:
            epoch = now
            assume(all(abs(now - at - 10 * TAU) > 0.01 for _, at in known.values()))
            known = {one: (average, at) for one, (average, at) in known.items() if now - at < 10 * TAU}
        ewma.observe(endpoint, latency, now)
        average, at = known.get(endpoint, (0.0, now))
        part = exp(-(now - at) / TAU)
        known[endpoint] = (max(average * part + latency * (1 - part), latency), now)
        for one in range(3):
            assert ewma.average(one) == (pytest.approx(known[one][0]) if one in known else None)
    costs = {
        one: average * exp(-(now - at) / TAU) * (active[one] + 1) / weights[one] for one, (average, at) in known.items()
    }
    able = [one for one in range(3) if not excluded >> one & 1]
    dearest = max(able, key=lambda one: costs.get(one, 0.0), default=-1)
    found_picks = {ewma.pick(list(active), ROOM, excluded) for _ in range(20)}
    assert found_picks <= set(able) if able else found_picks == {NO_ENDPOINT}
    if len(able) > 1 and all(one in costs and (one == dearest or costs[one] < costs[dearest] * 0.999) for one in able):
        assert dearest not in found_picks


def test_a_clock_that_steps_back_does_no_harm() -> None:
    ewma = heard(2.0)
    ewma.observe(0, 0.1, START - 50)
    assert ewma.average(0) == pytest.approx(2.0)
    ewma.observe(0, 3.0, START - 50)
    assert ewma.average(0) == pytest.approx(3.0)


def test_months_pass_without_a_number_that_is_too_large() -> None:
    ewma = heard(0.2, 0.1)
    for month in range(1, 4):
        ewma.observe(0, 0.3, START + month * 2_600_000)
        assert ewma.average(0) == pytest.approx(0.3)
        assert ewma.average(1) is None


# Picks


def test_the_faster_of_two_is_taken() -> None:
    assert shares(heard(0.2, 0.1), [0, 0]) == {1: 3000}


def test_what_an_endpoint_has_to_do_counts_as_much_as_how_long_it_takes() -> None:
    ewma = heard(0.3, 0.1)
    assert set(shares(ewma, [0, 1])) == {1}
    assert set(shares(ewma, [0, 3])) == {0}


def test_the_weight_divides_the_cost() -> None:
    ewma = balancer(1, 4)
    ewma.observe(0, 0.1, START)
    ewma.observe(1, 0.3, START)
    assert set(shares(ewma, [0, 0])) == {1}
    ewma.set_weights((1, 2))
    assert set(shares(ewma, [0, 0])) == {0}


def test_what_is_known_survives_new_weights() -> None:
    ewma = heard(0.2, 0.1)
    ewma.set_weights((0.5, 0.5))
    assert [ewma.average(0), ewma.average(1)] == [pytest.approx(0.2), pytest.approx(0.1)]


def test_the_slowest_of_three_gets_nothing_and_the_others_what_two_draws_give() -> None:
    found = shares(heard(0.1, 0.2, 0.3), [0, 0, 0], count=20_000)
    # The fastest wins the two pairs of three that it is in.
    assert chi_square([found[0], found[1], found[2]], [2 / 3, 1 / 3, 0]) < 1


def test_equally_fast_endpoints_are_shared_evenly() -> None:
    found = shares(heard(0.1, 0.1, 0.1), [0, 0, 0], count=20_000)
    assert chi_square([found[0], found[1], found[2]], [1 / 3] * 3) < 1


def test_endpoints_of_which_nothing_is_known_are_shared_evenly() -> None:
    found = shares(balancer(1, 1, 1), [0, 0, 0], count=20_000)
    assert chi_square([found[0], found[1], found[2]], [1 / 3] * 3) < 1


def test_a_new_endpoint_gets_its_share_and_not_all() -> None:
    for known in (0.001, 10.0):
        ewma = balancer(1, 1, 1)
        ewma.observe(0, known, START)
        ewma.observe(1, known, START)
        found = shares(ewma, [1, 1, 1], count=20_000)
        assert chi_square([found[0], found[1], found[2]], [1 / 3] * 3) < 1
        # While its first requests are under way it gets no more than the others have.
        assert 2 not in shares(ewma, [1, 1, 2])


def test_an_endpoint_that_was_slow_once_is_tried_again_and_again_less_if_it_is_slow_still() -> None:
    ewma = balancer(1, 1)
    ewma.observe(0, 10.0, START)
    times = []
    for second in range(1, 300):
        now = START + second
        ewma.observe(1, 0.01, now)
        if ewma.pick([0, 0], ROOM, 0) == 0:
            times.append(second)
            ewma.observe(0, 10.0, now)
    # 10 * log(1000) = 69 seconds.
    assert times == [70, 140, 210, 280]


def test_an_endpoint_that_has_recovered_comes_to_its_share() -> None:
    ewma = heard(10.0, 0.01)
    late = []
    for step in range(1, 20_000):
        now = START + step / 100
        picked = ewma.pick([0, 0], ROOM, 0)
        ewma.observe(picked, 0.01, now)
        late.append(picked)
    assert 0 not in late[:6500]
    assert 0.3 < late[-5000:].count(0) / 5000 < 0.7


def test_an_endpoint_that_has_been_away_is_not_overrun_when_it_comes_back() -> None:
    ewma = heard(0.1, 0.1)
    for second in range(1, 250):
        ewma.observe(0, 0.1, START + second)
    assert ewma.average(1) is None
    found = shares(ewma, [0, 0], count=20_000)
    assert chi_square([found[0], found[1]], [0.5, 0.5]) < 1


def test_an_answer_that_took_no_time_does_not_make_an_endpoint_free() -> None:
    ewma = heard(0.0, 0.0)
    assert set(shares(ewma, [5, 1])) == {1}


def test_full_and_excluded_endpoints_are_not_picked_however_fast() -> None:
    ewma = heard(0.1, 0.2, 0.3)
    assert set(shares(ewma, [0, 0, 0], excluded=0b001)) == {1}
    assert {ewma.pick([5, 5, 0], 5, 0) for _ in range(50)} == {2}
    assert ewma.pick([5, 5, 0], 5, 0b100) == NO_ENDPOINT
    assert balancer(1).pick([0], 1, 0) == 0
    assert balancer(1).pick([1], 1, 0) == NO_ENDPOINT


def test_an_average_over_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="tau"):
        PeakEwma((1,), Chance(1).random, 0)
