from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.mirror import Answer, Comparison, Difference, MirrorSettings, compare

DEFAULTS = MirrorSettings()
JSON_LINES = b"\r\nContent-Type: application/json"


def bodies(primary: bytes, mirror: bytes, wanted: MirrorSettings = DEFAULTS) -> list[str]:
    """How two bodies differ."""
    result = compare(Answer(200, JSON_LINES, primary), Answer(200, JSON_LINES, mirror), wanted)
    assert result.is_same == (not result.differences)
    assert result.kinds() == (() if result.is_same else ("body",))
    return [str(difference) for difference in result.differences]


def values(primary: Any, mirror: Any, wanted: MirrorSettings = DEFAULTS) -> list[str]:
    return bodies(json.dumps(primary).encode(), json.dumps(mirror).encode(), wanted)


# Status and headers.


def test_answers_that_are_the_same_have_no_differences() -> None:
    answer = Answer(200, JSON_LINES, b'{"a": 1}')
    assert compare(answer, answer, DEFAULTS) == Comparison(())


def test_another_status_is_a_difference() -> None:
    result = compare(Answer(200, b"", b""), Answer(503, b"", b""), DEFAULTS)
    assert result.differences == (Difference("status", "", "200", "503"),)
    assert str(result.differences[0]) == "status: 200, mirror: 503"


def test_only_chosen_headers_are_compared_in_any_case_and_order() -> None:
    primary = Answer(200, b"\r\nDate: a\r\nX-One: 1\r\nx-two: 2\r\nX-Two: 3\r\nX-Same: s", b"")
    mirror = Answer(200, b"\r\nx-same:  s \r\nDate: b\r\nX-Two: 2", b"")
    result = compare(primary, mirror, MirrorSettings(headers=(b"x-one", b"x-two", b"x-same", b"x-none")))
    assert [str(difference) for difference in result.differences] == [
        "header x-one: 1, mirror: absent",
        "header x-two: 2, 3, mirror: 2",
    ]
    assert compare(primary, mirror, MirrorSettings(headers=())).is_same


def test_all_kinds_are_told_once_each() -> None:
    primary = Answer(200, b"\r\nA: 1\r\nB: 1", b'{"a":1,"b":1}')
    mirror = Answer(500, b"\r\nA: 2\r\nB: 2", b'{"a":2,"b":2}')
    result = compare(primary, mirror, MirrorSettings(headers=(b"a", b"b")))
    assert result.kinds() == ("status", "header", "body")
    assert len(result.differences) == 5


# Bodies.


@pytest.mark.parametrize(
    ("primary", "mirror"),
    [
        (b'{"a": 1, "b": [true, null]}', b' {"b":[true,null],\n"a":1}'),
        (b"1", b"1.0"),
        (b'{"a": 100}', b'{"a": 1e2}'),
        (b'"\\u00e9"', '"é"'.encode()),
        (b"[]", b"[ ]"),
    ],
)
def test_json_is_compared_by_value(primary: bytes, mirror: bytes) -> None:
    assert bodies(primary, mirror) == []


@pytest.mark.parametrize(
    ("primary", "mirror", "expected"),
    [
        ({"items": [1, 2, {"price": 3}]}, {"items": [1, 2, {"price": 4}]}, ["body $.items[2].price: 3, mirror: 4"]),
        ({"a": 1}, {}, ["body $.a: 1, mirror: absent"]),
        ({}, {"a": None}, ["body $.a: absent, mirror: null"]),
        ([1, 2], [1, 3, 4], ["body $[1]: 2, mirror: 3", "body $: 2 items, mirror: 3 items"]),
        ({"a": True}, {"a": 1}, ["body $.a: true, mirror: 1"]),
        ({"a": [0]}, {"a": [False]}, ["body $.a[0]: 0, mirror: false"]),
        ({"a": "1"}, {"a": 1}, ['body $.a: "1", mirror: 1']),
        ({"a": [1]}, {"a": {"0": 1}}, ['body $.a: [1], mirror: {"0":1}']),
        ({"a": None}, {"a": 0}, ["body $.a: null, mirror: 0"]),
        (1, 2, ["body $: 1, mirror: 2"]),
        # Names that would be read as something else are quoted.
        ({"a.b": 1}, {"a.b": 2}, ['body $["a.b"]: 1, mirror: 2']),
        ({"": 1, "é": 1}, {"": 2, "é": 2}, ['body $[""]: 1, mirror: 2', 'body $["é"]: 1, mirror: 2']),
    ],
)
def test_a_difference_in_json_is_told_by_its_place(primary: Any, mirror: Any, expected: list[str]) -> None:
    assert values(primary, mirror) == expected


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ((), 4),
        (("$.time",), 3),
        (("$.items[*].price",), 2),
        (("$.items[0].price",), 3),
        (("$.items",), 2),
        (("$.items[*]",), 2),
        (("$.gone", "$.time"), 2),
        (("$",), 0),
        (("$.items[*].name", "$.tim"), 4),
    ],
)
def test_ignored_places_and_what_is_below_them_are_not_looked_at(ignored: tuple[str, ...], expected: int) -> None:
    primary = {"time": 1, "items": [{"price": 1}, {"price": 1}], "gone": 1}
    mirror = {"time": 2, "items": [{"price": 2}, {"price": 2}]}
    assert len(values(primary, mirror, MirrorSettings(ignored_paths=frozenset(ignored)))) == expected


def test_what_is_not_json_is_told_by_length_and_hash() -> None:
    digest, other = hashlib.sha256(b"<a>").hexdigest()[:12], hashlib.sha256(b"{}").hexdigest()[:12]
    assert bodies(b"<a>", b"{}") == [f"body: 3 bytes, sha256 {digest}, mirror: 2 bytes, sha256 {other}"]
    assert bodies(b"", b"{}")[0].startswith("body: 0 bytes, sha256 e3b0c44298fc, mirror: 2 bytes")
    assert bodies(b"\xff", b"\xff") == []


# Bounds.


def test_the_number_of_differences_is_bounded_and_it_is_told_that_there_are_more() -> None:
    primary, mirror = ({str(number): value for number in range(11)} for value in (1, 2))
    for wanted, cut in ((10, True), (11, False)):
        result = compare(
            Answer(200, b"", json.dumps(primary).encode()),
            Answer(200, b"", json.dumps(mirror).encode()),
            MirrorSettings(max_differences=wanted),
        )
        assert (len(result.differences), result.is_cut) == (wanted, cut)


def test_nothing_more_is_compared_past_the_bound() -> None:
    primary, mirror = ({"a": [{"b": [value] * 3}] * 3, "c": [value], "d": value} for value in (1, 2))
    for most, cut in ((1, True), (3, True), (4, True), (10, True), (11, False)):
        assert len(values(primary, mirror, MirrorSettings(max_differences=most))) == most
        answers = [Answer(200, b"", json.dumps(body).encode()) for body in (primary, mirror)]
        assert compare(*answers, MirrorSettings(max_differences=most)).is_cut == cut


def test_what_is_nested_too_deep_is_compared_as_a_whole() -> None:
    primary, mirror = {"a": {"b": {"c": [1, True]}}}, {"a": {"b": {"c": [1, 1]}}}
    assert values(primary, mirror, MirrorSettings(max_depth=2)) == ['body $.a.b: {"c":[1,true]}, mirror: {"c":[1,1]}']
    assert values({"a": {"b": 1}}, {"a": {"b": 1.0}}, MirrorSettings(max_depth=1)) == []
    assert values({"a": {"b": 1}}, {"a": {"c": 1}}, MirrorSettings(max_depth=1)) != []
    assert values({"a": [[1], 2]}, {"a": [[1], 2, 3]}, MirrorSettings(max_depth=1)) != []


def test_nesting_as_deep_as_can_be_read_does_no_harm() -> None:
    for depth in (31, 32, 33, 200, 300, 1000, 5000):
        primary, mirror = (b"[" * depth + inner + b"]" * depth for inner in (b"1", b"2"))
        assert len(bodies(primary, mirror)) == 1
        assert bodies(primary, primary + b" ") == [] or depth > 1024


def test_large_bodies_are_compared_by_their_bytes() -> None:
    primary, mirror = b'{"a":[1,2]}', b'{"a":[1,3]}'
    assert bodies(primary, mirror, MirrorSettings(max_json_size=11)) == ["body $.a[1]: 2, mirror: 3"]
    assert "sha256" in bodies(primary, mirror, MirrorSettings(max_json_size=10))[0]


def test_long_values_are_cut() -> None:
    difference = values("x" * 1000, "y" * 1000)[0]
    assert difference == f'body $: "{"x" * 62}…, mirror: "{"y" * 62}…'


# Any JSON.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0]) | st.text("ab.", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=12,
)


def same(one: Any, two: Any) -> bool:
    """The slow and obvious: equal in value, and true is not 1."""
    if isinstance(one, dict) and isinstance(two, dict):
        return set(one) == set(two) and all(same(one[name], two[name]) for name in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)


@settings(max_examples=60, deadline=None)
@given(JSON, JSON, st.integers(0, 4))
def test_there_are_differences_exactly_when_values_differ(primary: Any, mirror: Any, depth: int) -> None:
    wanted = MirrorSettings(max_depth=depth)
    for other in (mirror, copy.deepcopy(primary)):
        assert (values(primary, other, wanted) == []) == same(primary, other)
        assert len(values(primary, other, wanted)) == len(values(other, primary, wanted))
