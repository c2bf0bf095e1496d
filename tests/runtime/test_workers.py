from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from fastgw.config.load import load_text
from fastgw.policy.ticket_secret import TicketSecret
from fastgw.runtime import messages as m
from fastgw.runtime import workers as workers_module
from fastgw.runtime.channel import Message
from fastgw.runtime.events import Events
from fastgw.runtime.sockets import SocketTable
from fastgw.runtime.worker_process import WorkerProcess
from fastgw.runtime.workers import RefusedError, Workers
from fastgw.snapshot import Snapshot
from tests.support.client import Client, get
from tests.support.observe import eventually


def snapshot(body: str) -> Snapshot:
    return load_text(
        f"""
        [server]
        workers = 2
        [access_log]
        path = "off"
        [[listeners]]
        address = "127.0.0.1:0"
        [[routes]]
        respond = {{ body = "{body}" }}
        """
    ).snapshot


class Fragile(WorkerProcess):
    """One of them, once, dies of a snapshot instead of preparing it."""

    is_to_die = True

    async def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if message[0] == m.PREPARE and Fragile.is_to_die:
            Fragile.is_to_die = False
            self.kill()
        await super().send(message, descriptors)


@asynccontextmanager
async def running(first: Snapshot, table: SocketTable) -> AsyncIterator[Workers]:
    workers = Workers(first, table, Events(), TicketSecret(os.urandom(80), 0))
    task = asyncio.create_task(workers.run())
    async with asyncio.timeout(30):
        await workers.ready()
        yield workers
        workers.stop()
        await task
    workers.traces.close()
    workers.news.close()


async def all_serve(workers: Workers) -> None:
    assert await asyncio.to_thread(eventually, lambda: len(workers.pids()) == workers.count)


async def bodies(table: SocketTable, of: Snapshot) -> set[bytes]:
    (listener,) = of.listeners
    address = table.bound(listener.address)

    def ask() -> bytes:
        with Client((address.host, address.port)) as client:
            return client.ask(get()).body

    return {await asyncio.to_thread(ask) for _ in range(16)}


@pytest.mark.asyncio
async def test_a_worker_that_dies_while_it_prepares_leaves_all_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "WorkerProcess", Fragile)
    one, two = snapshot("one"), snapshot("two")
    table = SocketTable(2)
    table.add(one.listeners)
    async with running(one, table) as workers:
        with pytest.raises(RefusedError, match=r"worker \d ended while it prepares"):
            await workers.adopt(two, pickle.dumps(two), [])
        await all_serve(workers)
        assert workers.snapshot is one
        assert await bodies(table, one) == {b"one"}
        await workers.adopt(two, pickle.dumps(two), [])
        assert await bodies(table, one) == {b"two"}
    table.close()


@pytest.mark.asyncio
async def test_a_snapshot_that_can_t_be_read_ends_no_worker() -> None:
    one = snapshot("one")
    table = SocketTable(2)
    table.add(one.listeners)
    async with running(one, table) as workers:
        pids = workers.pids()
        with pytest.raises(RefusedError, match=r"worker \d fails, as standard error says, while it prepares"):
            await workers.adopt(one, b"nonsense", [])
        assert workers.pids() == pids
        assert await bodies(table, one) == {b"one"}
        await workers.adopt(snapshot("two"), pickle.dumps(snapshot("two")), [])
        assert await bodies(table, one) == {b"two"}
    table.close()
