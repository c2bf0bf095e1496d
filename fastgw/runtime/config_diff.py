"""What `fastgw diff` says: what changes between two configurations, and for which requests of a log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastgw.config.differences import ADDED, REMOVED, EntityChange, differences
from fastgw.config.load import LoadedConfig
from fastgw.config.table_diff import Change
from fastgw.runtime.log_replay import Group, Replayed, Side
from fastgw.runtime.reload_scope import beyond_reload

_SIGNS = {ADDED: "+", REMOVED: "-"}
# Of a value, in the text; where two differ behind that, their beginnings are left out.
_SHOWN_MAX = 200
_SHOWN_BEFORE = 40
_EXAMPLE_SHOWN_MAX = 160
_BLIND_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """`needs_upgrade` has the keys among them that a reload does not change; `renamed` is for `LogReplay`."""

    old: str
    new: str
    entities: tuple[EntityChange, ...]
    needs_upgrade: tuple[str, ...]
    renamed: dict[str, str]


def config_diff(old: LoadedConfig, new: LoadedConfig) -> ConfigDiff:
    found = differences(old, new)
    needs_upgrade = tuple(beyond_reload(old.snapshot, new.snapshot))
    return ConfigDiff(old.file, new.file, found.entities, needs_upgrade, found.renamed)


def is_different(diff: ConfigDiff, replayed: Replayed | None) -> bool:
    return bool(diff.entities) or (replayed is not None and replayed.differing > 0)


def diff_json(diff: ConfigDiff, replayed: Replayed | None) -> dict[str, Any]:
    """What programs get."""
    return {
        "old": diff.old,
        "new": diff.new,
        "is_different": is_different(diff, replayed),
        "entities": [asdict(entity) for entity in diff.entities],
        "needs_upgrade": list(diff.needs_upgrade),
        "log": None if replayed is None else asdict(replayed),
    }


def diff_text(diff: ConfigDiff, replayed: Replayed | None) -> str:
    """What people get."""
    lines = [line for entity in diff.entities for line in _entity_lines(entity)]
    if diff.needs_upgrade:
        keys = " and ".join(diff.needs_upgrade)
        lines.append(f"no reload changes {keys}: it takes a restart or: fastgw upgrade")
    if not diff.entities:
        lines.append("no differences")
    if replayed is not None:
        lines += _log_lines(replayed)
    return "\n".join(lines)


def _entity_lines(entity: EntityChange) -> list[str]:
    what = f"{entity.kind} {entity.name}".rstrip()
    sign = _SIGNS.get(entity.change)
    if sign is not None:
        return [f"{sign} {what}", *(f"{sign}     {one.key} = {_cut(one.old or one.new or '')}" for one in entity.keys)]
    return [f"~ {what}", *(_change_line(change) for change in entity.keys)]


def _change_line(change: Change) -> str:
    note = f"  ({change.note})" if change.note else ""
    if change.old is None and not change.new_is_default:
        return f"+     {change.key} = {_cut(change.new or '')}{note}"
    if change.new is None and not change.old_is_default:
        return f"-     {change.key} = {_cut(change.old or '')}{note}"
    old, new = _apart(change.old or "none", change.new or "none")
    old += " (default)" if change.old_is_default else ""
    new += " (default)" if change.new_is_default else ""
    return f"~     {change.key} = {old} -> {new}{note}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _apart(old: str, new: str) -> tuple[str, str]:
    """Two texts, cut to where they differ."""
    same = next((place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), 0)
    if same < _SHOWN_MAX - _SHOWN_BEFORE:
        return _cut(old), _cut(new)
    begin = same - _SHOWN_BEFORE
    return "…" + _cut(old[begin:]), "…" + _cut(new[begin:])


def _log_lines(replayed: Replayed) -> list[str]:
    lines = [f"log: {replayed.walked} requests, {replayed.differing} of them treated differently"]
    for group in replayed.groups:
        lines += _group_lines(group)
    if replayed.left_out:
        lines.append(f"  and {replayed.left_out} requests in still other ways")
    skipped = [
        (replayed.unreadable, "lines could not be read: they are no JSON lines of requests"),
        *((count, f"lines have no {name}, which is needed") for name, count in replayed.lacking.items()),
        (replayed.without_request, "lines are of requests that could not be read"),
        (replayed.logged_otherwise, "requests have another route in the log than OLD gives them"),
        (replayed.redacted, "requests have parameters whose values it hides: no route can look at those"),
        (replayed.sampled, f"requests are a sample; together all stand for about {replayed.estimated:,.0f}"),
    ]
    lines += [f"log: {count} {what}" for count, what in skipped if count]
    if blind := replayed.blind_routes:
        more = f" and {len(blind) - _BLIND_SHOWN_MAX} more" if len(blind) > _BLIND_SHOWN_MAX else ""
        named = ", ".join(blind[:_BLIND_SHOWN_MAX]) + more
        lines.append(f"log: it does not hold the headers or cookies that these routes look at: {named}")
    return lines


def _group_lines(group: Group) -> list[str]:
    told = [
        f"{name} {one} -> {other}"
        for name, one, other in (
            ("route", group.old.route or "none", group.new.route or "none"),
            ("upstream", group.old.upstream or "none", group.new.upstream or "none"),
            ("status", _status(group.old), _status(group.new)),
        )
        if one != other
    ]
    told += [f"another {name}" for name in group.also] if not told else []
    if group.old.route == group.new.route:
        told.insert(0, f"route {group.new.route or 'none'}")
    times = "1 request" if group.count == 1 else f"{group.count} requests"
    example = _printable(group.example)
    if len(example) > _EXAMPLE_SHOWN_MAX:
        example = example[: _EXAMPLE_SHOWN_MAX - 1] + "…"
    lines = [f"  {times}: {', '.join(told)}", f"      line {group.number}: {example}"]
    if group.old_path and group.new_path and group.old_path != group.new_path:
        before, after = _cut(_printable(group.old_path)), _cut(_printable(group.new_path))
        lines.append(f"      the upstream gets {after}, not {before}")
    return lines


def _printable(text: str) -> str:
    """What clients have sent is to do nothing to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _status(side: Side) -> str:
    if side.status is None:
        return "the upstream's"
    return f"{side.status} {side.reason}" if side.reason else str(side.status)
