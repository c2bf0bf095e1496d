"""Two tables of the TOML language compared, key by key.

What is compared is what a value means: `"60s"` is `"1m"`, `true` is a table with all its defaults, the order of hosts
says nothing. What is shown is what the file writes, or would write for a default. Secrets are not shown: of what
`${...}` brought in the reference is, and a literal is hidden. Files are known by their place beside the configuration,
as if both stood in the same directory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fastgw.config import schema
from fastgw.config.access_log import AccessLog, LogPath
from fastgw.config.addresses import HostPort
from fastgw.config.discovery import Discover
from fastgw.config.document import Document, Path
from fastgw.config.problems import path_text, whole_toml_text
from fastgw.config.route_checks import json_text
from fastgw.config.secrets import HEADER_TABLES, shown
from fastgw.config.sticky import Sticky
from fastgw.config.table import Table

# By table and key: names of files, which may be relative.
_FILES = {
    (schema.CertificatePair, "cert"), (schema.CertificatePair, "key"), (schema.ListenerTls, "client_ca"),
    (schema.Acme, "storage"), (schema.Acme, "ca"), (schema.UpstreamTls, "ca"),
    (schema.UpstreamTls, "cert"), (schema.UpstreamTls, "key"), (Discover, "file"),
}  # fmt: skip
_NO_FILES = ("stdout", "off")
# Lists whose order says something.
_ORDERED = {(AccessLog, "fields"), (Sticky, "secret"), (schema.ListenerTls, "certificates")}
_OTHER_VALUE = "another value"
# The key whose value is no table of ours, whatever it is.
_ANY_VALUE = "json"


@dataclass(frozen=True, slots=True)
class Change:
    """One key, with its value in the old and in the new configuration as text; None: it has none."""

    key: str
    old: str | None
    new: str | None
    old_is_default: bool = False
    new_is_default: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a value stands in both configurations, and what its key is called in a message."""

    old: Document
    old_path: Path
    new: Document
    new_path: Path
    key: str = ""

    def at(self, name: str) -> Where:
        """A key of the table that stands here."""
        return self.deeper(name, name, path_text((name,)))

    def deeper(self, old: str | int, new: str | int, shown: str) -> Where:
        key = f"{self.key}.{shown}" if self.key else shown
        return Where(self.old, (*self.old_path, old), self.new, (*self.new_path, new), key)


def table_changes(old: Table, new: Table, where: Where, without: frozenset[str] = frozenset()) -> Iterator[Change]:
    """All keys whose values mean something else, but those `without`."""
    for name, field in type(new).model_fields.items():
        if name not in without:
            is_set = name in old.model_fields_set, name in new.model_fields_set
            values = getattr(old, name), getattr(new, name)
            yield from _value_changes(values, is_set, field, type(new), where.at(field.alias or name))


def _value_changes(
    values: tuple[Any, Any], is_set: tuple[bool, bool], field: FieldInfo, table: type[Table], where: Where
) -> Iterator[Change]:
    old, new = values
    name = where.new_path[-1]
    if isinstance(old, Table) and isinstance(new, Table):
        yield from table_changes(old, new, where)
    elif isinstance(old, dict) and isinstance(new, dict) and name != _ANY_VALUE:
        yield from _dict_changes(old, new, where, name in HEADER_TABLES)
    elif table is schema.Upstream and name == "endpoints":
        yield from _endpoint_changes(old, new, where)
    else:
        meant = meaning(old, where.old.base, table, str(name)), meaning(new, where.new.base, table, str(name))
        if meant[0] != meant[1]:
            old_text = written(where.old, where.old_path) if is_set[0] else _default_text(field)
            new_text = written(where.new, where.new_path) if is_set[1] else _default_text(field)
            yield change(where.key, old_text, new_text, not is_set[0], not is_set[1])


def _dict_changes(old: dict[str, Any], new: dict[str, Any], where: Where, ignores_case: bool) -> Iterator[Change]:
    old_names = {name.lower() if ignores_case else name: name for name in old}
    new_names = {name.lower() if ignores_case else name: name for name in new}
    for identity in dict.fromkeys((*old_names, *new_names)):
        before, after = old_names.get(identity), new_names.get(identity)
        shown = path_text((after or before or "",))
        place = where.deeper(before or "", after or "", shown)
        if before is None or after is None or old[before] != new[after]:
            old_text = written(where.old, place.old_path) if before is not None else None
            new_text = written(where.new, place.new_path) if after is not None else None
            yield change(place.key, old_text, new_text)


def _endpoint_changes(old: list[schema.Endpoint], new: list[schema.Endpoint], where: Where) -> Iterator[Change]:
    """Endpoints are known by their addresses."""
    old_places = {_meant_address(one.address, where.old.base): index for index, one in enumerate(old)}
    new_places = {_meant_address(one.address, where.new.base): index for index, one in enumerate(new)}
    for address, index in old_places.items():
        if address not in new_places:
            yield Change(where.key, written(where.old, (*where.old_path, index)), None)
    for address, index in new_places.items():
        before = old_places.get(address)
        if before is None:
            yield Change(where.key, None, written(where.new, (*where.new_path, index)))
        else:
            shown = path_text((new[index].address.text,))
            yield from table_changes(old[before], new[index], where.deeper(before, index, shown))


# What a value means.


def meaning(value: Any, base: FilePath, table: type[Table], key: str) -> Hashable:
    """What is compared of a value: the same for all that mean the same."""
    if isinstance(value, Table):
        fields = type(value).model_fields
        return tuple(
            meaning(getattr(value, name), base, type(value), field.alias or name) for name, field in fields.items()
        )
    if isinstance(value, HostPort):
        return _meant_address(value, base)
    if isinstance(value, LogPath):
        if value.address is not None:
            return value.transport, _meant_address(value.address, base)
        return value.text if value.text in _NO_FILES else file_identity(value.text, base)
    if (table, key) in _FILES and isinstance(value, str):
        return file_identity(value, base)
    if key == _ANY_VALUE:
        return json_text(value)
    if table is schema.Route and key == "upstream" and value is not None:
        return _meant_split(value)
    if isinstance(value, list):
        items = [meaning(item, base, table, key) for item in value]
        return tuple(items) if (table, key) in _ORDERED else frozenset(items)
    if isinstance(value, dict):
        return frozenset((name.lower() if key in HEADER_TABLES else name, item) for name, item in value.items())
    # True is 1 for Python, and not for anybody else.
    return isinstance(value, bool), value


def _meant_split(split: list[schema.Split]) -> Hashable:
    divisor = math.gcd(*(part.weight for part in split)) or 1
    return tuple(sorted((part.upstream, part.weight // divisor) for part in split))


def _meant_address(address: HostPort, base: FilePath) -> Hashable:
    unix_path = file_identity(address.unix_path, base) if address.unix_path else ""
    return address.host.lower(), address.port, unix_path


def file_identity(name: str, base: FilePath) -> str:
    """A file's name from its configuration's directory on, where it is below that; else in full."""
    folder = os.path.abspath(base)
    full = os.path.normpath(os.path.join(folder, name))
    return os.path.relpath(full, folder) if full.startswith(folder.rstrip("/") + "/") else full


# What is shown.


def change(
    key: str, old: str | None, new: str | None, old_is_default: bool = False, new_is_default: bool = False
) -> Change:
    """A change; one that can't be seen, since it is hidden or outside of the file, says so."""
    looks_same = old is not None and old == new and old_is_default == new_is_default
    return Change(
        key,
        old,
        new,
        old_is_default and old is not None,
        new_is_default and new is not None,
        _OTHER_VALUE if looks_same else "",
    )


def written(document: Document, path: Path) -> str:
    """A value as the file writes it, but for secrets."""
    names = ["", "", *(part for part in path if isinstance(part, str))]
    return whole_toml_text(shown(document.written(path), names[-1], names[-2]))


def _default_text(field: FieldInfo) -> str | None:
    return None if field.default is None or field.default is PydanticUndefined else whole_toml_text(field.default)
