from __future__ import annotations

import errno
import os
import resource
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgw.net.log_file import LogFile, whole_lines
from fastgw.net.log_writer import LinesLost


@contextmanager
def full_disk() -> Iterator[int]:
    """No file of this process may be larger, as if the disk were full; what the tests' own output goes to, either."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield 10
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def written(target: LogFile, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[target.write(rest) :]


@pytest.mark.parametrize("way", ["told", "moved", "deleted"])
def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path, way: str) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    target = LogFile(str(file))
    written(target, b"a\n")
    assert file.read_bytes() == b"a\n"
    assert file.stat().st_mode & 0o777 == 0o640
    if way == "deleted":
        file.unlink()
    else:
        file.rename(old)
    if way == "told":
        target.close()
    written(target, b"b\n")
    assert file.read_bytes() == b"b\n"
    assert not old.exists() or old.read_bytes() == b"a\n"
    target.close()


def test_a_full_disk_loses_what_is_left() -> None:
    with pytest.raises(LinesLost, match=os.strerror(errno.ENOSPC)) as lost:
        LogFile("/dev/full").write(memoryview(b"a\nb\n"))
    assert (lost.value.taken, lost.value.count) == (4, 2)


def test_a_place_where_no_file_can_be_loses_lines_until_one_can(tmp_path: Path) -> None:
    target = LogFile(str(tmp_path / "later" / "access.log"))
    with pytest.raises(LinesLost, match="No such file or directory"):
        target.write(memoryview(b"a\n"))
    (tmp_path / "later").mkdir()
    written(target, b"b\n")
    assert (tmp_path / "later" / "access.log").read_bytes() == b"b\n"
    target.close()


def test_a_line_that_a_full_disk_has_torn_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    target = LogFile(str(file))
    lines = memoryview(b"one\ntwo\nthree\nfour\n")
    with full_disk() as size:
        taken = target.write(lines)
        with pytest.raises(LinesLost) as lost:
            target.write(lines[size:])
        # It is full still: not even the end of the torn line can be written.
        with pytest.raises(LinesLost):
            target.write(memoryview(b"five\n"))
    assert (taken, lost.value.count) == (size, 2)
    written(target, b"six\nseven\n")
    assert file.read_bytes() == b"one\ntwo\nth\nsix\nseven\n"
    target.close()


def test_a_new_file_does_not_begin_with_the_end_of_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    target = LogFile(str(file))
    with full_disk() as size:
        taken = target.write(memoryview(b"one line\ntwo\n"))
        with pytest.raises(LinesLost):
            target.write(memoryview(b"o\n"))
    assert taken == size
    file.rename(tmp_path / "access.log.1")
    written(target, b"three\n")
    assert file.read_bytes() == b"three\n"
    target.close()


def test_a_pipe_that_is_full_has_no_room_and_one_that_is_read_has(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    target = LogFile(str(pipe))
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)) as nobody:
        target.write(memoryview(b"x\n"))
    # The lines can wait for somebody to read them.
    assert not isinstance(nobody.value, LinesLost)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    page = memoryview(b"x" * 4095 + b"\n")
    taken = 0
    while target.write(page):
        taken += len(page)
    assert taken >= 65536
    assert len(os.read(reader, 1 << 20)) > 0
    assert target.write(page) == len(page)
    os.close(reader)
    with pytest.raises(LinesLost, match=os.strerror(errno.EPIPE)):
        target.write(page)


def test_lines_are_given_to_a_pipe_in_pieces_that_it_does_not_mix_with_those_of_others() -> None:
    lines = b"".join(b"%d%b\n" % (number, b"x" * number) for number in range(300))
    pieces, rest = [], memoryview(lines)
    while rest:
        pieces.append(bytes(whole_lines(rest)))
        rest = rest[len(pieces[-1]) :]
    assert b"".join(pieces) == lines
    assert all(piece.endswith(b"\n") and len(piece) <= select.PIPE_BUF for piece in pieces)
    assert len(pieces) < 20


def test_a_line_that_is_longer_than_a_piece_is_given_in_several() -> None:
    line = b"x" * (select.PIPE_BUF + 9) + b"\n"
    assert len(whole_lines(memoryview(line))) == select.PIPE_BUF
