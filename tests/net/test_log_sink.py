from __future__ import annotations

import errno
import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastgw.exchange import Exchange
from fastgw.net.log_sink import LogSink, NoLog, Writer, whole_lines
from fastgw.snapshot import AccessLog
from tests.fakes import Bugs, FakeClient, Line

CONFIG = '[[routes]]\nname = "r"\nrespond.body = "x"\n'


def ended(path: str = "/") -> Exchange:
    return Line(CONFIG).get(path)


def eventually(holds: Callable[[], bool]) -> None:
    """The writer's thread comes to it."""
    until = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < until
        os.sched_yield()


class Sink:
    """A sink and what it reported."""

    def __init__(self, path: Path | str) -> None:
        self.reports: list[str] = []
        self.bugs = Bugs()
        settings = AccessLog(str(path), "json", ("path", "status"))
        self.sink = LogSink(settings, lambda: 0.0, self.reports.append, self.bugs)

    def write(self, *paths: str) -> None:
        for path in paths:
            self.sink.record(ended(path))
        self.sink.flush()


def paths_in(file: Path) -> list[str]:
    return [json.loads(line)["path"] for line in file.read_text().splitlines()] if file.exists() else []


def test_lines_arrive_in_the_order_in_which_exchanges_ended(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    one = Sink(file)
    paths = [f"/{number}" for number in range(200)]
    line = Line(CONFIG)
    for path in paths:
        line.client = FakeClient()
        one.sink.record(line.get(path))
    one.sink.close()
    assert paths_in(file) == paths
    assert (one.reports, one.sink.lost) == ([], 0)
    assert file.stat().st_mode & 0o777 == 0o640


def test_lines_are_written_twice_a_second_and_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    one = Sink(file)
    one.sink.record(ended("/a"))
    one.sink.tick(10.0)
    eventually(lambda: paths_in(file) == ["/a"])
    one.sink.record(ended("/b"))
    one.sink.tick(10.4)
    one.sink.tick(10.5)
    eventually(lambda: paths_in(file) == ["/a", "/b"])
    one.sink.record(ended("/c"))
    one.sink.close()
    assert paths_in(file) == ["/a", "/b", "/c"]


@pytest.mark.parametrize("way", ["told", "moved", "deleted"])
def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path, way: str) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    one = Sink(file)
    one.write("/a")
    eventually(lambda: paths_in(file) == ["/a"])
    if way == "deleted":
        file.unlink()
    else:
        file.rename(old)
    if way == "told":
        one.sink.reopen()
    one.write("/b")
    one.sink.close()
    assert paths_in(file) == ["/b"]
    assert paths_in(old) == ([] if way == "deleted" else ["/a"])


def test_a_full_disk_loses_lines_counts_them_and_says_so_once() -> None:
    one = Sink("/dev/full")
    one.write("/a", "/b")
    eventually(lambda: one.sink.lost == 2)
    one.write("/c")
    one.sink.close()
    assert one.sink.lost == 3
    assert one.reports.count(f"access log /dev/full: {os.strerror(errno.ENOSPC)}") == 1
    assert one.reports[1].startswith("access log /dev/full: 2 lines lost")


def test_a_place_where_no_file_can_be_is_no_end_of_the_writer(tmp_path: Path) -> None:
    one = Sink(tmp_path / "later" / "access.log")
    one.write("/a")
    eventually(lambda: one.sink.lost == 1)
    (tmp_path / "later").mkdir()
    one.write("/b")
    one.sink.close()
    assert paths_in(tmp_path / "later" / "access.log") == ["/b"]
    assert one.reports[0].endswith("No such file or directory")


def test_a_pipe_that_nobody_reads_drops_lines_and_never_waits(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    reports: list[str] = []
    writer = Writer(str(pipe), reports.append)
    mebibyte = b"x" * (1024 * 1024 - 1) + b"\n"
    for _ in range(12):
        writer.put(mebibyte)
    assert writer.lost == 4
    left = 8 * len(mebibyte)
    while left:
        left -= len(os.read(reader, 1 << 20))
    writer.close()
    os.close(reader)
    assert reports == [f"access log {pipe}: 4 lines lost, the writer could not keep up"]


def test_a_bug_in_a_line_is_counted_and_does_not_reach_the_exchange(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    one = Sink(file)
    one.bugs.expected = True
    broken = ended()
    broken.status = "x"  # type: ignore[assignment]
    one.sink.record(broken)
    one.sink.flush()
    one.write("/b")
    one.sink.close()
    assert (one.bugs.count, one.sink.lost, paths_in(file)) == (1, 1, ["/b"])


def test_no_log_takes_everything_and_does_nothing() -> None:
    log = NoLog()
    log.record(ended())
    log.tick(1.0)
    log.reopen()
    log.close()


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
