"""The JSON Schema of the TOML language, for editors."""

from __future__ import annotations

from typing import Any

from fastgw.config.schema import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, with our descriptions and without the names of our classes."""
    schema = _without_titles(Config.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, "title": "fastgw configuration", **schema}


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            cleaned[key] = {name: _without_titles(inner) for name, inner in value.items()}
        elif key == "title" or (key == "default" and value is None):
            # No default is written down as absent, not as null: TOML has none.
            continue
        elif key == "anyOf":
            options = [_without_titles(option) for option in value if option != {"type": "null"}]
            cleaned |= options[0] if len(options) == 1 else {"anyOf": options}
        elif isinstance(value, dict) and key != "default":
            cleaned[key] = _without_titles(value)
        else:
            cleaned[key] = value
    return cleaned
