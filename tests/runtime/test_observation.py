"""What is noted of traffic goes where the snapshot in force says, also what ended just before it came."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastgw.counters import ANSWERS, BUCKETS, CLASSES, LAG, LISTENER, ROUTE, SIZES, WORKER
from fastgw.net.live_log import LiveLog
from fastgw.net.log_sink import NoLog
from fastgw.net.news_sink import NewsSink
from fastgw.policy.log_filter import LogFilter
from fastgw.policy.trace_context import TracingSettings
from fastgw.runtime.observation import Observation
from fastgw.runtime.row_layout import Layout
from fastgw.snapshot import AccessLog, Snapshot
from tests.fakes import Bugs, FakeClient, Line

CONFIG = '[[routes]]\nname = "r"\nrespond.body = "x"\n'


class Rig:
    """A gateway that is observed, and all that the observers send."""

    def __init__(self, sockets: list[socket.socket], **snapshot: object) -> None:
        self.line = Line(CONFIG)
        self.set_snapshot(**snapshot)
        settings = self.snapshot.access_log
        self.levels = 0
        news = NewsSink(sockets[1], 0, settings, lambda: 0.0, Bugs())
        self.observation = Observation(self.line.gateway, sockets[3], news, self._write_levels)

    @property
    def snapshot(self) -> Snapshot:
        return self.line.gateway.snapshot

    def _write_levels(self) -> None:
        self.levels += 1

    def set_snapshot(self, **changes: object) -> Snapshot:
        """Returns the one before."""
        before = self.snapshot
        self.line.gateway.snapshot = replace(before, **changes)  # type: ignore[arg-type]
        return before

    def ask(self, *paths: str) -> None:
        for path in paths:
            self.line.client = FakeClient()
            self.line.get(path)

    def answers(self) -> int:
        return sum(self.observation.rows.route("r")[ANSWERS : ANSWERS + CLASSES])


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    pairs = [
        *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    ]
    yield pairs
    for one in pairs:
        one.close()


def paths_in(file: Path) -> list[str]:
    return [json.loads(line)["path"] for line in file.read_text().splitlines()]


def log_to(file: Path) -> AccessLog:
    return AccessLog(str(file), "json", ("path",))


OFF = AccessLog("off", "json", ())


def test_where_nothing_is_wanted_nothing_is_collected(sockets: list[socket.socket]) -> None:
    rig = Rig(sockets, access_log=OFF)
    assert isinstance(rig.line.gateway.log, NoLog)
    assert (rig.line.gateway.tracer, rig.line.gateway.failures) == (None, None)
    rig.ask("/a")
    rig.observation.tick(1.0)
    assert (rig.answers(), rig.levels) == (0, 0)
    rig.observation.close()


def test_counts_and_lines_arrive_twice_a_second(sockets: list[socket.socket], tmp_path: Path) -> None:
    rig = Rig(sockets, access_log=log_to(tmp_path / "log"), is_observed=True, counts_requests=True)
    rig.observation.tick(1.0)
    rig.ask("/a", "/b")
    rig.observation.tick(1.4)
    assert (rig.answers(), rig.levels) == (0, 1)
    rig.observation.tick(1.5)
    assert (rig.answers(), rig.levels) == (2, 2)
    assert sum(rig.observation.rows.row(WORKER, "")[LAG : LAG + BUCKETS]) == 3
    rig.ask("/c")
    rig.observation.close()
    assert rig.answers() == 3
    assert paths_in(tmp_path / "log") == ["/a", "/b", "/c"]


def test_what_ended_before_a_change_of_the_log_is_for_the_old_one(sockets: list[socket.socket], tmp_path: Path) -> None:
    rig = Rig(sockets, access_log=log_to(tmp_path / "old"))
    rig.ask("/a")
    before = rig.set_snapshot(access_log=log_to(tmp_path / "new"), is_observed=True, counts_requests=True)
    asyncio.run(rig.observation.adopt(before, rig.snapshot))
    assert paths_in(tmp_path / "old") == ["/a"]
    rig.ask("/b")
    before = rig.set_snapshot(access_log=OFF, counts_requests=False, tracing=TracingSettings())
    asyncio.run(rig.observation.adopt(before, rig.snapshot))
    assert rig.line.gateway.tracer is not None
    rig.ask("/c")
    rig.observation.close()
    assert paths_in(tmp_path / "new") == ["/b"]
    assert rig.answers() == 1


def test_who_looks_at_the_log_stands_before_it_for_as_long(sockets: list[socket.socket], tmp_path: Path) -> None:
    rig = Rig(sockets, access_log=log_to(tmp_path / "log"))
    rig.ask("/a")
    rig.observation.set_live_log((LogFilter(),))
    assert isinstance(rig.line.gateway.log, LiveLog)
    rig.ask("/b")
    rig.observation.set_live_log(())
    assert not isinstance(rig.line.gateway.log, LiveLog)
    rig.ask("/c")
    rig.observation.close()
    assert paths_in(tmp_path / "log") == ["/a", "/b", "/c"]
    assert b"/b" in sockets[0].recv(1 << 16)


def test_other_rows_get_what_ended_before(sockets: list[socket.socket]) -> None:
    rig = Rig(sockets, access_log=OFF, is_observed=True, counts_requests=True)
    rig.ask("/a")
    rig.observation.hand_counts_over()
    rig.ask("/b")
    assert rig.answers() == 0
    rig.observation.close()


def test_who_has_handed_its_counts_over_writes_into_no_rows_any_more(sockets: list[socket.socket]) -> None:
    """A layout that came while it saw its last exchanges off made it write over what its successor had counted."""
    rig = Rig(sockets, access_log=OFF, is_observed=True, counts_requests=True)
    places = {(ROUTE, "", "r"): 0, (LISTENER, "", "in"): SIZES[ROUTE]}
    layout = Layout(SIZES[ROUTE] + SIZES[LISTENER], places)
    memory = memoryview(bytearray(8 * layout.size)).cast("Q")
    rig.observation.set_layout(layout, memory, 0)
    rig.ask("/a")
    rig.observation.hand_counts_over()
    successor = memory.tolist()
    assert sum(successor[ANSWERS : ANSWERS + CLASSES]) == 1
    rig.observation.set_layout(layout, memory, 0)
    rig.ask("/b")
    rig.observation.tick(1.0)
    rig.observation.tick(1.5)
    assert memory.tolist() == successor
    rig.observation.close()
    assert memory.tolist() == successor
