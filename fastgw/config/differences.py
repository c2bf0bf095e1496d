"""What changes between two configurations, entity by entity, in the words of their files.

Compared is what they mean: comments, `[[tests]]` and an order that says nothing make no difference, nor does a default
that is written down.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastgw.config.certificates import read_certificate
from fastgw.config.checks import default_name
from fastgw.config.document import Path
from fastgw.config.load import LoadedConfig
from fastgw.config.problems import path_text, whole_toml_text
from fastgw.config.route_diff import RouteComparison, order_changes, pair_routes, route_name
from fastgw.config.table import Table
from fastgw.config.table_diff import Change, Where, file_identity, meaning, table_changes, written

ADDED = "added"
REMOVED = "removed"
CHANGED = "changed"

_CONTENT_DIFFERS = "the file's content differs"
# The keys of TLS that name files without being certificates of listeners, and where the snapshot has their contents.
_UPSTREAM_FILES = (("ca", "ca"), ("cert", "cert"), ("key", "key"))


@dataclass(frozen=True, slots=True)
class EntityChange:
    """`kind` is the key of the file that it stands under, or "certificates"; `name` is empty where there is but one."""

    kind: str
    name: str
    change: str
    keys: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Differences:
    """`renamed` has the old names of routes, by their new ones, where these differ."""

    entities: tuple[EntityChange, ...]
    renamed: dict[str, str]


def differences(old: LoadedConfig, new: LoadedConfig) -> Differences:
    """All that changes from `old` to `new`."""
    entities = [
        *_section(old, new, "server"),
        *_listeners(old, new),
        *_certificates(old, new),
        *_section(old, new, "acme"),
        *_section(old, new, "admin"),
        *_section(old, new, "tracing"),
        *_section(old, new, "access_log"),
        *_upstreams(old, new),
    ]
    pairs = pair_routes(old, new)
    renamed = {
        route_name(new, pair.new): route_name(old, pair.old)
        for pair in pairs
        if pair.old is not None and pair.new is not None and route_name(new, pair.new) != route_name(old, pair.old)
    }
    comparison = RouteComparison(old, new)
    reordered: dict[int, list[Change]] = {}
    for index, change in order_changes(old, new, pairs):
        reordered.setdefault(index, []).append(change)
    routes: list[EntityChange] = []
    for pair in pairs:
        if pair.new is None and pair.old is not None:
            routes.append(_whole(old, ("routes", pair.old), route_name(old, pair.old), REMOVED))
        elif pair.old is None and pair.new is not None:
            routes.append(_whole(new, ("routes", pair.new), route_name(new, pair.new), ADDED))
        elif pair.old is not None and pair.new is not None:
            changes = [*comparison.changes(pair.old, pair.new), *reordered.get(pair.new, ())]
            routes += _changed("routes", route_name(new, pair.new), changes)
    by_defaults = [
        replace(change, note="; ".join(filter(None, (change.note, f"{count} route{'s' if count > 1 else ''}"))))
        for change, count in comparison.by_defaults.items()
    ]
    return Differences((*entities, *_changed("defaults", "", by_defaults), *routes), renamed)


def _changed(kind: str, name: str, changes: Sequence[Change]) -> list[EntityChange]:
    return [EntityChange(kind, name, CHANGED, tuple(changes))] if changes else []


def _whole(loaded: LoadedConfig, path: Path, name: str, change: str) -> EntityChange:
    """An entity that is in one of them only, with all that the file says of it."""
    table: Any = loaded.document.written(path)
    keys = []
    for key in table if isinstance(table, dict) else ():
        text = written(loaded.document, (*path, key))
        shown = path_text((key,))
        keys.append(Change(shown, None, text) if change == ADDED else Change(shown, text, None))
    return EntityChange(str(path[0]), name, change, tuple(keys))


def _section(old: LoadedConfig, new: LoadedConfig, key: str) -> list[EntityChange]:
    """A table of which there is one, or none."""
    before, after = getattr(old.model, key), getattr(new.model, key)
    if before is None or after is None:
        if before is after:
            return []
        return [_whole(old, (key,), "", REMOVED) if after is None else _whole(new, (key,), "", ADDED)]
    where = Where(old.document, (key,), new.document, (key,))
    return _changed(key, "", list(table_changes(before, after, where)))


# Listeners and their certificates.


def _listeners(old: LoadedConfig, new: LoadedConfig) -> Iterator[EntityChange]:
    pairs = _pair_listeners(old, new)
    for index, before in pairs.items():
        name = _listener_name(new, index)
        if before is None:
            yield _whole(new, ("listeners", index), name, ADDED)
            continue
        changes = []
        if _listener_name(old, before) != name:
            shown = whole_toml_text(_listener_name(old, before)), whole_toml_text(name)
            named = old.model.listeners[before].name, new.model.listeners[index].name
            changes.append(Change("name", *shown, named[0] is None, named[1] is None))
        where = Where(old.document, ("listeners", before), new.document, ("listeners", index))
        one, other = old.model.listeners[before], new.model.listeners[index]
        changes += table_changes(one, other, where, frozenset(("name",)))
        contents = old.snapshot.listeners[before].tls, new.snapshot.listeners[index].tls
        is_same_ca = contents[0] is None or contents[1] is None or contents[0].client_ca == contents[1].client_ca
        if not is_same_ca and not any(change.key.startswith("tls.client_ca") for change in changes):
            changes.append(_content(where.at("tls").at("client_ca")))
        yield from _changed("listeners", name, changes)
    kept = set(pairs.values())
    for index in range(len(old.model.listeners)):
        if index not in kept:
            yield _whole(old, ("listeners", index), _listener_name(old, index), REMOVED)


def _pair_listeners(old: LoadedConfig, new: LoadedConfig) -> dict[int, int | None]:
    """The old place of each of the new ones: that of the same name, or else of the same address."""
    by_name = {listener.name: index for index, listener in enumerate(old.model.listeners) if listener.name}
    pairs = {index: by_name.get(listener.name or "") for index, listener in enumerate(new.model.listeners)}
    by_address = {
        meaning(listener.address, old.document.base, type(listener), "address"): index
        for index, listener in enumerate(old.model.listeners)
        if index not in pairs.values()
    }
    for index, listener in enumerate(new.model.listeners):
        if pairs[index] is None:
            address = meaning(listener.address, new.document.base, type(listener), "address")
            pairs[index] = by_address.pop(address, None)
    return pairs


def _listener_name(loaded: LoadedConfig, index: int) -> str:
    return loaded.model.listeners[index].name or default_name("listener", index)


def _content(where: Where) -> Change:
    return Change(
        where.key, written(where.old, where.old_path), written(where.new, where.new_path), note=_CONTENT_DIFFERS
    )


def _certificates(old: LoadedConfig, new: LoadedConfig) -> Iterator[EntityChange]:
    """Those of listeners that files hold. What an ACME authority gives is no part of a configuration."""
    before, after = _facts(old), _facts(new)
    for file, facts in after.items():
        if file not in before:
            yield EntityChange("certificates", file, ADDED, tuple(Change(k, None, v) for k, v in facts.items()))
        elif before[file] != facts:
            keys = [Change(k, before[file][k], v) for k, v in facts.items() if before[file][k] != v]
            yield EntityChange("certificates", file, CHANGED, tuple(keys))
    for file, facts in before.items():
        if file not in after:
            yield EntityChange("certificates", file, REMOVED, tuple(Change(k, v, None) for k, v in facts.items()))


def _facts(loaded: LoadedConfig) -> dict[str, dict[str, str]]:
    """What is told of each certificate, by its file's name."""
    found: dict[str, dict[str, str]] = {}
    base = loaded.document.base
    for index, listener in enumerate(loaded.model.listeners):
        compiled = loaded.snapshot.listeners[index].tls
        if listener.tls is None or compiled is None:
            continue
        for number, pair in enumerate(listener.tls.certificates):
            file = file_identity(pair.cert, base)
            shown = loaded.document.mask(file)
            if shown not in found:
                held = compiled.pairs[number]
                one = read_certificate(base / pair.cert, held.cert, held.key)
                end = held.cert.find(b"-----END CERTIFICATE-----") + len(b"-----END CERTIFICATE-----")
                begin = held.cert.find(b"-----BEGIN CERTIFICATE-----")
                leaf = ssl.PEM_cert_to_DER_cert(held.cert[begin:end].decode("latin-1"))
                found[shown] = {
                    "names": ", ".join(one.names),
                    "expires": f"{one.expires:%Y-%m-%d}",
                    "sha256": hashlib.sha256(leaf).hexdigest(),
                }
    return found


# Upstreams.


def _upstreams(old: LoadedConfig, new: LoadedConfig) -> Iterator[EntityChange]:
    for name, upstream in new.model.upstreams.items():
        before = old.model.upstreams.get(name)
        if before is None:
            yield _whole(new, ("upstreams", name), name, ADDED)
        elif old.snapshot.upstreams[name] != new.snapshot.upstreams[name]:
            yield from _changed("upstreams", name, _upstream_changes(old, new, name, before, upstream))
    for name in old.model.upstreams:
        if name not in new.model.upstreams:
            yield _whole(old, ("upstreams", name), name, REMOVED)


def _upstream_changes(old: LoadedConfig, new: LoadedConfig, name: str, before: Table, after: Table) -> list[Change]:
    where = Where(old.document, ("upstreams", name), new.document, ("upstreams", name))
    changes = list(table_changes(before, after, where))
    one, other = old.snapshot.upstreams[name].tls, new.snapshot.upstreams[name].tls
    if one is None or other is None:
        return changes
    told = {change.key for change in changes}
    for key, content in _UPSTREAM_FILES:
        has_file = getattr(new.model.upstreams[name].tls, key) is not None
        if has_file and f"tls.{key}" not in told and getattr(one, content) != getattr(other, content):
            changes.append(_content(where.at("tls").at(key)))
    return changes
