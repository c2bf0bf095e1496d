"""Defects of the sweep that all time-outs hang on, each named after what was wrong."""

from __future__ import annotations

from typing import Any, cast

from fastgw.net.clock import FOREVER, TICK_S, Sweep


class Loop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any]] = []

    def call_later(self, delay: float, call: Any) -> None:
        self.later.append((delay, call))


class Timed:
    def __init__(self, deadline: float, fails: bool = False) -> None:
        self.deadline = deadline
        self.write_deadline = FOREVER
        self.fails = fails
        self.looked_at: list[float] = []

    def overdue(self, now: float) -> None:
        self.looked_at.append(now)
        if self.fails:
            raise ValueError("a bug")


def broken_tick(now: float) -> None:
    raise ValueError("a bug as well")


def test_an_exception_in_one_connections_deadline_ended_the_sweep_for_all() -> None:
    loop, failures, ticks = Loop(), list[str](), list[float]()
    sweep = Sweep(cast(Any, loop), lambda: 10.0, lambda: failures.append("told"))
    broken, due, early = [Timed(5.0, fails=True) for _ in range(3)], Timed(5.0), Timed(15.0)
    sweep.watched |= {*broken, due, early}
    sweep.each_tick += [broken_tick, ticks.append]
    sweep.start()
    (delay, tick), loop.later = loop.later[0], []
    assert delay == TICK_S
    tick()
    assert due.looked_at == [10.0]
    assert early.looked_at == []
    assert all(one.looked_at == [10.0] for one in broken)
    assert ticks == [10.0]
    assert failures == ["told"] * 4
    # And there is a next time.
    assert [delay for delay, _ in loop.later] == [TICK_S]
