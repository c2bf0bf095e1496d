from __future__ import annotations

import os
from pathlib import Path

from fastgw.runtime.file_watch import FileWatch


def test_a_change_is_told_once_and_when_it_is_over(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("1")
    watch = FileWatch([file])
    assert not watch.look()
    file.write_text("22")
    assert not watch.look()
    file.write_text("333")
    assert not watch.look()
    assert [watch.look() for _ in range(3)] == [True, False, False]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.pem").write_text("same")
    link = tmp_path / "current"
    link.symlink_to("old")
    watch = FileWatch([link / "a.pem"])
    (tmp_path / "next").symlink_to("new")
    os.replace(tmp_path / "next", link)
    assert [watch.look() for _ in range(3)] == [False, True, False]


def test_a_file_that_goes_and_comes_back_as_it_was_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("1")
    watch = FileWatch([file])
    file.rename(tmp_path / "aside")
    assert not watch.look()
    (tmp_path / "aside").rename(file)
    assert [watch.look() for _ in range(3)] == [False] * 3


def test_what_was_read_meanwhile_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    watch = FileWatch([file])
    file.write_text("two, and longer")
    watch.take_note()
    assert [watch.look(), watch.look()] == [False, False]
    file.write_text("three, and longer still")
    assert [watch.look(), watch.look()] == [False, True]
