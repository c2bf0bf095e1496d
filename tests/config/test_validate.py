from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.config.document import holds
from fastgw.config.load import load_text
from fastgw.config.problems import toml_text
from fastgw.errors import ConfigError, Problem

EXAMPLE = tomllib.loads((Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8"))
ODD_VALUES: list[Any] = [
    *(0, -1, 10**30, 1.5, float("inf"), True, False, "", "x", "/", "/{a}", "*", "~(", "${SECRET}", "${", "é\n\0"),
    *([], ["x"], [["x"]], [{}], {}, {"x": 1}, {"set": {"Host": ""}}, {"": ""}),
]  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in paths(item, (*path, key)))]


PATHS = paths(EXAMPLE)[1:]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(ODD_VALUES)), min_size=1, max_size=3))
def test_whatever_stands_anywhere_is_taken_or_refused_with_its_place(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    data = copy.deepcopy(EXAMPLE)
    for path, value in changes:
        replace(data, path, value)
    text = "".join(f"{key_text(key)} = {written(value)}\n" for key, value in data.items())
    for problem in problems_of(text):
        assert problem.line or problem.message.startswith("there is no ")
        assert "not valid TOML" not in problem.message
        assert "hunter2" not in str(problem)
        assert "\n" not in str(problem)


def problems_of(text: str) -> list[Problem]:
    try:
        load_text(text, environment={"SECRET": "hunter2"})
    except ConfigError as error:
        return error.problems
    return []


def replace(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for part in path[:-1]:
        if not holds(data, part):
            return
        data = data[part]
    if isinstance(data, dict) if isinstance(path[-1], str) else isinstance(data, list) and path[-1] < len(data):
        data[path[-1]] = copy.deepcopy(value)


def key_text(key: str) -> str:
    return '"' + key.replace('"', '\\"') + '"'


def written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key_text(key)} = {written(item)}" for key, item in value.items()) + "}"
    return toml_text(value)
