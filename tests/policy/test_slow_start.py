from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.policy.slow_start import SlowStart, WarmingWeights


def test_with_aggression_one_the_weight_grows_with_the_time() -> None:
    slow_start = SlowStart(60)
    assert [slow_start.factor(seconds) for seconds in (6, 15, 30, 45, 60)] == [0.1, 0.25, 0.5, 0.75, 1.0]


def test_it_begins_at_the_least_share_and_takes_the_first_second_as_a_whole() -> None:
    assert SlowStart(60).factor(0) == 0.1
    assert SlowStart(60, share_min=0.02).factor(5) == pytest.approx(5 / 60)
    assert SlowStart(60, share_min=0.02).factor(0.2) == 0.02
    assert SlowStart(4).factor(0) == 0.25
    # A clock that steps back is a start.
    assert SlowStart(60).factor(-5) == 0.1


def test_aggression_says_whether_most_comes_early_or_late() -> None:
    assert SlowStart(60, aggression=2).factor(15) == pytest.approx(0.5)
    assert SlowStart(60, aggression=0.5).factor(30) == pytest.approx(0.25)


def test_a_window_of_less_than_the_first_second_is_none() -> None:
    assert SlowStart(0).factor(0) == 1
    assert SlowStart(0.5).factor(0.1) == 1


@given(st.floats(0, 600), st.floats(0, 60), st.floats(0.1, 10), st.floats(0.01, 1), st.floats(0, 1e6))
def test_more_time_is_never_less_weight(
    window: float, later: float, aggression: float, least: float, at: float
) -> None:
    slow_start = SlowStart(window, aggression, least)
    assert least <= slow_start.factor(at) <= slow_start.factor(at + later) <= 1


@pytest.mark.parametrize(("aggression", "least"), [(0, 0.1), (-1, 0.1), (1, 0), (1, 1.1)])
def test_settings_that_lead_nowhere_are_refused(aggression: float, least: float) -> None:
    with pytest.raises(ValueError, match="slow start needs"):
        SlowStart(60, aggression, least)


def test_endpoints_are_warm_until_one_comes_up() -> None:
    warming = WarmingWeights(SlowStart(60), (3, 1))
    assert warming.are_warm(0)
    assert warming.effective(1000) is warming.weights


def test_each_endpoint_warms_up_from_when_it_came_up() -> None:
    warming = WarmingWeights(SlowStart(60), (2, 4, 1))
    warming.came_up(1, 100)
    warming.came_up(2, 130)
    assert warming.effective(145) == (2, 3, 0.25)
    assert not warming.are_warm(160)
    assert warming.effective(160) == (2, 4, 0.5)
    assert not warming.are_warm(189.9)
    assert warming.are_warm(190)
    assert warming.effective(190) is warming.weights


def test_an_endpoint_that_comes_up_again_starts_again() -> None:
    warming = WarmingWeights(SlowStart(60), (1, 1))
    warming.came_up(0, 0)
    warming.came_up(0, 50)
    assert warming.effective(80) == (0.5, 1)


def test_endpoints_that_came_up_together_are_equal_on_the_way() -> None:
    warming = WarmingWeights(SlowStart(60), (1, 1, 1))
    for endpoint in range(3):
        warming.came_up(endpoint, 7)
    assert len(set(warming.effective(20))) == 1
