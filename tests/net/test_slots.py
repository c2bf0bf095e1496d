from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastgw.net.slots import Slots, first_slots
from fastgw.snapshot import Address, Endpoint


def endpoints(names: str) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(name, Address(name, 80)) for name in names)


def names(slots: Slots) -> str:
    """A dot is a place where nobody is any more."""
    places = enumerate(slots.endpoints)
    return "".join("." if slots.gone >> index & 1 else endpoint.name for index, endpoint in places)


def follow(before: Slots, wanted: str, used: str = "") -> Slots:
    return before.followed_by(endpoints(wanted), lambda index: before.endpoints[index].name not in set(used))


def test_who_stays_keeps_its_place_and_a_new_one_takes_a_free_one() -> None:
    slots = follow(first_slots(endpoints("abc")), "cda")
    assert names(slots) == "adc"
    assert slots.staying(first_slots(endpoints("abc"))) == 0b101


def test_a_place_that_is_still_used_goes_to_nobody_but_its_own() -> None:
    slots = follow(first_slots(endpoints("abc")), "acd", used="b")
    assert names(slots) == "a.cd"
    assert [one.name for one in slots.present()] == ["a", "c", "d"]
    assert names(follow(slots, "abcd", used="b")) == "abcd"


def test_places_at_the_end_go_with_their_endpoints() -> None:
    assert names(follow(first_slots(endpoints("abc")), "a")) == "a"
    assert names(follow(first_slots(endpoints("abc")), "a", used="c")) == "a.."


def test_nobody_at_all_is_one_empty_place() -> None:
    slots = first_slots(())
    assert (names(slots), slots.present()) == (".", ())
    assert names(follow(slots, "ab")) == "ab"
    assert names(follow(follow(slots, "ab"), "")) == "."


def test_other_weights_are_no_other_endpoint() -> None:
    before = first_slots(endpoints("ab"))
    slots = before.followed_by((Endpoint("b", Address("b", 80), weight=5), *endpoints("a")), lambda _: True)
    assert [one.weight for one in slots.endpoints] == [1, 5]
    assert slots.staying(before) == 0b11


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef"))), max_size=8))
def test_whatever_comes_and_goes_all_are_there_once_and_stay_where_they_are(
    steps: list[tuple[set[str], set[str]]],
) -> None:
    slots = first_slots(())
    for wanted, used in steps:
        before = slots
        slots = follow(before, "".join(sorted(wanted)), "".join(used))
        assert sorted(one.name for one in slots.present()) == sorted(wanted)
        for index, endpoint in enumerate(before.endpoints):
            if endpoint.name in used or (endpoint.name in wanted and not before.gone >> index & 1):
                assert slots.endpoints[index].name == endpoint.name
