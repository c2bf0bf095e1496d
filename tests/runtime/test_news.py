"""What workers tell: who gets it, and what becomes of what nobody understands."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fastgw.net.live_log import Piece
from fastgw.policy.log_filter import LogFilter
from fastgw.runtime.events import Events
from fastgw.runtime.failures import Failures
from fastgw.runtime.live_log import LiveLogs
from fastgw.runtime.news import News, NewsSockets
from tests.runtime.test_failures import RECORD


class Rig:
    def __init__(self) -> None:
        self.sockets = NewsSockets()
        self.events, self.failures, self.logs = Events(), Failures(), LiveLogs(self._tell)
        self.news = News(self.sockets, self.events, self.failures, self.logs)

    async def _tell(self, _filters: tuple[LogFilter, ...]) -> None:
        pass

    def says(self, *message: object) -> None:
        self.sockets.workers.send(pickle.dumps(message))


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.news.begin()
    yield rig
    rig.news.close()


async def turns() -> None:
    """The loop looks at the socket in each of them."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_events_say_which_worker_they_are_of() -> None:
    async with running() as rig:
        rig.says("events", 2, [("endpoint", "ejected", "h:1 is ejected"), ("upstream", "panic", "a")], 0)
        rig.says("events", 0, [], 5)
        await turns()
        assert [(one.kind, one.outcome, one.detail) for one in rig.events.last] == [
            ("endpoint", "ejected", "worker 2: h:1 is ejected"),
            ("upstream", "panic", "worker 2: a"),
            ("upstream", "left-out", "worker 0: 5 more events in a second"),
        ]


@pytest.mark.asyncio
async def test_failures_and_lines_go_where_they_are_kept() -> None:
    async with running() as rig:
        with rig.logs.listening(LogFilter("r")) as listener:
            rig.says("failures", 1, [RECORD], 4)
            rig.says("lines", 1, *Piece(LogFilter("r"), b"{}\n", 1, 2))
            rig.says("events", 1, [("upstream", "panic", "a")], 0)
            await turns()
            stream = listener.stream()
            told = [await anext(stream) for _ in range(3)]
            assert told[1:] == [b"event: line\ndata: {}\n\n", b'event: dropped\ndata: {"count":2}\n\n']
        assert ([one["worker"] for one in rig.failures.last()], rig.failures.left_out) == ([1], 4)


@pytest.mark.asyncio
async def test_what_is_not_understood_is_reported_and_the_rest_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    async with running() as rig:
        rig.sockets.workers.send(b"nonsense")
        rig.says("lines", 1, "everything", b"{}\n", 1, 0)
        rig.says("weather", 1, "fine")
        rig.says("events", 1, [("upstream", "panic", "a")], 0)
        await turns()
        assert capsys.readouterr().err.count("a bug:") == 1


@pytest.mark.asyncio
async def test_much_of_it_is_heard_a_part_at_a_time() -> None:
    async with running() as rig:
        said = 0
        while said < 100:
            try:
                rig.says("failures", 1, [RECORD], 0)
                said += 1
            except BlockingIOError:
                # The kernel takes no more until some of it is read.
                await asyncio.sleep(0)
        await turns()
        assert [one["number"] for one in rig.failures.last()] == list(range(100, 0, -1))


@pytest.mark.asyncio
async def test_what_was_said_last_is_heard_at_the_end() -> None:
    async with running() as rig:
        rig.says("events", 1, [("upstream", "panic", "a")], 0)
    assert len(rig.events.last) == 1
    assert rig.sockets.supervisor.fileno() == rig.sockets.workers.fileno() == -1
