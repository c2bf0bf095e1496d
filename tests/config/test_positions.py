from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.config.positions import NOWHERE, Path, Positions

TEXT = """\
# A comment.
title = "a"
a.b."c d" = 1

[x.'y z']
list = [1, "two",
  # between
  { z = 3, w.v = [4] }]

[[routes]]
name = "é"
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("title",), (2, 1), (2, 9)),
        (("a",), (3, 1), (3, 1)),
        (("a", "b"), (3, 3), (3, 3)),
        (("a", "b", "c d"), (3, 5), (3, 13)),
        (("x",), (5, 2), (5, 2)),
        (("x", "y z"), (5, 1), (5, 1)),
        (("x", "y z", "list"), (6, 1), (6, 8)),
        (("x", "y z", "list", 0), (6, 9), (6, 9)),
        (("x", "y z", "list", 1), (6, 12), (6, 12)),
        (("x", "y z", "list", 2), (8, 3), (8, 3)),
        (("x", "y z", "list", 2, "z"), (8, 5), (8, 9)),
        (("x", "y z", "list", 2, "w", "v"), (8, 14), (8, 18)),
        (("x", "y z", "list", 2, "w", "v", 0), (8, 19), (8, 19)),
    ],
)
def test_keys_and_values_stand_where_they_begin(path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    positions = Positions(TEXT)
    assert (positions.key(path), positions.value(path)) == (key, value)


def test_tables_below_an_array_of_tables_belong_to_its_last_element() -> None:
    text = "[[routes]]\nname = 'a'\n[routes.rewrite]\nhost = 'h'\n[[routes]]\n[routes.rewrite]\nhost = 'i'\n"
    positions = Positions(text)
    assert positions.key(("routes", 0)) == (1, 1)
    assert positions.value(("routes", 0, "rewrite", "host")) == (4, 8)
    assert positions.key(("routes", 1)) == (5, 1)
    assert positions.value(("routes", 1, "rewrite", "host")) == (7, 8)


def test_arrays_of_tables_may_stand_in_each_other() -> None:
    positions = Positions("[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n")
    lines = [positions.key(path)[0] for path in (("a", 0, "b", 0, "x"), ("a", 0, "b", 1, "x"), ("a", 1, "b", 0, "x"))]
    assert lines == [3, 5, 8]


def test_columns_count_characters_and_not_bytes() -> None:
    assert Positions('a = { é = "ü", b = 1 }').value(("a", "b")) == (1, 20)


def test_a_text_of_windows_has_the_same_positions() -> None:
    assert Positions("[a]\r\nb = 1\r\n").value(("a", "b")) == (2, 5)


def test_what_is_not_there_stands_where_the_table_around_it_does() -> None:
    positions = Positions("[a]\nb = 1\n")
    assert positions.key(("a", "c")) == (1, 1)
    assert positions.value(("a", "b", 3)) == (2, 5)
    assert positions.key(("z",)) == NOWHERE


_KEYS = st.text("ab-_. é\"'", min_size=1, max_size=3)
_VALUES = st.recursive(
    st.one_of(st.integers(0, 9), st.booleans(), st.text("ab#=[{\\\"'é", max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_every_value_is_found_at_its_position(data: dict[str, Any]) -> None:
    text = "".join(f"{_written(key)} = {_written(value)}\n" for key, value in data.items())
    positions = Positions(text)
    lines = text.splitlines()
    for path, value in _leaves((), tomllib.loads(text)):
        line, column = positions.value(path)
        assert lines[line - 1][column - 1 :].startswith(_written(value))


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)} = {_written(item)}" for key, item in value.items()) + "}"
    return str(value)


def _leaves(path: Path, value: Any) -> list[tuple[Path, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves((*path, key), item)]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves((*path, index), item)]
    return [(path, value)]
