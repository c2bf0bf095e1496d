from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from fastgw.net import log_writer
from fastgw.net.log_writer import LinesLost, Writer
from tests.fakes import Clock


def eventually(holds: Callable[[], bool]) -> None:
    """The writer's thread comes to it."""
    until = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < until
        os.sched_yield()


class FakeTarget:
    """Takes lines, or does what it is told to."""

    name = "there"

    def __init__(self) -> None:
        self.taken = b""
        self.error: OSError | None = None
        self.has_room = threading.Event()
        self.has_room.set()
        self.asked = 0
        self.closed = 0

    def write(self, lines: memoryview) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if not self.has_room.wait(0.001):
            return 0
        # A line at a time.
        end = bytes(lines).index(b"\n") + 1
        self.taken += lines[:end]
        return end

    def close(self) -> None:
        self.closed += 1


class Rig:
    """A writer, and what it told."""

    def __init__(self) -> None:
        self.target = FakeTarget()
        self.clock = Clock()
        self.told: list[str] = []
        self.writer = Writer(self.target, self.told.append, self.clock)

    def put(self, lines: bytes) -> None:
        """Until the target was asked about them."""
        asked = self.target.asked
        self.writer.put(lines)
        eventually(lambda: self.target.asked > asked)

    def calm(self, lines: bytes) -> None:
        """Some time passes without trouble; then there is a line more."""
        self.clock.now += 10.0
        self.put(lines)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_RETRY_S", 0.001)


def test_lines_arrive_in_order_and_whole() -> None:
    rig = Rig()
    lines = [b"%d\n" % number for number in range(100)]
    for line in lines:
        rig.writer.put(line)
    rig.writer.close()
    assert rig.target.taken == b"".join(lines)
    assert (rig.told, rig.writer.dropped, rig.target.closed) == ([], 0, 1)


def test_what_is_lost_is_counted_and_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    rig = Rig()
    rig.target.error = LinesLost("it is full", 4, 2)
    rig.put(b"a\nb\n")
    rig.put(b"c\nd\n")
    eventually(lambda: rig.writer.dropped == 4)
    assert rig.told == ["access log there: it is full; lines may get lost until that is over"]
    rig.target.error = None
    # One that comes and goes is one trouble.
    rig.put(b"e\n")
    assert len(rig.told) == 1
    rig.calm(b"f\n")
    eventually(lambda: len(rig.told) == 2)
    assert rig.told[1] == "access log there is well again: 4 lines were lost"
    assert rig.target.taken == b"e\nf\n"
    rig.writer.close()
    assert len(rig.told) == 2


def test_lines_that_can_be_tried_again_are_and_nothing_is_lost() -> None:
    rig = Rig()
    rig.target.error = ConnectionRefusedError(111, "Connection refused")
    rig.writer.put(b"a\nb\n")
    eventually(lambda: rig.target.asked > 3)
    rig.target.error = None
    rig.writer.put(b"c\n")
    eventually(lambda: rig.target.taken == b"a\nb\nc\n")
    rig.calm(b"d\n")
    eventually(lambda: len(rig.told) == 2)
    assert rig.told == [
        "access log there: Connection refused; lines may get lost until that is over",
        "access log there is well again: 0 lines were lost",
    ]
    rig.writer.close()


def test_a_target_without_room_drops_lines_and_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_BACKLOG_BYTES", 8)
    rig = Rig()
    rig.target.has_room.clear()
    for _ in range(10):
        rig.writer.put(b"a\n")
    assert rig.writer.dropped == 6
    # It is told while it lasts.
    eventually(lambda: len(rig.told) == 1)
    rig.target.has_room.set()
    eventually(lambda: rig.target.taken == b"a\n" * 4)
    rig.calm(b"b\n")
    eventually(lambda: len(rig.told) == 2)
    assert rig.told == [
        "access log there: lines come faster than they are taken; lines may get lost until that is over",
        "access log there is well again: 6 lines were lost",
    ]
    rig.writer.close()
    assert rig.target.taken == b"a\n" * 4 + b"b\n"


def test_a_trouble_that_lasts_is_told_with_its_losses_at_the_end() -> None:
    rig = Rig()
    rig.target.error = ConnectionRefusedError(111, "Connection refused")
    rig.put(b"a\nb\n")
    rig.writer.close()
    assert rig.writer.dropped == 2
    assert rig.told[-1] == "access log there ends: 2 lines were lost"


def test_it_is_opened_anew_when_told_to() -> None:
    rig = Rig()
    rig.put(b"a\n")
    rig.writer.reopen()
    eventually(lambda: rig.target.closed == 1)
    rig.writer.close()


def test_that_a_trouble_is_over_is_told_without_another_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_CALM_S", 0.01)
    rig = Rig()
    rig.target.error = ConnectionRefusedError(111, "Connection refused")
    rig.put(b"a\n")
    rig.target.error = None
    eventually(lambda: rig.target.taken == b"a\n")
    rig.clock.now += 1.0
    eventually(lambda: len(rig.told) == 2)
    rig.writer.close()
