"""Whether files have changed, by what the file system says of them every now and then.

That finds a file that was written, replaced, or that a link leads to anew (as Kubernetes swaps a ConfigMap), on every
file system, and costs a system call per file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# How often to look: a change is told after one to two of them.
LOOK_S = 1.0


class FileWatch:
    """Begins with the files as they are."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self._known = self._changing = self._marks()

    def take_note(self) -> None:
        """The files are read now, as they are; nobody needs to be told."""
        self._known = self._changing = self._marks()

    def look(self) -> bool:
        """Whether a file is another than it was when that was last told, and has been left alone since the last look:
        one that is being written, or a certificate whose key is still to come, has time."""
        marks = self._marks()
        has_settled, self._changing = marks == self._changing, marks
        if marks == self._known or not has_settled:
            return False
        self._known = marks
        return True

    def _marks(self) -> list[tuple[int, ...]]:
        return [_mark(path) for path in self.paths]


def _mark(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
