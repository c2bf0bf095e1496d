from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import ceil, inf, nan
from random import Random as Chance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_intdigest

from fastgw.policy.balancer import NO_ENDPOINT
from fastgw.policy.maglev import TABLE_SIZE, Maglev, hash_of
from tests.support.chi_square import chi_square

ROOM = 1000
# Slots enough for what is tried here, and filled in no time.
SMALL = 4099
KEYS = [hash_of(b"user-%d" % number) for number in range(20_000)]


def names(count: int) -> tuple[str, ...]:
    return tuple([f"10.0.0.{number}:8080" for number in range(count)])


@pytest.fixture(scope="module")
def ten() -> Maglev:
    return Maglev(names(10), (1,) * 10)


def owners(maglev: Maglev, excluded: int = 0, keys: list[int] = KEYS) -> list[int]:
    """Who gets each key while nothing is in flight."""
    idle = [0] * len(maglev.weights)
    return [maglev.pick_for(key, idle, ROOM, excluded) for key in keys]


def counts(picks: list[int], count: int) -> list[int]:
    found = Counter(picks)
    return [found[endpoint] for endpoint in range(count)]


def slots(maglev: Maglev, size: int) -> list[int]:
    """The whole table: while all are idle, a hash below the size is its own slot."""
    idle = [0] * len(maglev.weights)
    return [maglev.pick_for(slot, idle, ROOM, 0) for slot in range(size)]


# The hash


def test_a_key_has_the_hash_that_it_has_everywhere() -> None:
    # From the reference implementation's documentation of XXH3_64bits: of nothing at all.
    assert hash_of(b"") == 0x2D06800538D394C2
    code = "from fastgw.policy.maglev import hash_of; print(hash_of(b'user-1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == hash_of(b"user-1")


def test_keys_that_are_alike_spread_over_the_slots() -> None:
    for pattern in (b"%d", b"10.0.0.%d", b"session=%032d"):
        found = Counter([hash_of(pattern % number) % TABLE_SIZE * 64 // TABLE_SIZE for number in range(20_000)])
        assert chi_square([found[part] for part in range(64)], [1 / 64] * 64) < 1


# The table


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=8, max_size=8),
    st.sampled_from([11, 13, 251]),
)
def test_the_table_is_the_papers(endpoints: list[str], weights: list[int], size: int) -> None:
    weights = weights[: len(endpoints)]
    permutations = {}
    for endpoint in endpoints:
        digest = xxh3_128_intdigest(endpoint.encode())
        offset, skip = digest % size, (digest >> 64) % (size - 1) + 1
        permutations[endpoint] = [(offset + place * skip) % size for place in range(size)]
        assert sorted(permutations[endpoint]) == list(range(size))
    turns = sorted(
        (Fraction(turn, weight), endpoint)
        for endpoint, weight in zip(endpoints, weights, strict=True)
        for turn in range(size)
    )
    table: dict[int, int] = {}
    for _, endpoint in turns[:size]:
        slot = next(slot for slot in permutations[endpoint] if slot not in table)
        table[slot] = endpoints.index(endpoint)
    maglev = Maglev(tuple(endpoints), tuple(weights), table_size=size)
    assert slots(maglev, size) == [table[slot] for slot in range(size)]


@pytest.mark.parametrize(
    "weights", [(1, 1, 1, 1, 1), (5, 4, 3, 2, 1), (1, 1000, 1000, 1000, 1000), (0.5, 0.25, 1, 1, 1)]
)
def test_each_endpoint_has_the_slots_of_its_weight(weights: tuple[float, ...]) -> None:
    found = Counter(slots(Maglev(names(5), weights), TABLE_SIZE))
    for endpoint, weight in enumerate(weights):
        assert found[endpoint] == pytest.approx(TABLE_SIZE * weight / sum(weights), abs=1.001)


def test_no_endpoint_is_without_a_slot() -> None:
    found = Counter(slots(Maglev(names(100), (1000,) * 99 + (0.001,), table_size=SMALL), SMALL))
    assert found[99] == 1


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1), (0.5, 2, 1.5)])
def test_keys_come_to_endpoints_by_weight(weights: tuple[float, ...]) -> None:
    found = counts(owners(Maglev(names(3), weights)), 3)
    assert chi_square(found, [weight / sum(weights) for weight in weights]) < 1


def test_the_order_of_endpoints_does_not_matter() -> None:
    forwards, weights = names(7), (1, 2, 3, 4, 5, 6, 7)
    shuffled = list(range(7))
    Chance(1).shuffle(shuffled)
    one = Maglev(forwards, weights, table_size=SMALL)
    other = Maglev(
        tuple([forwards[place] for place in shuffled]), tuple([weights[place] for place in shuffled]), table_size=SMALL
    )
    assert [shuffled[owner] for owner in owners(other)] == owners(one)
    # Nor for who stands in.
    assert [shuffled[owner] for owner in owners(other, 1 << shuffled.index(3))] == owners(one, 1 << 3)


def test_few_keys_move_but_those_of_an_endpoint_that_leaves(ten: Maglev) -> None:
    all_ten = slots(ten, TABLE_SIZE)
    nine = slots(Maglev(names(9), (1,) * 9), TABLE_SIZE)
    others = [(one, other) for one, other in zip(all_ten, nine, strict=True) if one != 9]
    # In the paper, too, some do; the fewer, the more slots there are for each endpoint (§5.3).
    assert sum(one != other for one, other in others) / TABLE_SIZE < 0.01
    taken_over = counts([other for one, other in zip(all_ten, nine, strict=True) if one == 9], 9)
    assert chi_square(taken_over, [1 / 9] * 9) < 1


def test_few_keys_move_when_a_weight_changes_for_good(ten: Maglev) -> None:
    heavier = slots(Maglev(names(10), (1,) * 9 + (2,)), TABLE_SIZE)
    share = sum(one != other for one, other in zip(slots(ten, TABLE_SIZE), heavier, strict=True)) / TABLE_SIZE
    # From 1/10 to 2/11.
    assert 2 / 11 - 1 / 10 <= share < 2 / 11 - 1 / 10 + 0.02


# Endpoints that can't be taken


def test_an_excluded_endpoints_keys_spread_over_all_others_by_weight() -> None:
    weights = (4, 1, 2, 3, 2)
    maglev = Maglev(names(5), weights)
    before, after = owners(maglev), owners(maglev, excluded=0b00001)
    assert [one for one in before if one != 0] == [two for one, two in zip(before, after, strict=True) if one != 0]
    found = counts([two for one, two in zip(before, after, strict=True) if one == 0], 5)
    assert chi_square(found, [0, 1 / 8, 2 / 8, 3 / 8, 2 / 8]) < 1


def test_when_nearly_all_are_excluded_keys_still_spread_and_stay() -> None:
    maglev = Maglev(names(100), (1,) * 98 + (2, 3), table_size=SMALL)
    all_but_three = (1 << 97) - 1
    few = KEYS[:3000]
    before = owners(maglev, all_but_three, few)
    found = counts(before, 100)[97:]
    assert chi_square(found, [1 / 6, 2 / 6, 3 / 6]) < 1
    assert owners(maglev, all_but_three, few) == before
    # One of them goes: nobody else's keys move.
    after = owners(maglev, all_but_three | 1 << 97, few)
    assert [one for one in before if one != 97] == [two for one, two in zip(before, after, strict=True) if one != 97]


def test_a_full_endpoints_keys_go_elsewhere(ten: Maglev) -> None:
    key = KEYS[0]
    owner = ten.pick_for(key, [0] * 10, 5, 0)
    active = [0] * 10
    active[owner] = 5
    assert ten.pick_for(key, active, 5, 0) not in (owner, NO_ENDPOINT)


def test_nothing_is_picked_when_all_are_full_or_excluded(ten: Maglev) -> None:
    assert ten.pick_for(KEYS[0], [5] * 10, 5, 0) == NO_ENDPOINT
    assert ten.pick_for(KEYS[0], [0] * 10, 5, 0b1111111111) == NO_ENDPOINT
    assert ten.pick_for(KEYS[0], [0] * 9 + [5], 5, 0b0111111111) == NO_ENDPOINT


# Bounded loads


@pytest.mark.parametrize("weights", [(1,) * 7, (7, 6, 5, 4, 3, 2, 1), (1, 100, 100, 50)])
@pytest.mark.parametrize("load_factor", [1.25, 2, 1.0625])
@pytest.mark.parametrize("bound_min", [1, 3])
@pytest.mark.parametrize("is_one_key", [False, True])
def test_no_endpoint_ever_gets_more_than_its_bound(
    weights: tuple[int, ...], load_factor: float, bound_min: int, is_one_key: bool
) -> None:
    maglev = Maglev(names(len(weights)), weights, load_factor, bound_min, SMALL)
    active = [0] * len(weights)
    chance = Chance(1)
    for placed in range(700):
        picked = maglev.pick_for(KEYS[0 if is_one_key else chance.randrange(50)], active, 10**6, 0)
        active[picked] += 1
        bound = ceil(Fraction(load_factor) * sum(active) * weights[picked] / sum(weights))
        assert active[picked] <= max(bound, bound_min)
        # Some are answered.
        if placed % 3 == 0:
            done = chance.choice([endpoint for endpoint, count in enumerate(active) if count])
            active[done] -= 1


def test_a_key_that_all_ask_for_is_shared_as_far_as_the_bound_demands() -> None:
    maglev = Maglev(names(4), (1,) * 4, 1.25, table_size=SMALL)
    active = [0] * 4
    for _ in range(400):
        active[maglev.pick_for(KEYS[0], active, 10**6, 0)] += 1
    # The first ones in the key's order are at their bound: 125 of an average of 100.
    assert sorted(active) == [25, 125, 125, 125]


def test_a_few_requests_can_be_allowed_whatever_the_others_have() -> None:
    maglev = Maglev(names(4), (1,) * 4, bound_min=3, table_size=SMALL)
    active = [0] * 4
    for _ in range(6):
        active[maglev.pick_for(KEYS[0], active, ROOM, 0)] += 1
    assert sorted(active) == [0, 0, 3, 3]


def test_without_a_bound_a_key_stays_with_its_owner() -> None:
    maglev = Maglev(names(4), (1,) * 4, load_factor=inf, table_size=SMALL)
    active = [0] * 4
    for _ in range(400):
        active[maglev.pick_for(KEYS[0], active, ROOM, 0)] += 1
    assert sorted(active) == [0, 0, 0, 400]


def test_the_bound_is_of_those_that_can_be_taken() -> None:
    maglev = Maglev(names(4), (1,) * 4, 1.25, table_size=SMALL)
    # What hangs at the excluded one is no reason to load another with more.
    active = [1000, 0, 0, 0]
    for _ in range(300):
        active[maglev.pick_for(KEYS[0], active, 10**6, 0b0001)] += 1
    assert sorted(active[1:]) == [50, 125, 125]


def test_the_capacity_may_leave_no_choice_but_one_above_its_bound() -> None:
    maglev = Maglev(names(2), (10, 1), 1.25, table_size=SMALL)
    assert {maglev.pick_for(key, [10, 5], 10, 0) for key in KEYS[:50]} == {1}


def test_new_weights_move_bounds_and_no_keys() -> None:
    maglev = Maglev(names(3), (1, 1, 1), 1.25, table_size=SMALL)
    before = owners(maglev)
    maglev.set_weights((1, 1, 0.1))
    assert owners(maglev) == before
    active = [0, 0, 0]
    for key in KEYS[:420]:
        active[maglev.pick_for(key, active, 10**6, 0)] += 1
    assert active[2] == ceil(1.25 * 420 * 0.1 / 2.1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_picked_can_be_taken_and_is_below_its_bound_where_one_is(data: st.DataObject) -> None:
    maglev = data.draw(st.sampled_from(SOME))
    count = len(maglev.weights)
    active = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    excluded = data.draw(st.integers(0, 2**count - 1))
    key = data.draw(st.integers(0, 2**64 - 1))
    picked = maglev.pick_for(key, active, 9, excluded)
    among = [endpoint for endpoint in range(count) if not excluded >> endpoint & 1]
    able = [endpoint for endpoint in among if active[endpoint] < 9]
    each = Fraction(5, 4) * (sum(active[one] for one in among) + 1) / (sum(maglev.weights[one] for one in among) or 1)
    below = [endpoint for endpoint in able if active[endpoint] < each * maglev.weights[endpoint]]
    assert picked in (below or able or [NO_ENDPOINT])
    assert picked == maglev.pick_for(key, active, 9, excluded)


SOME = [Maglev(names(len(weights)), weights, table_size=251) for weights in ((1,), (1, 1), (5, 1, 1), (1,) * 40)]


# What is refused


@pytest.mark.parametrize("weights", [(0, 1), (1, -1)])
def test_weights_that_are_not_above_nought_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weights above 0"):
        Maglev(names(2), weights, table_size=11)


def test_weights_are_as_many_as_the_endpoints() -> None:
    with pytest.raises(ValueError, match="1 weights for 2 endpoints"):
        Maglev(names(2), (1,), table_size=11)
    with pytest.raises(ValueError, match="3 weights for 2 endpoints"):
        Maglev(names(2), (1, 1), table_size=11).set_weights((1, 2, 3))


@pytest.mark.parametrize("size", [0, 1, 2, 9, 65539])
def test_a_table_that_does_not_work_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a prime from 3 to 65537"):
        Maglev(names(3), (1, 1, 1), table_size=size)


@pytest.mark.parametrize(("load_factor", "bound_min"), [(1.0, 1), (nan, 1), (1.25, 0)])
def test_a_bound_that_leaves_no_room_is_refused(load_factor: float, bound_min: int) -> None:
    with pytest.raises(ValueError, match="load factor above 1"):
        Maglev(names(3), (1, 1, 1), load_factor, bound_min)
