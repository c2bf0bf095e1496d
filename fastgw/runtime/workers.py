"""The workers of a gateway: as many as the configuration says, whatever happens to one of them.

One more process waits, with everything loaded, to take the place of a worker that dies: on the same sockets, where
clients have meanwhile waited to be accepted. A worker whose loop does not turn any more is killed, and replaced too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastgw import __version__
from fastgw.counters import ACCEPTED, CLOSED, HEARTBEAT
from fastgw.policy.ticket_secret import TicketSecret
from fastgw.runtime import messages as m
from fastgw.runtime import shared_memory
from fastgw.runtime.channel import Message
from fastgw.runtime.events import LOST, Events
from fastgw.runtime.news import NewsSockets
from fastgw.runtime.overrides import Overrides
from fastgw.runtime.report import report
from fastgw.runtime.row_layout import LayoutKeeper
from fastgw.runtime.sockets import SocketTable
from fastgw.runtime.traces import TraceSockets
from fastgw.runtime.turnstile import Turnstile
from fastgw.runtime.worker_process import WorkerProcess

if TYPE_CHECKING:
    from fastgw.snapshot import Address, Snapshot

# The first that dies is replaced at once. When its successor lives for less than this, the next one waits, and each
# after it twice as long, up to the maximum.
_SHORT_LIFE_S = 5.0
_BACK_OFF_S = 0.2
_BACK_OFF_MAX_S = 5.0
# Past the drain time-out, how long a worker has for its last words.
_KILL_AFTER_S = 5.0
# For how long a worker may load and prepare a snapshot: 100,000 routes take a few seconds.
_PREPARE_S = 60.0
# How often the heartbeats are looked at, at the least.
_LOOK_S = 1.0


class RefusedError(Exception):
    """A worker can't take a snapshot; the message is for the user."""


@dataclass(frozen=True)
class Change:
    """A snapshot on its way into the workers. `added` are the addresses that they have no sockets for yet."""

    generation: int
    pickled: bytes
    added: tuple[Address, ...]


class Workers:
    """`snapshot` is the one in force; there are to be `count` of them."""

    def __init__(self, snapshot: Snapshot, table: SocketTable, events: Events, ticket_secret: TicketSecret) -> None:
        self.snapshot = snapshot
        self._table = table
        self._events = events
        self.count = snapshot.workers
        self._pickled = pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL)
        self._ticket_secret = ticket_secret
        self._memory = shared_memory.create(self.count)
        self._loop = asyncio.get_running_loop()
        self._standby: WorkerProcess | None = None
        self._serving: dict[int, WorkerProcess] = {}
        self._everyone: set[WorkerProcess] = set()
        self._stopping = asyncio.Event()
        self._kept: frozenset[Address] = frozenset()
        self._all_ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._seeing_off: set[asyncio.Task[None]] = set()
        # No worker starts while a snapshot is on its way.
        self._turnstile = Turnstile()
        self._generation = 0
        self.unhealthy: m.Unhealthy = {}
        self.found: m.Found = {}
        self.overrides: Overrides = {}
        self.rows = LayoutKeeper(self.count)
        self.live_log: m.Filters = ()
        self.traces = TraceSockets()
        self.news = NewsSockets()

    async def run(self) -> None:
        """Until `stop`, and the drain after it."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.count):
                group.create_task(self._keep(number))
            watching = group.create_task(self._watch_heartbeats())
            standing_by = group.create_task(self._stand_by())
            await self._stopping.wait()
            watching.cancel()
            standing_by.cancel()
        await asyncio.gather(*self._seeing_off)
        if self._standby is not None:
            self._standby.kill()
            await self._standby.close()

    async def ready(self) -> None:
        """Until all have been serving at once."""
        await self._all_ready.wait()

    async def come_up(self) -> None:
        """The same, the first time. Raises RefusedError when one dies instead, or is told to stop."""
        await _first_of(self._all_ready.wait(), self._lost.wait(), self._stopping.wait())
        if self._stopping.is_set():
            raise RefusedError("it was told to stop")
        if not self._all_ready.is_set():
            raise RefusedError("its workers don't start; standard error says why")

    def stop(self, kept: frozenset[Address] = frozenset()) -> None:
        """They end what is in flight, for up to the drain time-out. At the addresses `kept` others listen on."""
        self._kept = kept
        self._stopping.set()

    def kill(self) -> None:
        for process in self._everyone:
            process.kill()

    async def tell_unhealthy(self, unhealthy: m.Unhealthy) -> None:
        """The endpoints whose checks fail: all workers know them, and those that are still to come."""
        self.unhealthy = unhealthy
        for process in tuple(self._everyone):
            if process.has_served:
                await process.send((m.HEALTH, unhealthy))

    def ticket_secret(self) -> TicketSecret:
        """That of today."""
        self._ticket_secret = self._ticket_secret.at(time.time())  # noqa: TID251
        return self._ticket_secret

    async def tell_found(self, found: m.Found, changed: m.Found) -> None:
        """The endpoints that were found: those that have changed are for the workers of now, all for those to come."""
        self.found = found
        for process in tuple(self._everyone):
            if process.has_served:
                await process.send((m.ENDPOINTS, changed))

    async def tell_overrides(self, overrides: Overrides) -> None:
        """What is changed by hand about endpoints; all of it."""
        self.overrides = overrides
        for process in tuple(self._everyone):
            if process.has_served:
                await process.send((m.OVERRIDES, overrides))

    async def tell_layout(self) -> None:
        """Where rows of counters are from now on."""
        for process in tuple(self._everyone):
            if process.has_served:
                await process.send((m.LAYOUT, self.rows.layout))

    async def tell_live_log(self, filters: m.Filters) -> None:
        """What is looked at of the log as it is made."""
        self.live_log = filters
        for process in tuple(self._everyone):
            if process.has_served:
                await process.send((m.LIVE_LOG, filters))

    def pids(self) -> dict[int, int]:
        """The processes of the workers that serve."""
        return {number: process.pid for number, process in self._serving.items()}

    def column(self, number: int) -> memoryview:
        """What a worker has counted."""
        return self._memory.column(number)

    def signal(self, number: int) -> None:
        """To all that serve, and those that end what is in flight."""
        for process in self._everyone:
            if process.has_served:
                process.signal(number)

    # One worker after the other in the same place.

    async def _keep(self, number: int) -> None:
        back_off_s = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            how = await self._live(number)
            if self._stopping.is_set():
                return
            self._lost.set()
            self._events.add("worker", LOST, f"worker {number} {how}; another takes over")
            if time.monotonic() - began > _SHORT_LIFE_S:
                back_off_s = 0.0
            if back_off_s:
                report(f"workers die one after the other: the next starts in {back_off_s:g} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(back_off_s):
                        await self._stopping.wait()
            back_off_s = min(max(back_off_s * 2, _BACK_OFF_S), _BACK_OFF_MAX_S)

    async def _live(self, number: int) -> str:
        """One worker's life in its place, to its end or until it leaves; how that came."""
        try:
            process = await self._start(number)
        except OSError as error:
            return f"can't be started: {error.strerror}"
        await _first_of(process.wait(), process.leaving.wait(), self._stopping.wait())
        self._serving.pop(number, None)
        if process.ended.done():
            # Its connections have ended with it, and nobody else counts them.
            column = self._memory.column(number)
            column[CLOSED] = column[ACCEPTED]
        leaving = asyncio.create_task(self._see_off(process))
        self._seeing_off.add(leaving)
        leaving.add_done_callback(self._seeing_off.discard)
        return f"ended with {_status_text(await process.wait())}" if process.ended.done() else "was told to stop"

    async def _take_standby(self) -> WorkerProcess:
        process, self._standby = self._standby, None
        return process if process is not None and not process.ended.done() else await self._new_process()

    async def _new_process(self) -> WorkerProcess:
        process = WorkerProcess(self._loop)
        # Always before START.
        await self._load(process)
        return process

    async def _load(self, process: WorkerProcess) -> None:
        await process.send((m.LOAD, self._pickled))

    async def _start(self, number: int) -> WorkerProcess:
        """It serves then, or has ended, or the gateway stops. Raises OSError when there can be no process."""
        async with self._turnstile.shared():
            process = await self._take_standby()
            self._everyone.add(process)
            # It may take a while to load; only then is it watched.
            self._memory.column(number)[HEARTBEAT] = 0
            addresses, sockets = self._sockets(number, [listener.address for listener in self.snapshot.listeners])
            cpu, lent = self._cpu_of(number), self._table.lent
            start = m.Start(
                *(__version__, number, self.count, cpu, addresses, lent),
                *(self.unhealthy, self.found, self.overrides, self.rows.layout, self.live_log, self.ticket_secret()),
            )
            shared = [self._memory.fd, self.rows.memory.fd, self.traces.workers.fileno(), self.news.workers.fileno()]
            await process.send((m.START, start), [*shared, *sockets])
            await _first_of(process.readiness(), self._stopping.wait(), asyncio.sleep(_PREPARE_S))
            if process.has_served:
                if start.unhealthy is not self.unhealthy:
                    # There was news meanwhile.
                    await process.send((m.HEALTH, self.unhealthy))
                if start.found is not self.found:
                    await process.send((m.ENDPOINTS, self.found))
                if start.overrides is not self.overrides:
                    await process.send((m.OVERRIDES, self.overrides))
                if start.layout is not self.rows.layout:
                    await process.send((m.LAYOUT, self.rows.layout))
                if start.live_log is not self.live_log:
                    await process.send((m.LIVE_LOG, self.live_log))
                self._serving[number] = process
                if len(self._serving) == self.count:
                    self._all_ready.set()
            elif not process.ended.done() and not self._stopping.is_set():
                report(f"worker {number} does not start in {_PREPARE_S:g} s")
                process.kill()
                await process.wait()
        return process

    def _cpu_of(self, number: int) -> int:
        usable = sorted(os.sched_getaffinity(0))
        return usable[number % len(usable)] if self.snapshot.pin_workers else -1

    def _sockets(self, number: int, addresses: Sequence[Address]) -> tuple[tuple[Address, ...], list[int]]:
        """A worker's sockets, and the address of each."""
        pairs = [(address, sock.fileno()) for address in addresses for sock in self._table.of(address, number)]
        return tuple(address for address, _ in pairs), [descriptor for _, descriptor in pairs]

    async def _see_off(self, process: WorkerProcess) -> None:
        """Lets it end what is in flight, if it still can."""
        if not process.ended.done() and not process.leaving.is_set():
            await process.send((m.DRAIN, self._kept))
        await asyncio.wait((process.ended,), timeout=self.snapshot.drain_timeout + _KILL_AFTER_S)
        process.kill()
        await process.close()
        self._everyone.discard(process)

    async def _stand_by(self) -> None:
        """Sees to it that one more waits."""
        await self.ready()
        while True:
            if self._standby is None or self._standby.ended.done():
                async with self._turnstile.shared():
                    # The next look is soon enough to try again.
                    with contextlib.suppress(OSError):
                        self._standby = await self._new_process()
            await asyncio.sleep(_LOOK_S)

    # Heartbeats.

    async def _watch_heartbeats(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(min(_LOOK_S, self.snapshot.hang_timeout / 4))
            now = time.monotonic()
            # When we did not run ourselves, neither did they: the machine or all of us were stopped.
            if now - looked < self.snapshot.hang_timeout / 2:
                self._kill_the_hung(now)
            looked = now

    def _kill_the_hung(self, now: float) -> None:
        for number, process in self._serving.items():
            last_seen = self._memory.column(number)[HEARTBEAT] / 1000
            if last_seen and now - last_seen > self.snapshot.hang_timeout and not process.ended.done():
                report(f"worker {number} hangs: its loop has not turned for {now - last_seen:.1f} s; it is killed")
                process.kill()

    # A new snapshot.

    async def adopt(
        self, snapshot: Snapshot, pickled: bytes, added: Sequence[Address], only: int | None = None
    ) -> None:
        """Puts a snapshot into all workers, or raises RefusedError and leaves all as they are. With `only`, that worker
        tries it, and should it die, its successor has the one in force."""
        async with self._turnstile.alone():
            self._generation += 1
            change = Change(self._generation, pickled, tuple(added))
            serving = {number: one for number, one in self._serving.items() if only is None or number == only}
            # Each of them to its end: half a message would be the last that its worker understands.
            preparing = (self._prepare(number, process, change) for number, process in serving.items())
            outcomes = await asyncio.gather(*preparing, return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    await self._tell(serving, (m.ABORT, change.generation))
                    raise outcome
            await self._tell(serving, (m.COMMIT, change.generation))
            if only is None:
                self.snapshot, self._pickled = snapshot, pickled
            # What is said to be in force is in force everywhere; one that dies meanwhile comes back with it.
            await asyncio.gather(*(_answer_on(process, change.generation) for process in serving.values()))
            if self._standby is not None and only is None:
                await self._load(self._standby)

    async def take_back(self, only: int) -> None:
        """The worker goes on with the snapshot in force; if it can't, its successor does."""
        with contextlib.suppress(RefusedError):
            await self.adopt(self.snapshot, self._pickled, (), only)

    async def _prepare(self, number: int, process: WorkerProcess, change: Change) -> None:
        addresses, sockets = self._sockets(number, change.added)
        await process.send((m.PREPARE, change.generation, change.pickled, addresses), sockets)
        answer = await _answer_on(process, change.generation)
        if answer != (m.PREPARED, change.generation):
            if answer is not None:
                why = "fails, as standard error says,"
            else:
                why = "ended" if process.ended.done() else f"does not answer in {_PREPARE_S:g} s"
            raise RefusedError(f"worker {number} {why} while it prepares")

    async def _tell(self, serving: dict[int, WorkerProcess], message: tuple[object, ...]) -> None:
        for process in serving.values():
            await process.send(message)


async def _answer_on(process: WorkerProcess, generation: int) -> Message | None:
    """What a worker says of a snapshot; what it says late of an earlier one is over. None: nothing in time."""
    while (answer := await process.hears(_PREPARE_S)) is not None and answer[1:] != (generation,):
        pass
    return answer


async def _first_of(*waiting: Coroutine[None, None, object]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _status_text(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
