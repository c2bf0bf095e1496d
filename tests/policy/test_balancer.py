from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.balancer import NO_ENDPOINT, LeastRequests, RoundRobin, WeightedSplit

BALANCERS = (RoundRobin, LeastRequests)
ROOM = 1000
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)


def picks(balancer: RoundRobin | LeastRequests, count: int, excluded: int = 0) -> list[int]:
    """What one request after another gets, each answered before the next."""
    idle = [0] * len(balancer.weights)
    return [balancer.pick(idle, ROOM, excluded) for _ in range(count)]


# Round-robin


def test_equal_endpoints_take_turns() -> None:
    assert picks(RoundRobin((1, 1, 1)), 7) == [0, 1, 2, 0, 1, 2, 0]
    assert picks(RoundRobin((4, 4)), 4) == [0, 1, 0, 1]


def test_weighted_endpoints_follow_the_sequence_that_nginx_gives() -> None:
    assert picks(RoundRobin((5, 1, 1)), 14) == [0, 0, 1, 0, 2, 0, 0] * 2


@settings(max_examples=25, deadline=None)
@given(WEIGHTS)
def test_each_endpoint_gets_exactly_its_weight_in_every_cycle(weights: tuple[int, ...]) -> None:
    balancer = RoundRobin(weights)
    for _ in range(3):
        shares = Counter(picks(balancer, sum(weights)))
        assert [shares[endpoint] for endpoint in range(len(weights))] == list(weights)


@settings(max_examples=25, deadline=None)
@given(WEIGHTS)
def test_no_endpoint_is_ever_a_whole_pick_ahead_of_its_share(weights: tuple[int, ...]) -> None:
    shares: Counter[int] = Counter()
    for count, endpoint in enumerate(picks(RoundRobin(weights), 2 * sum(weights)), 1):
        shares[endpoint] += 1
        assert shares[endpoint] - Fraction(count * weights[endpoint], sum(weights)) < 1


def test_when_one_endpoint_is_full_the_others_share_its_part_by_weight() -> None:
    for weights in ((1, 1, 1), (3, 2, 1)):
        balancer = RoundRobin(weights)
        shares = Counter([balancer.pick([9, 0, 0], 9, 0) for _ in range(60)])
        part = 60 // (weights[1] + weights[2])
        assert shares == {1: part * weights[1], 2: part * weights[2]}


# Least requests


def test_the_endpoint_with_the_fewest_requests_is_picked() -> None:
    assert LeastRequests((1, 1, 1)).pick([3, 1, 2], ROOM, 0) == 1


def test_requests_count_by_weight() -> None:
    assert LeastRequests((1, 3)).pick([1, 4], ROOM, 0) == 1
    assert LeastRequests((1, 3)).pick([1, 6], ROOM, 0) == 0


def test_endpoints_that_are_equally_busy_take_turns() -> None:
    assert picks(LeastRequests((1, 1, 1)), 6) == [0, 1, 2, 0, 1, 2]
    balancer = LeastRequests((1, 1, 1, 1))
    assert [balancer.pick([0, 7, 0, 7], ROOM, 0) for _ in range(4)] == [0, 2, 0, 2]
    # Three for a weight of three are as many as one for a weight of one.
    tied = LeastRequests((3, 1))
    assert {tied.pick([2, 0], ROOM, 0) for _ in range(2)} == {0, 1}


@settings(max_examples=25, deadline=None)
@given(WEIGHTS)
def test_requests_that_last_fill_the_endpoints_by_weight(weights: tuple[int, ...]) -> None:
    balancer = LeastRequests(weights)
    active = [0] * len(weights)
    for _ in range(2 * sum(weights)):
        active[balancer.pick(active, ROOM, 0)] += 1
    assert active == [2 * weight for weight in weights]


# Both


@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_single_endpoint_is_picked_unless_it_is_full_or_was_tried(
    balancer: type[RoundRobin | LeastRequests],
) -> None:
    alone = balancer((1,))
    assert alone.pick([4], 5, 0) == 0
    assert alone.pick([5], 5, 0) == NO_ENDPOINT
    assert alone.pick([0], 5, 0b1) == NO_ENDPOINT


@pytest.mark.parametrize("balancer", BALANCERS)
@pytest.mark.parametrize("weights", [(1, 1), (1, 2)])
def test_nothing_is_picked_when_all_are_full_or_were_tried(
    balancer: type[RoundRobin | LeastRequests], weights: tuple[int, ...]
) -> None:
    assert balancer(weights).pick([5, 6], 5, 0) == NO_ENDPOINT
    assert balancer(weights).pick([0, 0], 5, 0b11) == NO_ENDPOINT
    assert balancer(weights).pick([0, 5], 5, 0b01) == NO_ENDPOINT


@pytest.mark.parametrize("balancer", BALANCERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_picked_has_room_and_was_not_tried(
    balancer: type[RoundRobin | LeastRequests], data: st.DataObject
) -> None:
    weights = data.draw(WEIGHTS)
    balance = balancer(weights)
    for _ in range(10):
        active = data.draw(st.lists(st.integers(0, 3), min_size=len(weights), max_size=len(weights)))
        excluded = data.draw(st.integers(0, 2 ** len(weights) - 1))
        able = [e for e in range(len(weights)) if active[e] < 3 and not excluded & (1 << e)]
        picked = balance.pick(active, 3, excluded)
        assert picked in able if able else picked == NO_ENDPOINT
        if able and balancer is LeastRequests:
            least = min(Fraction(active[e] + 1, weights[e]) for e in able)
            assert Fraction(active[picked] + 1, weights[picked]) == least


@pytest.mark.parametrize("balancer", BALANCERS)
@pytest.mark.parametrize("weights", [(), (0,), (2, 0), (-1,)])
def test_weights_below_one_are_refused(balancer: type[RoundRobin | LeastRequests], weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weights of 1 or more"):
        balancer(weights)


# Splits


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).map(tuple).filter(sum))
def test_a_split_gives_each_part_its_weight(weights: tuple[int, ...]) -> None:
    split = WeightedSplit(weights)
    total = sum(weights)
    shares = Counter([split.pick((step + 0.5) / total) for step in range(total)])
    assert [shares[part] for part in range(len(weights))] == list(weights)


def test_a_split_holds_at_its_edges() -> None:
    almost_one = 1.0 - 2**-53
    assert WeightedSplit((95, 5)).pick(0.0) == 0
    assert WeightedSplit((95, 5)).pick(0.95) == 1
    assert WeightedSplit((95, 5)).pick(almost_one) == 1
    assert WeightedSplit((0, 1)).pick(0.0) == 1
    assert WeightedSplit((3, 0)).pick(almost_one) == 0
    for total in range(1, 1000):
        assert WeightedSplit((total,)).pick(almost_one) == 0


@pytest.mark.parametrize("weights", [(), (0, 0), (1, -1)])
def test_a_split_without_any_weight_is_refused(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weights of 0 or more"):
        WeightedSplit(weights)
