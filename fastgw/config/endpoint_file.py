"""A file with a list of endpoints: read, and compiled, or all that is wrong with it.

In TOML that is `endpoints = [...]`, as an upstream has it, and nothing else; in JSON the list itself, or such a table.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from fastgw.config import schema
from fastgw.config.compile import Endpoints, compile_endpoints
from fastgw.config.load import decoded, read_content, toml_problem
from fastgw.config.positions import NOWHERE, Path, Position, Positions
from fastgw.config.problems import Wrong, did_you_mean, kind, path_text, toml_text
from fastgw.errors import ConfigError, Problem

_LIST_HINT = 'write endpoints = ["10.0.0.1:80"]'
# A thousand endpoints have 50 KB. More is a wrong file.
_FILE_SIZE_MAX = 16 * 1024 * 1024
_SPACE = " \t\r\n"

# Where the value at a path stands.
_Places = Callable[[Path], Position]


def read_endpoints(file: FilePath, base: FilePath) -> Endpoints:
    """The endpoints that a file lists; relative paths of Unix sockets start from `base`. Raises ConfigError."""
    text = decoded(read_content(file, _FILE_SIZE_MAX), str(file))
    try:
        data, places = _parse_json(text, file) if file.suffix == ".json" else _parse_toml(text, file)
    except RecursionError:
        raise ConfigError([Problem(str(file), 1, 1, "", "nested too deep")]) from None
    problems = _Problems(str(file), places)
    listed = _list(data, problems)
    found = [_endpoint(("endpoints", index), value, problems) for index, value in enumerate(listed)]
    _check_names(found, problems)
    if problems.found:
        raise ConfigError(problems.found)
    return compile_endpoints([endpoint for endpoint in found if endpoint is not None], base)


class _Problems:
    def __init__(self, file: str, places: _Places) -> None:
        self.found: list[Problem] = []
        self._file = file
        self._places = places

    def add(self, path: Path, message: str, suggestion: str) -> None:
        self.found.append(Problem(self._file, *self._places(path), path_text(path), message, suggestion))


def _parse_toml(text: str, file: FilePath) -> tuple[object, _Places]:
    try:
        return tomllib.loads(text), Positions(text).value
    except ValueError as error:
        raise ConfigError([toml_problem(error, text, str(file))]) from None


def _parse_json(text: str, file: FilePath) -> tuple[object, _Places]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise ConfigError([Problem(str(file), error.lineno, error.colno, "", message)]) from None
    starts = _json_elements(text) if isinstance(data, list) else []
    data = {"endpoints": data} if isinstance(data, list) else data

    def place(path: Path) -> Position:
        index = path[1] if len(path) > 1 else None
        start = starts[index] if isinstance(index, int) and index < len(starts) else 0
        return (text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)) if text else NOWHERE

    return data, place


def _json_elements(text: str) -> list[int]:
    """Where the elements of a list begin: the text is valid, and is one."""
    starts: list[int] = []
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    while True:
        while text[position] in _SPACE + ",":
            position += 1
        if text[position] == "]":
            return starts
        starts.append(position)
        _, position = decoder.raw_decode(text, position)


def _list(data: object, problems: _Problems) -> list[Any]:
    if not isinstance(data, dict):
        problems.add((), f"must be a list of endpoints, not {kind(data)}", 'write ["10.0.0.1:80"]')
        return []
    for key in data:
        if key != "endpoints":
            problems.add((key,), "unknown key", did_you_mean(key, ["endpoints"]) or "known here: endpoints")
    listed = data.get("endpoints")
    if isinstance(listed, list):
        return listed
    if "endpoints" in data:
        problems.add(("endpoints",), f"must be a list, not {kind(listed)}", _LIST_HINT)
    elif not data:
        problems.add((), "endpoints is missing", _LIST_HINT)
    return []


def _endpoint(path: Path, value: object, problems: _Problems) -> schema.Endpoint | None:
    try:
        return schema.Endpoint.model_validate(schema.read_endpoint(value))
    except Wrong as wrong:
        _add_wrong(path, wrong, value, problems)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            # Of the short form, there is only the element itself.
            where: Path = (*path, *found["loc"]) if isinstance(value, dict) else path
            wrong_value = found.get("ctx", {}).get("error")
            if isinstance(wrong_value, Wrong):
                _add_wrong(where, wrong_value, found["input"], problems)
            elif found["type"] == "missing":
                problems.add(path, f"{where[-1]} is missing", 'write address = "10.0.0.1:80"')
            else:
                problems.add(where, "unknown key", f"known here: {', '.join(schema.Endpoint.model_fields)}")
    return None


def _add_wrong(path: Path, wrong: Wrong, value: object, problems: _Problems) -> None:
    problems.add(path, wrong.message.replace("{value}", toml_text(value)), wrong.suggestion)


def _check_names(found: list[schema.Endpoint | None], problems: _Problems) -> None:
    names: set[str] = set()
    for index, endpoint in enumerate(found):
        if endpoint is not None and endpoint.address.text in names:
            problems.add(("endpoints", index), "the endpoint is there twice", "give one of them the weight of both")
        elif endpoint is not None:
            names.add(endpoint.address.text)
