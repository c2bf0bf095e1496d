"""Copies of requests to a second upstream: the tables, and how their values are read."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema

from fastgw.config import resilience_values as r
from fastgw.config import values as v
from fastgw.config.problems import Wrong, kind
from fastgw.config.table import Table, setting
from fastgw.config.values import OnOrOff

MIRROR_HINT = 'write "NAME" or { upstream = "NAME", sample = "10%" }'
PATH_HINT = 'write it like "$.time" or "$.items[*].price"'

# What a difference's place in a body is written as.
_JSON_PATH = re.compile(r'\$(?:\.[A-Za-z_][A-Za-z0-9_]*|\[(?:\d+|\*|"(?:[^"\\]|\\.)*")\])+')


def json_path(value: object) -> str:
    """A place in a JSON body."""
    if not isinstance(value, str):
        raise Wrong(f"must be a place in a body, not {kind(value)}", PATH_HINT, PATH_HINT)
    if _JSON_PATH.fullmatch(value) is None:
        raise Wrong("{value} is no place in a body", PATH_HINT, PATH_HINT)
    return value


_JsonPath: TypeAlias = Annotated[
    str, PlainValidator(json_path), WithJsonSchema({"type": "string", "pattern": r"^\$", "examples": ["$.time"]})
]


class Compare(Table):
    """In what the answers of a mirror may differ from those of the upstream."""

    headers: list[v.TokenName] = setting(
        ["Content-Type", "Location", "Cache-Control"], "Which headers are compared, beside the status and the body."
    )
    ignore: list[_JsonPath] = setting([], "Places in a JSON body that are not; nor is what is below them.")
    sample: r.Share = setting("100%", "The share of the copies whose answers are compared.")


class Mirror(Table):
    """A second upstream that gets copies of requests; its answers go nowhere."""

    upstream: v.Text = Field(description="The upstream's name.", examples=["shadow"])
    sample: r.Share = setting("100%", "The share of the requests that are copied.")
    max_body: v.SizeOrZero = setting("64KiB", "A request whose body is larger is not copied.")
    max_in_flight: v.Positive = setting(256, "Copies at once, per worker; what comes beyond is not copied.")
    timeout: v.Duration = setting("10s", "Of a copy as a whole.")
    compare: Annotated[Compare | Literal[False], OnOrOff(Compare)] = setting(
        False, "Whether and how the answers are compared; true: with all the defaults."
    )
