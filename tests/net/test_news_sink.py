"""What a worker tells its supervisor: in bounds, and never waited for."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastgw.net.news_sink import NewsSink
from fastgw.policy.log_filter import LogFilter
from fastgw.snapshot import AccessLog
from tests.fakes import Bugs, FakeClient, Line

CONFIG = '[[routes]]\nname = "r"\npath = "/r"\nrespond = { status = 503, body = "x" }\n'
SETTINGS = AccessLog("off", "json", ("path",))
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.setblocking(False)
    with one, other:
        yield one, other


class Rig:
    """Worker 3's line, whose failures go to a sink."""

    def __init__(self, workers: socket.socket) -> None:
        self.bugs = Bugs()
        self.sink = NewsSink(workers, 3, SETTINGS, lambda: 1e9, self.bugs)
        self.line = Line(CONFIG)
        self.line.gateway.failures = self.sink

    def ask(self, target: str, times: int = 1) -> None:
        for _ in range(times):
            self.line.client = FakeClient()
            self.line.get(target)


def heard(supervisor: socket.socket) -> list[tuple[Any, ...]]:
    messages = []
    try:
        while True:
            messages.append(pickle.loads(supervisor.recv(1 << 20)))
    except BlockingIOError:
        return messages


def test_events_leave_with_the_tick_and_no_more_than_some_in_a_second(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    rig.sink.tick(10.0)
    assert heard(supervisor) == []
    rig.sink.tell("endpoint", "ejected", "h:1 is ejected")
    assert heard(supervisor) == []
    rig.sink.tick(10.1)
    assert heard(supervisor) == [("events", 3, [("endpoint", "ejected", "h:1 is ejected")], 0)]
    for _ in range(30):
        rig.sink.tell("endpoint", "returned", "h:1")
    rig.sink.tick(10.2)
    [(_, _, events, left_out)] = heard(supervisor)
    assert (len(events), left_out) == (19, 0)
    # A new second begins; how many were too many is told once in each.
    rig.sink.tick(11.0)
    assert heard(supervisor) == [("events", 3, [], 11)]
    rig.sink.tell("upstream", "panic", "a")
    rig.sink.tick(11.1)
    assert heard(supervisor) == [("events", 3, [("upstream", "panic", "a")], 0)]


def test_exchanges_that_fail_are_noted_and_no_more_than_some_in_a_second(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    rig.sink.tick(10.0)
    rig.ask("/nowhere", 12)
    # Clients who try names hide nothing of what has failed here.
    rig.ask("/r?token=1", 11)
    rig.sink.tick(10.1)
    [(word, worker, records, left_out)] = heard(supervisor)
    assert (word, worker, left_out) == ("failures", 3, 3)
    assert [(one.status, one.reason) for one in records] == [*[(404, "no-route")] * 10, *[(503, "")] * 10]
    assert records[10].path == "/r?token=REDACTED"
    # What ends later is counted all the same.
    rig.ask("/nowhere", 2)
    rig.sink.tick(10.2)
    assert heard(supervisor) == [("failures", 3, [], 2)]


def test_what_is_well_is_not_noted(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    rig.line = Line('[[routes]]\nrespond = { status = 404, body = "x" }\n')
    rig.line.gateway.failures = rig.sink
    rig.ask("/")
    rig.sink.tick(10.0)
    assert heard(supervisor) == []


def test_lines_leave_only_while_somebody_looks(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    log = rig.line.gateway.log
    assert rig.sink.before(log, SETTINGS, ()) is log
    rig.line.gateway.log = rig.sink.before(log, SETTINGS, (LogFilter("r"),))
    assert rig.line.gateway.log is not log
    rig.ask("/r")
    # What has come until then leaves, too.
    rig.line.gateway.log = rig.sink.before(log, SETTINGS, ())
    assert rig.line.gateway.log is log
    rig.ask("/r")
    rig.sink.tick(10.0)
    lines = [message for message in heard(supervisor) if message[0] == "lines"]
    assert lines == [("lines", 3, LogFilter("r"), b'{"path":"/r"}\n', 1, 0)]


def test_what_the_socket_has_no_room_for_waits_and_past_a_bound_lines_are_lost_first(ends: Ends) -> None:
    supervisor, workers = ends
    workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    rig = Rig(workers)
    rig.line.gateway.failures = None
    rig.line.gateway.log = rig.sink.before(rig.line.gateway.log, SETTINGS, (LogFilter(),))
    now = 10.0
    for number in range(60):
        if number == 30:
            rig.sink.tell("endpoint", "ejected", "h:1")
        rig.ask("/" + "a" * 400)
        now += 0.1
        rig.sink.tick(now)
    lost = rig.sink.newly_lost()
    assert lost > 0
    assert rig.sink.newly_lost() == 0
    messages = []
    while batch := heard(supervisor):
        messages += batch
        now += 0.1
        rig.sink.tick(now)
    assert sum(message[0] == "lines" for message in messages) == 60 - lost
    # Whoever looks is told how many it has not seen, as soon as there are others for it.
    rig.ask("/")
    rig.sink.tick(now + 0.1)
    messages += heard(supervisor)
    assert sum(message[-1] for message in messages if message[0] == "lines") == lost
    assert ("events", 3, [("endpoint", "ejected", "h:1")], 0) in messages
    # What has waited comes in its order, and the newest is there.
    rig.sink.tell("endpoint", "returned", "h:1")
    rig.sink.close()
    assert heard(supervisor) == [("events", 3, [("endpoint", "returned", "h:1")], 0)]


def test_when_nobody_is_there_any_more_what_is_told_is_lost(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    supervisor.close()
    rig.sink.tell("endpoint", "ejected", "h:1")
    rig.sink.close()
    assert rig.sink.newly_lost() == 1


def test_a_bug_in_a_record_or_a_line_keeps_nothing_else_from_being_told(ends: Ends) -> None:
    supervisor, workers = ends
    rig = Rig(workers)
    rig.bugs.expected = True
    rig.line.gateway.log = rig.sink.before(rig.line.gateway.log, SETTINGS, (LogFilter(),))
    rig.ask("/r")
    rig.sink._wall_offset = lambda: 1 // 0  # type: ignore[assignment]
    rig.sink.tell("endpoint", "ejected", "h:1")
    rig.sink.tick(10.0)
    assert rig.bugs.count == 1
    assert rig.sink.newly_lost() == 1
    assert [message[0] for message in heard(supervisor)] == ["events", "lines"]
