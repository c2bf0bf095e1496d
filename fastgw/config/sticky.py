"""Cookies that bring a client back, and how a split is drawn with them: the tables, and how their values are read."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from fastgw.config import values as v
from fastgw.config.patterns import one_of
from fastgw.config.problems import Wrong, kind
from fastgw.config.table import Table, setting
from fastgw.policy.sticky import SECRET_BYTES_MIN

SECRET_HINT = 'write "${NAME}" for a random one of the environment, such as `openssl rand -base64 32` makes'
SAME_SITES = ("Lax", "Strict", "None")


def secret(value: object) -> bytes:
    """What tokens are signed with. Nothing of it is ever said."""
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", SECRET_HINT, SECRET_HINT)
    if len(value.encode()) < SECRET_BYTES_MIN:
        raise Wrong(f"a secret needs at least {SECRET_BYTES_MIN} bytes", SECRET_HINT, SECRET_HINT)
    return value.encode()


def secrets(value: object) -> object:
    """One secret or several, as a list."""
    if not isinstance(value, str | list):
        raise Wrong(f"must be a secret or a list of secrets, not {kind(value)}", SECRET_HINT, SECRET_HINT)
    return v.one_as_list(value)


_Secret: TypeAlias = Annotated[
    bytes, PlainValidator(secret), WithJsonSchema({"type": "string", "examples": ["${STICKY_SECRET}"]})
]
_SameSite: TypeAlias = Annotated[
    str, PlainValidator(partial(one_of, SAME_SITES)), WithJsonSchema({"enum": list(SAME_SITES)})
]


class Sticky(Table):
    """A cookie that brings a client back to where it has been."""

    cookie: v.TokenName | None = setting(
        None, "Its name; if absent, fastgw_NAME with the upstream's name, or fastgw_split_NAME with the route's."
    )
    secret: Annotated[list[_Secret], BeforeValidator(secrets), v.Short("The secret.")] = Field(
        description="What signs it, at least 16 bytes; of a list, the first signs, and the others are still believed.",
        examples=["${STICKY_SECRET}"],
    )
    max_age: v.Duration | None = setting(None, "How long a browser keeps it; until it is closed if absent.")
    secure: v.Flag = setting(True, "Whether a browser sends it by https only.")
    same_site: _SameSite = setting("Lax", 'Whether it comes along from other sites: "Lax", "Strict" or "None".')


class SplitChoice(Table):
    """How a request's part of a split is chosen, where not by lot alone."""

    sticky: Sticky | None = setting(None, "A cookie that keeps a client in his part.")
    header: v.TokenName | None = setting(None, "A header in which a request may name its part, by the upstream's name.")
    cookie: v.TokenName | None = setting(None, "A cookie in which it may.")
