"""Recorded exchanges on their way out of the worker: in batches, and never waited for."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator

import pytest

from fastgw.net.trace_record import TraceRecord
from fastgw.net.trace_sink import TraceSink
from tests.fakes import Bugs, FakeClient, FakeConnection
from tests.test_exchange_retries import GOOD
from tests.test_tracing import ALL, ASKED, Scene


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.setblocking(False)
    with one, other:
        yield one, other


class Rig:
    """A line whose recorded exchanges go to a sink."""

    def __init__(self, workers: socket.socket) -> None:
        self.said: list[str] = []
        self.bugs = Bugs()
        self.sink = TraceSink(workers, lambda: 1e9, self.said.append, self.bugs)
        self.scene = Scene(ALL)
        self.scene.gateway.traces = self.sink

    def exchange(self) -> None:
        connection = FakeConnection()
        self.scene.client = FakeClient()
        self.scene.pool.given.append(connection)
        self.scene.get(ASKED)
        connection.answers(GOOD, b"ok")


def received(exporter: socket.socket) -> list[list[TraceRecord]]:
    batches = []
    try:
        while True:
            batches.append(pickle.loads(exporter.recv(1 << 20)))
    except BlockingIOError:
        return batches


def test_records_leave_in_full_batches_and_with_the_tick(ends: tuple[socket.socket, socket.socket]) -> None:
    exporter, workers = ends
    rig = Rig(workers)
    for _ in range(33):
        rig.exchange()
    assert [len(batch) for batch in received(exporter)] == [32]
    rig.sink.tick(10.0)
    [[record]] = received(exporter)
    assert (record.route_path, record.status, len(record.attempts)) == (b"/users/{id}", 200, 1)
    # Not before half a second has passed.
    rig.exchange()
    rig.sink.tick(10.4)
    assert received(exporter) == []
    rig.sink.tick(10.5)
    assert [len(batch) for batch in received(exporter)] == [1]


def test_what_is_left_leaves_at_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    exporter, workers = ends
    rig = Rig(workers)
    rig.sink.close()
    rig.exchange()
    rig.sink.close()
    assert [len(batch) for batch in received(exporter)] == [1]
    assert rig.sink.newly_lost() == 0


def test_what_the_socket_has_no_room_for_is_counted_and_told_now_and_then(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    exporter, workers = ends
    rig = Rig(workers)
    workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    asked = 0
    while not (lost := rig.sink.newly_lost()):
        rig.exchange()
        asked += 1
        rig.sink.flush()
        assert asked < 1000
    assert rig.sink.newly_lost() == 0
    assert sum(map(len, received(exporter))) == asked - lost
    rig.sink.tick(10.0)
    rig.sink.tick(20.0)
    assert rig.said == [f"tracing: the traces of {lost} exchanges are lost, the exporter does not keep up"]
    # There is room again.
    rig.exchange()
    rig.sink.flush()
    assert rig.sink.newly_lost() == 0


def test_a_bug_in_a_record_is_none_of_the_exchange(ends: tuple[socket.socket, socket.socket]) -> None:
    _, workers = ends
    rig = Rig(workers)
    rig.bugs.expected = True
    rig.exchange()
    rig.sink._wall_offset = lambda: 1 // 0  # type: ignore[assignment]
    rig.sink.flush()
    assert rig.bugs.count == 1
    assert rig.sink.newly_lost() == 1
