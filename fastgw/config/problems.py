"""How the configuration's problems are said.

`Wrong` is one bad value, raised by whoever reads it and knowing neither where it stands nor whether it is a secret;
`Report` puts places to them. A message shows a value only as the file writes it, so what `${...}` brought in is
never printed: `{value}` in a message stands for that written form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, time

from fastgw.config.document import Document, Path
from fastgw.errors import Problem

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SEPARATORS = str.maketrans("", "", "-_")
# Longer values are cut in a message: the position says where the whole is.
_SHOWN_LENGTH_MAX = 80
_NAMES_LISTED_MAX = 8


class Wrong(ValueError):
    """A value that can't be used: what is wrong with it, and what to write instead.

    `suggestion` may be made from the value; `general` is the one for values that must not be shown.
    """

    def __init__(self, message: str, suggestion: str = "", general: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.general = general


class Report:
    """Collects the problems of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[Problem] = []

    def at_key(self, path: Path, message: str, suggestion: str = "") -> None:
        """A problem with a key or a whole table."""
        self._add(path, self.document.positions.key(path), message, suggestion)

    def at_value(self, path: Path, message: str, suggestion: str = "") -> None:
        """A problem with a value."""
        self._add(path, self.document.positions.value(path), message, suggestion)

    def wrong(self, path: Path, wrong: Wrong) -> None:
        """A problem with a value, as its reader found it."""
        hidden = self.document.is_secret(path)
        suggestion = wrong.general if hidden else wrong.suggestion
        self.at_value(path, wrong.message.replace("{value}", self.show(path)), suggestion)

    def show(self, path: Path) -> str:
        """The value at a path as the file writes it, for a message."""
        return toml_text(self.document.written(path))

    def problems(self) -> list[Problem]:
        """All of them, in the order of the file; those without a place come last."""
        return sorted(self._problems, key=lambda problem: (problem.line or 1 << 30, problem.column))

    def _add(self, path: Path, position: tuple[int, int], message: str, suggestion: str) -> None:
        where = path_text(self.document.known(path))
        problem = Problem(self.document.file, *position, where, message, suggestion)
        if problem not in self._problems:
            self._problems.append(problem)


def path_text(path: Path) -> str:
    """A path as messages write it. Elements of a list are counted from 1, as in the default name "route-1"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else toml_text(part)
            text += f".{key}" if text else key
    return text


def toml_text(value: object) -> str:
    """A value as TOML would write it, on one line, cut when it is long."""
    text = whole_toml_text(value)
    return text if len(text) <= _SHOWN_LENGTH_MAX else text[: _SHOWN_LENGTH_MAX - 1] + "…"


def whole_toml_text(value: object) -> str:
    """The same, however long it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04X}" for char in escaped) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(whole_toml_text, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{path_text((str(key),))} = {whole_toml_text(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return str(value)


def kind(value: object) -> str:
    """What a value is, in the words of the file's author."""
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (str, "a string"),
        ((int, float), "a number"),
        (list, "a list"),
        (dict, "a table"),
        ((date, time), "a date or time"),
    )
    return next((name for types, name in kinds if isinstance(value, types)), type(value).__name__)


def quoted(names: Iterable[str]) -> str:
    """'"a", "b" or "c"'"""
    texts = [toml_text(name) for name in names]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def names_there_are(names: Sequence[str]) -> str:
    """The suggestion when no name is near, or "" when there are none, or too many to list."""
    if not 0 < len(names) <= _NAMES_LISTED_MAX:
        return ""
    return f"there is only {quoted(names)}" if len(names) == 1 else f"there are {', '.join(map(toml_text, names))}"


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be.

    Two edits of a long name and one of a short one: a similarity ratio would offer "path" for "auth".
    """
    plain = name.lower().translate(_SEPARATORS)
    best: tuple[int, str] | None = None
    for candidate in known:
        target = candidate.lower().translate(_SEPARATORS)
        allowed = 0 if len(target) < 3 else 1 if len(target) < 6 else 2
        if abs(len(plain) - len(target)) > allowed:
            continue
        distance = _edits(plain, target)
        if distance <= allowed and (best is None or distance < best[0]):
            best = (distance, candidate)
    return best[1] if best else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The suggestion of a near name, or "" when none is near."""
    found = near(name, known)
    return f"did you mean {toml_text(found)}?" if found is not None else ""


def _edits(left: str, right: str) -> int:
    """Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]
