from __future__ import annotations

from pathlib import Path

import pytest

from fastgw.config.interpolate import Interpolation


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain $ {} $A", "plain $ {} $A"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("$${A}", "${A}"),
        ("$${A}${A}", "${A}1"),
        ("$$", "$$"),
        ("${EMPTY}", ""),
    ],
)
def test_references_are_replaced_and_doubled_dollars_are_not(text: str, result: str) -> None:
    interpolation = Interpolation({"A": "1", "EMPTY": ""}, Path())
    assert interpolation.replace({"k": [text]}) == {"k": [result]}
    assert interpolation.missing == []


def test_only_what_was_brought_in_is_a_secret() -> None:
    interpolation = Interpolation({"A": "1"}, Path())
    interpolation.replace({"a": "x${A}", "b": "$${A}", "c": ["${A}"]})
    assert interpolation.secrets == {("a",): "x1", ("c", 0): "1"}


@pytest.mark.parametrize(
    ("content", "value"), [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b"a", "a"), (b"", "")]
)
def test_a_file_is_read_without_its_last_line_end(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert Interpolation({}, tmp_path).replace("${file:file}") == value
    assert Interpolation({}, Path("/nowhere")).replace(f"${{file:{tmp_path}/file}}") == value


def test_every_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    interpolation = Interpolation({}, tmp_path)
    interpolation.replace(["${A} ${B}", "${file:none}", "${file:.}", "${file:binary}", "${", "${}"])
    assert [(path, message.replace(f"{tmp_path}", "")) for path, message, _ in interpolation.missing] == [
        ((0,), "the environment variable A is not set"),
        ((0,), "the environment variable B is not set"),
        ((1,), "the file /none can't be read: No such file or directory"),
        ((2,), "the file  can't be read: Is a directory"),
        ((3,), "the file /binary can't be read: it is not UTF-8 text"),
        ((4,), '"${" is not closed'),
        ((5,), '"${}" names no environment variable'),
    ]
