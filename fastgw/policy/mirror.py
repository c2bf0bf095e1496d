"""In what a mirror's answer differs from the primary's: status, chosen headers, and the body.

JSON bodies are compared by value, so that spaces, the order of keys and the spelling of a number don't matter; others
by their bytes. Which requests are mirrored, and what becomes of the result (it is counted, and some are logged), is
for others. Nothing here is on the way of an answer to the client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from fastgw.http1 import fields

# What a difference is in; also the names under which they are counted.
STATUS = "status"
HEADER = "header"
BODY = "body"

# Where there is nothing on one side.
_ABSENT = "absent"
# Of a value in a log line.
_TEXT_MAX = 64
# As much of a hash as tells two bodies apart.
_HASH_DIGITS = 12

# A name that needs no quotes in a path (as the shorthand of RFC 9535 §2.5.1).
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """What is compared."""

    # Lower-case. What all differ in (Date, request ids) makes the rest of the result worthless.
    headers: tuple[bytes, ...] = (b"content-type", b"location", b"cache-control")
    # Such as `$.time` or `$.items[*].price`; what is below them is not looked at either.
    ignored_paths: frozenset[str] = frozenset()
    # Of one comparison: whoever has seen ten doesn't want to see a thousand.
    max_differences: int = 10
    # Of a body; what is nested deeper is compared as a whole.
    max_depth: int = 32
    # A body that is larger is compared by its bytes: reading and walking through JSON costs 0.1 ms a KiB, and other
    # exchanges wait meanwhile.
    max_json_size: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` is STATUS, HEADER or BODY; `path` the header's name or the place in the body."""

    kind: str
    path: str
    primary: str
    mirror: str

    def __str__(self) -> str:
        where = f"{self.kind} {self.path}" if self.path else self.kind
        return f"{where}: {self.primary}, mirror: {self.mirror}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, up to their bound; `is_cut`: there may be more."""

    differences: tuple[Difference, ...]
    is_cut: bool = False

    @property
    def is_same(self) -> bool:
        return not self.differences

    def kinds(self) -> tuple[str, ...]:
        """The kinds of differences there are, each once, for counting."""
        return tuple(dict.fromkeys(difference.kind for difference in self.differences))


@dataclass(frozen=True, slots=True)
class Answer:
    """`lines` are the header lines, each begun by CRLF."""

    status: int
    lines: bytes
    body: bytes


def compare(primary: Answer, mirror: Answer, settings: MirrorSettings) -> Comparison:
    """What is different in the mirror's answer."""
    found = _Found(settings)
    if primary.status != mirror.status:
        found.add(STATUS, "", str(primary.status), str(mirror.status))
    for name in settings.headers:
        values, others = fields.values(primary.lines, name), fields.values(mirror.lines, name)
        if values != others:
            found.add(HEADER, name.decode("latin-1"), _header_text(values), _header_text(others))
    if primary.body != mirror.body:
        _compare_bodies(primary.body, mirror.body, found)
    return Comparison(tuple(found.differences), found.is_cut)


class _Found:
    """The differences so far."""

    __slots__ = ("differences", "is_cut", "settings")

    def __init__(self, settings: MirrorSettings) -> None:
        self.settings = settings
        self.differences: list[Difference] = []
        self.is_cut = False

    def add(self, kind: str, path: str, primary: str, mirror: str) -> None:
        if len(self.differences) >= self.settings.max_differences:
            self.is_cut = True
            return
        self.differences.append(Difference(kind, path, _cut(primary), _cut(mirror)))


def _compare_bodies(primary: bytes, mirror: bytes, found: _Found) -> None:
    if max(len(primary), len(mirror)) <= found.settings.max_json_size:
        try:
            value, other = orjson.loads(primary), orjson.loads(mirror)
        except orjson.JSONDecodeError:
            pass
        else:
            _compare_values(value, other, "$", 0, found)
            return
    found.add(BODY, "", _bytes_text(primary), _bytes_text(mirror))


def _compare_values(value: object, other: object, path: str, depth: int, found: _Found) -> None:
    if found.is_cut or _is_ignored(path, found.settings.ignored_paths):
        return
    if depth < found.settings.max_depth:
        if isinstance(value, dict) and isinstance(other, dict):
            _compare_objects(value, other, path, depth, found)
            return
        if isinstance(value, list) and isinstance(other, list):
            _compare_arrays(value, other, path, depth, found)
            return
    if not _is_equal(value, other):
        found.add(BODY, path, _json_text(value), _json_text(other))


def _compare_objects(value: dict[str, object], other: dict[str, object], path: str, depth: int, found: _Found) -> None:
    for name in [*value, *(name for name in other if name not in value)]:
        if found.is_cut:
            return
        inner = f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{_json_text(name)}]"
        if name in value and name in other:
            _compare_values(value[name], other[name], inner, depth + 1, found)
        elif not _is_ignored(inner, found.settings.ignored_paths):
            here = _json_text(value[name]) if name in value else _ABSENT
            there = _json_text(other[name]) if name in other else _ABSENT
            found.add(BODY, inner, here, there)


def _compare_arrays(value: list[object], other: list[object], path: str, depth: int, found: _Found) -> None:
    for index in range(min(len(value), len(other))):
        if found.is_cut:
            return
        _compare_values(value[index], other[index], f"{path}[{index}]", depth + 1, found)
    if len(value) != len(other):
        found.add(BODY, path, f"{len(value)} items", f"{len(other)} items")


def _is_ignored(path: str, ignored: frozenset[str]) -> bool:
    return bool(ignored) and (path in ignored or _INDEX.sub("[*]", path) in ignored)


def _is_equal(value: object, other: object) -> bool:
    """As JSON sees it: 1 is 1.0, but true is not 1. Without recursion: there is no bound to the depth here."""
    pairs = [(value, other)]
    while pairs:
        one, two = pairs.pop()
        if isinstance(one, dict) and isinstance(two, dict):
            if one.keys() != two.keys():
                return False
            pairs.extend([(one[name], two[name]) for name in one])
        elif isinstance(one, list) and isinstance(two, list):
            if len(one) != len(two):
                return False
            pairs.extend(zip(one, two, strict=True))
        elif one != two or isinstance(one, bool) != isinstance(two, bool):
            return False
    return True


def _json_text(value: object) -> str:
    try:
        return orjson.dumps(value).decode("utf-8")
    except orjson.JSONEncodeError:
        # It reads what is nested 1,024 deep, and writes only a quarter of that.
        return "a value of deep nesting"


def _header_text(values: Sequence[bytes]) -> str:
    return b", ".join(values).decode("latin-1") if values else _ABSENT


def _bytes_text(body: bytes) -> str:
    return f"{len(body)} bytes, sha256 {sha256(body).hexdigest()[:_HASH_DIGITS]}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
