from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from fastgw.net.clock import FOREVER, TICK_S, Sweep
from tests.fakes import Bugs, Clock


class Timers:
    """A loop's timers, run by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        self.due.append((delay, call))

    def tick(self) -> None:
        (_, call) = self.due.pop()
        call()


class Watched:
    def __init__(self, deadline: float = FOREVER, write_deadline: float = FOREVER) -> None:
        self.deadline = deadline
        self.write_deadline = write_deadline
        self.looked_at: list[float] = []

    def overdue(self, now: float) -> None:
        self.looked_at.append(now)


def sweep() -> tuple[Sweep, Timers, Clock, Bugs]:
    timers, clock, bugs = Timers(), Clock(100.0), Bugs()
    return Sweep(cast(asyncio.AbstractEventLoop, timers), clock, bugs), timers, clock, bugs


def test_only_what_is_overdue_is_told() -> None:
    swept, *_ = sweep()
    late, late_writing, in_time, at_the_time = (
        Watched(99.0),
        Watched(FOREVER, 99.0),
        Watched(101.0, 101.0),
        Watched(100.0),
    )
    swept.watched |= {late, late_writing, in_time, at_the_time}
    swept.look(100.0)
    assert [one.looked_at for one in (late, late_writing, in_time, at_the_time)] == [[100.0], [100.0], [], []]


def test_it_looks_again_and_again_and_tells_the_time_to_who_asked() -> None:
    swept, timers, clock, _ = sweep()
    times: list[float] = []
    swept.each_tick.append(times.append)
    swept.start()
    for _ in range(3):
        assert [delay for delay, _ in timers.due] == [TICK_S]
        clock.now += TICK_S
        timers.tick()
    assert times == pytest.approx([100.1, 100.2, 100.3])


def test_what_ends_while_it_looks_is_no_trouble() -> None:
    swept, *_ = sweep()

    class Ends(Watched):
        def overdue(self, now: float) -> None:
            super().overdue(now)
            swept.watched.clear()

    swept.watched |= {Ends(1.0), Ends(1.0)}
    swept.look(2.0)
    assert swept.watched == set()


def test_one_bug_does_not_end_the_time_outs_of_all() -> None:
    swept, timers, _, bugs = sweep()
    bugs.expected = True

    class Broken(Watched):
        def overdue(self, now: float) -> None:
            raise ZeroDivisionError

    others = [Watched(1.0) for _ in range(3)]
    swept.watched |= {Broken(1.0), *others}
    swept.start()
    timers.tick()
    assert [len(one.looked_at) for one in others] == [1, 1, 1]
    assert (bugs.count, len(timers.due)) == (1, 1)
