from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from random import Random as Chance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.balancer import NO_ENDPOINT, LeastRequests, PowerOfTwo, Random, RoundRobin, WeightedSplit
from tests.support.chi_square import chi_square

ROOM = 1000
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
MIXED_WEIGHTS = ((1, 1, 1), (3, 2, 1), (0.5, 0.25, 2), (1, 1000, 999))

Balancer = RoundRobin | LeastRequests | Random | PowerOfTwo


def random(weights: tuple[float, ...]) -> Random:
    return Random(weights, Chance(1).random)


def power_of_two(weights: tuple[float, ...]) -> PowerOfTwo:
    return PowerOfTwo(weights, Chance(1).random)


BALANCERS = (RoundRobin, LeastRequests, random, power_of_two)
ANY_BALANCER = pytest.mark.parametrize("balancer", BALANCERS)


def picks(balancer: RoundRobin | LeastRequests, count: int, excluded: int = 0) -> list[int]:
    """What one request after another gets, each answered before the next."""
    idle = [0] * len(balancer.weights)
    return [balancer.pick(idle, ROOM, excluded) for _ in range(count)]


def share(weights: tuple[float, ...], among: tuple[int, ...]) -> list[float]:
    """Each endpoint's part of the weight of those."""
    total = sum(weights[endpoint] for endpoint in among)
    return [weight / total if endpoint in among else 0 for endpoint, weight in enumerate(weights)]


def counts(balancer: Balancer, active: list[int], excluded: int, count: int = 20_000) -> list[int]:
    """How often each endpoint is picked when nothing else changes, and three requests are the most."""
    found = Counter([balancer.pick(active, 3, excluded) for _ in range(count)])
    return [found[endpoint] for endpoint in range(len(active))]


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


def test_endpoints_in_reserve_get_nothing_while_the_others_take_turns() -> None:
    assert picks(RoundRobin((1, 1, 1, 1)), 4, excluded=0b1010) == [0, 2, 0, 2]


def test_after_a_step_of_the_weights_the_next_cycle_is_the_new_one() -> None:
    balancer = RoundRobin((1, 1, 1))
    assert picks(balancer, 3) == [0, 1, 2]
    balancer.set_weights((5, 1, 1))
    assert picks(balancer, 7) == [0, 0, 1, 0, 2, 0, 0]
    balancer.set_weights((1, 1, 1))
    assert picks(balancer, 3) == [0, 1, 2]


def test_who_has_had_its_turn_waits_for_the_others_when_weights_step() -> None:
    balancer = RoundRobin((1, 1, 1))
    assert picks(balancer, 1) == [0]
    balancer.set_weights((1, 1, 0.75))
    assert picks(balancer, 1) == [1]
    balancer.set_weights((2, 2, 2))
    assert picks(balancer, 2) == [2, 0]
    balancer.set_weights((3, 3, 3))
    assert picks(balancer, 3) == [1, 2, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.data())
def test_round_robin_stays_smooth_and_fair_while_weights_step(count: int, data: st.DataObject) -> None:
    steps = data.draw(
        st.lists(
            st.tuples(st.lists(st.integers(1, 20), min_size=count, max_size=count).map(tuple), st.integers(0, 12)),
            min_size=1,
            max_size=8,
        )
    )
    balancer = RoundRobin(steps[0][0])
    due = [Fraction(0)] * count
    got = [0] * count
    slack = Fraction(0)
    was_equal = len(set(steps[0][0])) == 1
    for weights, turns in steps:
        balancer.set_weights(weights)
        is_equal = len(set(weights)) == 1
        # Taking turns forgets fractions of a pick.
        slack += 1 if is_equal and not was_equal else 0
        was_equal = is_equal
        for endpoint in picks(balancer, turns):
            got[endpoint] += 1
            due = [had + Fraction(weight, sum(weights)) for had, weight in zip(due, weights, strict=True)]
            assert all(mine - fair < 1 + slack for mine, fair in zip(got, due, strict=True))


def test_weights_that_step_all_the_time_are_each_obeyed() -> None:
    # As in a slow start from a tenth: the sum of its shares is what the endpoint gets.
    balancer = RoundRobin((10, 10, 10))
    due = 0.0
    got = 0
    for step in range(1, 101):
        balancer.set_weights((10, 10, step / 10))
        got += picks(balancer, 17).count(2)
        due += 17 * (step / 10) / (20 + step / 10)
    assert abs(got - due) < 1


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


def test_least_requests_go_by_the_weights_of_now() -> None:
    balancer = LeastRequests((1, 1))
    balancer.set_weights((1, 0.1))
    assert [balancer.pick([8, 0], ROOM, 0), balancer.pick([10, 0], ROOM, 0)] == [0, 1]


# Random


@pytest.mark.parametrize("weights", MIXED_WEIGHTS)
def test_random_picks_come_by_weight(weights: tuple[float, ...]) -> None:
    assert chi_square(counts(random(weights), [0, 1, 2], 0), share(weights, (0, 1, 2))) < 1


@pytest.mark.parametrize("weights", MIXED_WEIGHTS)
def test_what_an_endpoint_can_not_take_comes_to_the_others_by_weight(weights: tuple[float, ...]) -> None:
    full = counts(random(weights), [0, 3, 0], 0)
    assert chi_square(full, share(weights, (0, 2))) < 1
    assert chi_square(counts(random(weights), [0, 0, 0], 0b010), share(weights, (0, 2))) < 1
    # Which one has the light one's share matters: the heavy ones are drawn in vain, and endpoints are looked through.
    assert counts(random(weights), [0, 0, 3], 0b010, count=100) == [100, 0, 0]


def test_random_picks_come_by_the_weights_of_now() -> None:
    balancer = random((1, 1, 1))
    counts(balancer, [0, 0, 0], 0, count=7)
    balancer.set_weights((1, 5, 0.1))
    assert chi_square(counts(balancer, [0, 0, 0], 0), share((1, 5, 0.1), (0, 1, 2))) < 1


def test_the_edges_of_chance_fall_on_endpoints() -> None:
    for edge in (0.0, 1.0 - 2**-53):
        for weights in ((1, 1, 1), (0.1, 0.2, 0.3), (1, 1000), (0.7,)):
            for balancer in (Random(weights, lambda edge=edge: edge), PowerOfTwo(weights, lambda edge=edge: edge)):
                able = range(len(weights))
                assert balancer.pick([1] * len(weights), 2, 0) in able
                assert balancer.pick([0] * len(weights), 2, 0b10) in able


# Power of two


@pytest.mark.parametrize("weights", MIXED_WEIGHTS)
def test_two_choices_share_an_idle_upstream_by_weight(weights: tuple[float, ...]) -> None:
    assert chi_square(counts(power_of_two(weights), [0, 0, 0], 0), share(weights, (0, 1, 2))) < 1
    assert chi_square(counts(power_of_two(weights), [0, 0, 0], 0b001), share(weights, (1, 2))) < 1


@pytest.mark.parametrize("weights", MIXED_WEIGHTS)
@pytest.mark.parametrize("active", [[0, 1, 2], [2, 0, 0], [3, 1, 0, 2]])
def test_of_two_distinct_draws_by_weight_the_less_busy_is_taken(weights: tuple[float, ...], active: list[int]) -> None:
    weights = (*weights, 1)[: len(active)]
    able = [endpoint for endpoint, count in enumerate(active) if count < 3]
    expected = [0.0] * len(active)
    for first in able:
        for second in able:
            if first != second:
                total = sum(weights[endpoint] for endpoint in able)
                chance = weights[first] / total * weights[second] / (total - weights[first])
                loads = [Fraction(active[one] + 1) / Fraction(weights[one]) for one in (first, second)]
                is_idle = active[first] == active[second] == 0
                expected[second if loads[1] < loads[0] and not is_idle else first] += chance
    assert chi_square(counts(power_of_two(weights), active, 0), expected) < 1


def test_two_choices_go_by_the_weights_of_now() -> None:
    balancer = power_of_two((1, 1))
    balancer.set_weights((1, 0.1))
    assert balancer.pick([8, 0], ROOM, 0) == 0
    assert balancer.pick([10, 0], ROOM, 0) == 1


def test_two_choices_level_what_one_choice_leaves_uneven() -> None:
    bins = 1000
    most = {}
    for balancer in (random, power_of_two):
        one = balancer((1,) * bins)
        active = [0] * bins
        for _ in range(bins):
            active[one.pick(active, ROOM, 0)] += 1
        most[balancer] = max(active)
    # In theory about log2 log2 n + O(1), and log n / log log n.
    assert most[power_of_two] <= 3
    assert most[random] >= 5


# All


@ANY_BALANCER
def test_a_single_endpoint_is_picked_unless_it_is_full_or_was_tried(
    balancer: Callable[[tuple[float, ...]], Balancer],
) -> None:
    alone = balancer((1,))
    assert alone.pick([4], 5, 0) == 0
    assert alone.pick([5], 5, 0) == NO_ENDPOINT
    assert alone.pick([0], 5, 0b1) == NO_ENDPOINT


@ANY_BALANCER
@pytest.mark.parametrize("weights", [(1, 1), (1, 2)])
def test_nothing_is_picked_when_all_are_full_or_were_tried(
    balancer: Callable[[tuple[float, ...]], Balancer], weights: tuple[int, ...]
) -> None:
    assert balancer(weights).pick([5, 6], 5, 0) == NO_ENDPOINT
    assert balancer(weights).pick([0, 0], 5, 0b11) == NO_ENDPOINT
    assert balancer(weights).pick([0, 5], 5, 0b01) == NO_ENDPOINT


@ANY_BALANCER
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_picked_has_room_and_was_not_tried(
    balancer: Callable[[tuple[float, ...]], Balancer], data: st.DataObject
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


@ANY_BALANCER
@pytest.mark.parametrize("weights", [(), (0,), (2, 0), (-1,)])
def test_weights_that_are_not_above_nought_are_refused(
    balancer: Callable[[tuple[float, ...]], Balancer], weights: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="weights above 0"):
        balancer(weights)


@ANY_BALANCER
def test_new_weights_are_as_many_as_the_endpoints(balancer: Callable[[tuple[float, ...]], Balancer]) -> None:
    one = balancer((1, 2))
    with pytest.raises(ValueError, match="3 weights for 2 endpoints"):
        one.set_weights((1, 2, 3))
    with pytest.raises(ValueError, match="weights above 0"):
        one.set_weights((1, 0))


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
