"""A document's data against the schema: all that is wrong with it, in our words, and a model of the rest.

What is wrong is left out, and the rest validated again, until a model stands: so the cross-checks can look at
everything else, and one run finds all problems. `broken` tells them what to keep quiet about.
"""

from __future__ import annotations

import copy
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from fastgw.config.document import Path, holds
from fastgw.config.problems import Report, Wrong, did_you_mean, kind, path_text, toml_text
from fastgw.config.schema import Config

# Each round leaves out at least one key, and one level more of it at the most.
_ROUNDS_MAX = 20
# What stands in for a required value that is missing from an element of a list of tables.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("listeners", "address"): "127.0.0.1:0",
    ("tests", "request"): "GET http://localhost/",
    ("tests", "expect"): {},
}


def validate(
    data: dict[str, Any], report: Report, missing: frozenset[Path] = frozenset()
) -> tuple[Config, frozenset[Path]]:
    """The model of what is right, and the paths of what was left out, beginning with what is `missing`."""
    broken: set[Path] = set()
    if missing:
        data = copy.deepcopy(data)
    for path in missing:
        _leave_out(data, "", path, broken)
    for number in range(_ROUNDS_MAX):
        try:
            return Config.model_validate(data), frozenset(broken)
        except ValidationError as error:
            if number == 0:
                data = copy.deepcopy(data)
            for found in error.errors(include_url=False, include_input=False):
                _tell(report, found["type"], tuple(found["loc"]), found.get("ctx", {}), broken)
            for found in error.errors(include_url=False, include_input=False):
                _leave_out(data, found["type"], tuple(found["loc"]), broken)
    raise RuntimeError("the configuration can't be reduced to what is right in it")


def _tell(report: Report, error: str, path: Path, context: dict[str, Any], broken: set[Path]) -> None:
    if error == "missing":
        if path not in broken:
            _tell_missing(report, path)
    elif error == "extra_forbidden":
        report.at_key(path, "unknown key", _key_meant(str(path[-1]), _model_at(path[:-1])))
    elif error == "value_error" and isinstance(context.get("error"), Wrong):
        wrong: Wrong = context["error"]
        if path[-1] == "[key]":
            report.at_key(path[:-1], wrong.message.replace("{value}", toml_text(str(path[-2]))), wrong.suggestion)
        else:
            report.wrong(path, wrong)
    else:
        _tell_kind(report, error, path)


def _tell_missing(report: Report, path: Path) -> None:
    field = _model_at(path[:-1]).model_fields[str(path[-1])]
    example = field.examples[0] if field.examples else ""
    report.at_key(path[:-1], f"{path[-1]} is missing", f"write {path[-1]} = {toml_text(example)}")


def _tell_kind(report: Report, error: str, path: Path) -> None:
    expected = {"list_type": "a list", "dict_type": "a table", "model_type": "a table"}.get(error, "something else")
    written = report.document.written(path)
    suggestion = ""
    if expected == "a list":
        suggestion = f"write [[{path_text(path)}]]" if isinstance(written, dict) else f"write [{report.show(path)}]"
    elif isinstance(path[-1], str):
        suggestion = f"write {path[-1]} = {{ … }}"
    elif len(path) == 2:
        suggestion = f"write [[{path[0]}]]"
    elif error == "model_type":
        needed = [name for name, field in _model_at(path).model_fields.items() if field.is_required()]
        suggestion = f"write {{ {needed[0]} = … }}" if needed else ""
    report.at_value(path, f"must be {expected}, not {kind(written)}", suggestion)


def _key_meant(key: str, model: type[BaseModel]) -> str:
    """A near key, the one of that very name a level deeper, or all that there are."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if meant := did_you_mean(key, fields):
        return meant
    for name, field in fields.items():
        inner = _model_in(field.annotation)
        if inner and typing.get_origin(field.annotation) not in (list, dict) and key in inner.model_fields:
            return f'did you mean "{name}.{key}"?'
    return f"known here: {', '.join(fields)}"


def _model_at(path: Path) -> type[BaseModel]:
    """The model that a table of the file is read with."""
    model: type[BaseModel] = Config
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        inner = _model_in(field.annotation) if field else None
        # Other parts are names and indexes inside of the same field.
        model = inner or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


def _leave_out(data: dict[str, Any], error: str, path: Path, broken: set[Path]) -> None:
    """Takes the nearest key out of the data, or puts a stand-in for what is missing."""
    if path[-1] == "[key]":
        path = path[:-1]
    if error == "missing":
        stand_in = _STAND_INS.get((str(path[0]), str(path[-1]))) if len(path) == 3 else None
        broken.add(path)
        if stand_in is not None and path[0] in data:
            data[str(path[0])][path[1]][path[2]] = stand_in
            return
        path = path[:-1]
    while path and path not in broken:
        holder: Any = data
        for part in path[:-1]:
            holder = holder[part] if holds(holder, part) else None
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[path[-1]]
            broken.add(path)
            return
        path = path[:-1]
