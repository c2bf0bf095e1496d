"""The table of the admin API, what must agree in it, and what it is compiled to."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema

from fastgw.config import values as v
from fastgw.config.document import Path, touches
from fastgw.config.problems import Report, Wrong, kind
from fastgw.config.table import Table, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgw.config.addresses import HostPort

_TOKEN_HINT = 'write "${NAME}" for a random one of the environment, such as `openssl rand -hex 32` makes'
# Shorter ones can be guessed.
_TOKEN_CHARACTERS_MIN = 16
# What the extra brings, by the names that are imported.
_PACKAGES = ("starlette", "uvicorn")
_INSTALL = "install it: pip install 'fastgw[admin]'"


def token(value: object) -> str:
    """What goes behind "Bearer". Nothing of it is ever said."""
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", _TOKEN_HINT, _TOKEN_HINT)
    if len(value) < _TOKEN_CHARACTERS_MIN or not value.isascii() or not value.isprintable() or " " in value:
        what = f"a token needs at least {_TOKEN_CHARACTERS_MIN} characters of ASCII, and no spaces"
        raise Wrong(what, _TOKEN_HINT, _TOKEN_HINT)
    return value


_Token: TypeAlias = Annotated[
    str, PlainValidator(token), WithJsonSchema({"type": "string", "examples": ["${FASTGW_ADMIN_TOKEN}"]})
]


class Admin(Table):
    """The HTTP API for those who run the gateway: its state, its metrics, and what may be changed."""

    address: v.ListenAddress = Field(
        description="IP address and port, or a Unix socket; never a listener's.", examples=["127.0.0.1:9901"]
    )
    token: _Token | None = setting(None, "What a request has to know, as a bearer token; required off the loopback.")
    metrics: v.Flag = setting(True, "Whether requests are counted for /metrics.")


@dataclass(frozen=True)
class AdminSettings:
    """`address` is as it was written; a relative path of a Unix socket starts from `base`."""

    address: HostPort
    base: FilePath
    token: str = field(default="", repr=False)
    metrics: bool = True


def admin_settings(admin: Admin | None, base: FilePath) -> AdminSettings | None:
    if admin is None:
        return None
    return AdminSettings(admin.address, base, admin.token or "", admin.metrics)


def check_admin(admin: Admin | None, listening: Sequence[str], report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions. `listening` are the addresses of the listeners."""
    if admin is None:
        return
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        report.at_key(("admin",), f"the package {missing[0]} is not installed", _INSTALL)
    if admin.address.text in listening:
        report.at_value(("admin", "address"), "a listener has this address", "clients must not get there: take another")
    if admin.token is None and not _is_private(admin.address) and not touches(broken, ("admin", "token")):
        message = "whoever reaches it from elsewhere may change the gateway"
        report.at_value(("admin", "address"), message, 'write token = "${NAME}", or a loopback address')


def _is_private(address: HostPort) -> bool:
    """Whether only processes on this machine get there."""
    return bool(address.unix_path) or ip_address(address.host).is_loopback
