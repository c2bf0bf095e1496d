"""Where each key and value of a TOML text stands, as line and column counted from 1.

Reads valid TOML 1.0 only: `tomllib` has accepted the text before. What the grammar should not understand is left out,
and a path without a position takes that of the nearest table around it.
"""

from __future__ import annotations

import tomllib
from typing import TypeAlias

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

Path: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]

NOWHERE: Position = (0, 0)

_KEYS = ("bare_key", "quoted_key", "dotted_key")


class Positions:
    """The positions of one text. Paths are keys and, in lists, indexes from 0."""

    def __init__(self, text: str) -> None:
        self._lines = text.encode().split(b"\n")
        self._keys: dict[Path, Position] = {}
        self._values: dict[Path, Position] = {}
        # How many elements each array of tables has so far: a header below one speaks of its last.
        self._tables: dict[Path, int] = {}
        # The grammar wants the last line to end.
        tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode() + b"\n")
        for node in tree.root_node.named_children:
            self._read_top(node)

    def key(self, path: Path) -> Position:
        """Where the key at a path begins, or the nearest one around it."""
        return self._nearest(self._keys, self._values, path)

    def value(self, path: Path) -> Position:
        """Where the value at a path begins, or the nearest one around it."""
        return self._nearest(self._values, self._keys, path)

    def has(self, path: Path) -> bool:
        return path in self._keys or path in self._values

    @staticmethod
    def _nearest(first: dict[Path, Position], second: dict[Path, Position], path: Path) -> Position:
        for length in range(len(path), 0, -1):
            found = first.get(path[:length]) or second.get(path[:length])
            if found:
                return found
        return NOWHERE

    def _read_top(self, node: Node) -> None:
        if node.type == "pair":
            self._read_pair((), node)
        elif node.type in ("table", "table_array_element"):
            path = self._read_header(node)
            for child in node.named_children:
                if child.type == "pair":
                    self._read_pair(path, child)

    def _read_header(self, node: Node) -> Path:
        parts = self._key_parts(next(child for child in node.named_children if child.type in _KEYS))
        path: Path = ()
        for number, (name, where) in enumerate(parts, 1):
            path = (*path, name)
            self._keys.setdefault(path, where)
            is_last = number == len(parts)
            if is_last and node.type == "table_array_element":
                self._tables[path] = self._tables.get(path, 0) + 1
                path = (*path, self._tables[path] - 1)
            elif path in self._tables:
                path = (*path, self._tables[path] - 1)
        self._keys[path] = self._values[path] = self._position(node)
        return path

    def _read_pair(self, table: Path, node: Node) -> None:
        key, value = node.named_children[0], node.named_children[-1]
        path = table
        for name, where in self._key_parts(key):
            path = (*path, name)
            self._keys.setdefault(path, where)
        self._read_value(path, value)

    def _read_value(self, path: Path, node: Node) -> None:
        self._values[path] = self._position(node)
        if node.type == "array":
            items = [child for child in node.named_children if child.type != "comment"]
            for index, item in enumerate(items):
                self._read_value((*path, index), item)
        elif node.type == "inline_table":
            for child in node.named_children:
                if child.type == "pair":
                    self._read_pair(path, child)

    def _key_parts(self, node: Node) -> list[tuple[str, Position]]:
        if node.type == "dotted_key":
            return [part for child in node.named_children for part in self._key_parts(child)]
        written = (node.text or b"").decode()
        # The parser that gave the values also says what a quoted key spells.
        name = next(iter(tomllib.loads(f"{written} = 0"))) if node.type == "quoted_key" else written
        return [(name, self._position(node))]

    def _position(self, node: Node) -> Position:
        row, column = node.start_point
        return row + 1, len(self._lines[row][:column].decode(errors="replace")) + 1
