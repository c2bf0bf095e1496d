"""One configuration file as read: its text, its values before and after `${...}`, and where each of them stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from fastgw.config.positions import Path, Positions
from fastgw.config.secrets import HIDDEN, written_out

__all__ = ["Document", "Path", "holds", "touches"]

# Shorter ones are no secrets, and would be found in every other word.
_MASKED_LENGTH_MIN = 4
# The same of those that are written out, which may be words that stand elsewhere, too.
_WRITTEN_LENGTH_MIN = 8


@dataclass
class Document:
    """`raw` holds the values as written, `data` with every `${...}` replaced.

    `secrets` has the path of each value that holds one, and what it became.
    """

    file: str
    text: str
    raw: dict[str, Any]
    data: dict[str, Any]
    # What relative paths in it start from.
    base: FilePath
    secrets: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def positions(self) -> Positions:
        """Only problems need them, and a file without any is the common one."""
        return Positions(self.text)

    def known(self, path: Path) -> Path:
        """The longest beginning of a path that the file has."""
        return path[: self._follow(path)[0]]

    def written(self, path: Path) -> object:
        """The value at a path as written; of a path that goes on inside a value, that value."""
        return self._follow(path)[1]

    def _follow(self, path: Path) -> tuple[int, object]:
        value: Any = self.raw
        for length, part in enumerate(path):
            if not holds(value, part):
                return length, value
            value = value[part]
        return len(path), value

    def is_secret(self, path: Path) -> bool:
        """Whether the value at a path holds, or is inside, something that came from outside of the file."""
        return any(path[: len(secret)] == secret or secret[: len(path)] == path for secret in self.secrets)

    def mask(self, text: str) -> str:
        """A text with every value that came from outside replaced by what the file writes for it, and without secrets
        that the file writes out."""
        for secret, instead in self._masks:
            text = text.replace(secret, instead)
        return text

    @cached_property
    def _masks(self) -> list[tuple[str, str]]:
        """What is replaced, and by what; the longest first."""
        masks = {literal: HIDDEN for literal in written_out(self.raw) if len(literal) >= _WRITTEN_LENGTH_MIN}
        for path, secret in self.secrets.items():
            if len(secret) >= _MASKED_LENGTH_MIN:
                masks[secret] = str(self.written(path))
        return sorted(masks.items(), key=lambda one: -len(one[0]))

    def masked(self, value: Any) -> Any:
        """The same for all texts in plain data."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {key: self.masked(item) for key, item in value.items()}
        return [self.masked(item) for item in value] if isinstance(value, list | tuple) else value


def holds(holder: object, part: str | int) -> bool:
    """Whether a value is a table or list that has this key or index."""
    if isinstance(holder, dict):
        return part in holder
    return isinstance(holder, list) and isinstance(part, int) and part < len(holder)


def touches(broken: Iterable[Path], path: Path) -> bool:
    """Whether anything at, in or around a path was left out."""
    return any(gone[: len(path)] == path or path[: len(gone)] == gone for gone in broken)
