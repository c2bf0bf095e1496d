from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from fastgw.exchange import Exchange
from fastgw.net.log_sink import LogSink, NoLog
from fastgw.snapshot import AccessLog
from tests.fakes import Bugs, FakeClient, Line, records

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
            self.sink.take(records(ended(path)))
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
        one.sink.take(records(line.get(path)))
    one.sink.close()
    assert paths_in(file) == paths
    assert (one.reports, one.sink.dropped) == ([], 0)
    assert file.stat().st_mode & 0o777 == 0o640


def test_lines_are_written_when_they_are_to_be_and_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    one = Sink(file)
    one.sink.take(records(ended("/a")))
    one.sink.flush()
    eventually(lambda: paths_in(file) == ["/a"])
    one.sink.take(records(ended("/b")))
    one.sink.flush()
    eventually(lambda: paths_in(file) == ["/a", "/b"])
    one.sink.take(records(ended("/c")))
    one.sink.close()
    assert paths_in(file) == ["/a", "/b", "/c"]


def test_a_bug_in_a_line_is_counted_and_does_not_reach_the_exchange(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    one = Sink(file)
    one.bugs.expected = True
    broken = ended()
    broken.status = "x"  # type: ignore[assignment]
    one.sink.take(records(broken))
    one.sink.flush()
    one.write("/b")
    one.sink.close()
    assert (one.bugs.count, one.sink.dropped, paths_in(file)) == (1, 1, ["/b"])


def test_no_log_takes_everything_and_does_nothing() -> None:
    log = NoLog()
    log.record(ended())
    log.flush()
    log.reopen()
    log.close()


def test_what_was_dropped_before_counts_on(tmp_path: Path) -> None:
    settings = AccessLog("/dev/full", "json", ("path", "status"))
    sink = LogSink(settings, lambda: 0.0, [].append, Bugs(), dropped_before=3)
    sink.take(records(ended()))
    sink.close()
    assert (sink.dropped, NoLog(4).dropped) == (4, 4)
