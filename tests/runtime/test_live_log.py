from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from fastgw.policy.log_filter import LogFilter
from fastgw.runtime.live_log import Listener, LiveLogs, TooMany

EVERYTHING, OF_ROUTE = LogFilter(), LogFilter("r")


class Workers:
    """What they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[LogFilter, ...]] = []
        self.logs = LiveLogs(self._tell)

    async def _tell(self, filters: tuple[LogFilter, ...]) -> None:
        self.told.append(filters)


@asynccontextmanager
async def running() -> AsyncIterator[Workers]:
    workers = Workers()
    task = asyncio.create_task(workers.logs.run())
    yield workers
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def got(listener: Listener, messages: int) -> list[bytes]:
    """The next of them, behind what comes at once."""
    stream = listener.stream()
    async with asyncio.timeout(5):
        assert await anext(stream) == b": from now on\n\n"
        found = [await anext(stream) for _ in range(messages)]
    await stream.aclose()  # type: ignore[attr-defined]
    return found


@pytest.mark.asyncio
async def test_workers_are_told_what_is_wanted_and_when_nothing_is_any_more() -> None:
    async with running() as workers:
        await turns()
        assert workers.told == []
        with workers.logs.listening(EVERYTHING):
            await turns()
            # A second one who wants the same, and one who wants something else.
            with workers.logs.listening(EVERYTHING):
                await turns()
                assert workers.told == [(EVERYTHING,)]
                with workers.logs.listening(OF_ROUTE):
                    await turns()
                    assert set(workers.told[-1]) == {EVERYTHING, OF_ROUTE}
            await turns()
            assert workers.told[-1] == (EVERYTHING,)
        await turns()
        assert workers.told[-1] == ()
        assert len(workers.told) == 4


@pytest.mark.asyncio
async def test_each_gets_what_it_wants_as_events() -> None:
    logs = Workers().logs
    with logs.listening(EVERYTHING) as one, logs.listening(OF_ROUTE) as other:
        logs.add(EVERYTHING, b'{"a":1}\n{"a":2}\n', 2, 0)
        logs.add(OF_ROUTE, b'{"b":1}\n', 1, 0)
        assert await got(one, 1) == [b'event: line\ndata: {"a":1}\n\nevent: line\ndata: {"a":2}\n\n']
        assert await got(other, 1) == [b'event: line\ndata: {"b":1}\n\n']


@pytest.mark.asyncio
async def test_lines_that_workers_left_out_are_told() -> None:
    logs = Workers().logs
    with logs.listening(EVERYTHING) as listener:
        logs.add(EVERYTHING, b"", 0, 3)
        logs.add(EVERYTHING, b'{"a":1}\n', 1, 4)
        line, dropped = await got(listener, 2)
        assert line == b'event: line\ndata: {"a":1}\n\n'
        assert dropped == b'event: dropped\ndata: {"count":7}\n\n'


@pytest.mark.asyncio
async def test_whoever_does_not_read_loses_lines_and_the_others_don_t() -> None:
    logs = Workers().logs
    lines = b'{"a":"' + b"x" * 1000 + b'"}\n'
    with logs.listening(EVERYTHING) as slow, logs.listening(EVERYTHING) as quick:
        stream = quick.stream()
        await anext(stream)
        for _ in range(300):
            logs.add(EVERYTHING, lines * 10, 10, 0)
            assert (await anext(stream)).count(b"event: line") == 10
        assert sum(map(len, slow._waiting)) <= 1024 * 1024
        kept = len(slow._waiting)
        assert 90 < kept < 110
        *_, dropped = await got(slow, kept + 1)
        assert dropped == b'event: dropped\ndata: {"count":%d}\n\n' % (3000 - 10 * kept)
        # And goes on with what is new.
        logs.add(EVERYTHING, b"{}\n", 1, 0)
        assert await got(slow, 1) == [b"event: line\ndata: {}\n\n"]


@pytest.mark.asyncio
async def test_there_are_only_so_many() -> None:
    logs = Workers().logs
    with ExitStack() as all_of_them:
        for _ in range(16):
            all_of_them.enter_context(logs.listening(EVERYTHING))
        with pytest.raises(TooMany), logs.listening(OF_ROUTE):
            pass
    with logs.listening(OF_ROUTE):
        pass
