from __future__ import annotations

import re
from typing import Any

from fastgw.config.json_schema import json_schema
from fastgw.config.units import DURATION_PATTERN


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json_schema()["$defs"][name]["properties"]
    return found


def test_every_key_has_a_description() -> None:
    schema = json_schema()
    for table in [schema, *schema["$defs"].values()]:
        for name, key in table["properties"].items():
            # A reference has the description of what it refers to.
            assert key.get("description") or "$ref" in key, name


def test_every_value_has_a_type_that_editors_can_check() -> None:
    schema = json_schema()
    for table in [schema, *schema["$defs"].values()]:
        for name, key in table["properties"].items():
            assert name == "json" or {"type", "enum", "anyOf", "$ref"} & set(key), name


def test_durations_are_strings_with_a_pattern_and_examples() -> None:
    timeout = properties("Upstream")["connect_timeout"]
    assert timeout["type"] == "string"
    assert timeout["default"] == "2s"
    assert "250ms" in timeout["examples"]
    assert timeout["pattern"].startswith(DURATION_PATTERN)
    assert re.search(timeout["pattern"], "1m30s")
    assert re.search(timeout["pattern"], "${TIMEOUT}")
    assert not re.search(timeout["pattern"], "30")


def test_short_forms_are_there_beside_the_long_ones() -> None:
    upstream = properties("Route")["upstream"]["anyOf"]
    assert [option["type"] for option in upstream] == ["string", "array"]
    headers = properties("MessageEdits")["headers"]["anyOf"]
    assert headers == [{"$ref": "#/$defs/HeaderEdits"}, {"const": False}]
