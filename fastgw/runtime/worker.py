"""A worker: one event loop that carries traffic on the sockets that its supervisor lends it.

`python -m fastgw.runtime.worker FD`: FD is the control channel. It waits there for its start message with everything
loaded already, so that it can take a dead worker's place at once. It ends when told to, or when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import uvloop

from fastgw import __version__
from fastgw.net.clock import wall_offset
from fastgw.net.news_sink import NewsSink
from fastgw.runtime import channel
from fastgw.runtime import messages as m
from fastgw.runtime.report import report, report_exception
from fastgw.runtime.row_layout import RowMemory
from fastgw.runtime.shared_memory import SharedMemory
from fastgw.runtime.traffic import Prepared, Sockets, Traffic
from fastgw.snapshot import Address, Snapshot

# How often a draining worker looks whether it is done.
_DRAIN_LOOK_S = 0.02
# What is left when the time is over may still say goodbye.
_LAST_WORDS_S = 0.5
# What `ps` and `top` show (comm has 15 characters).
_STANDBY_NAME = "fastgw-standby"
_WORKER_NAME = "fastgw-worker"


class Worker:
    """Does what the supervisor says."""

    def __init__(
        self,
        traffic: Traffic,
        control: socket.socket,
        loop: asyncio.AbstractEventLoop,
        row_memory: RowMemory,
        number: int,
    ) -> None:
        self._traffic = traffic
        self._control = control
        self._loop = loop
        # Where its rows of counters go.
        self._row_memory = row_memory
        self._number = number
        self._stop = asyncio.Event()
        # Where somebody listens on when it has stopped.
        self._kept: frozenset[Address] = frozenset()
        self._prepared: dict[int, Prepared] = {}
        # Messages are handled one after the other.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, sockets: Sockets) -> None:
        """Serves until told to stop, then drains."""
        # The supervisor says when; a signal from a terminal or an orchestrator is for it.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._loop.add_signal_handler(number, self._leave)
        self._loop.add_signal_handler(signal.SIGUSR1, self._traffic.observation.reopen_log)
        await self._traffic.start(sockets)
        # The supervisor may be gone; that is heard below.
        with contextlib.suppress(OSError):
            channel.send(self._control, (m.READY,))
        threading.Thread(target=self._listen_to_supervisor, name="control", daemon=True).start()
        await self._stop.wait()
        await self._drain()

    def _leave(self) -> None:
        """Stopped alone: another worker is to take the sockets."""
        if not self._stop.is_set():
            # The supervisor may be gone.
            with contextlib.suppress(OSError):
                self._traffic.observation.hand_counts_over()
                channel.send(self._control, (m.LEAVING,))
            self._stop_but_keep(self._traffic.addresses())

    def _stop_but_keep(self, kept: frozenset[Address]) -> None:
        if not self._stop.is_set():
            self._kept = kept
            self._stop.set()

    # The control channel, in a thread: reading a large snapshot takes a while, and traffic goes on.

    def _listen_to_supervisor(self) -> None:
        try:
            while True:
                message, descriptors = channel.receive(self._control)
                if message[0] == m.PREPARE:
                    message = (*message[:2], _loaded(message[2]), *message[3:])
                self._loop.call_soon_threadsafe(self._handle, message, descriptors)
        except (EOFError, OSError):
            # The supervisor is gone, and another gateway may have the sockets, too: an old one or its successor.
            addresses = self._traffic.addresses()
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_but_keep, addresses)

    def _handle(self, message: channel.Message, descriptors: list[int]) -> None:
        task = self._loop.create_task(self._do(message, descriptors))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, message: channel.Message, descriptors: list[int]) -> None:
        async with self._turn:
            try:
                await self._do_one(message, descriptors)
            except Exception:
                report_exception()

    async def _do_one(self, message: channel.Message, descriptors: list[int]) -> None:
        word = message[0]
        if word == m.PREPARE:
            self._prepare(message[1], message[2], message[3], descriptors)
        elif word == m.COMMIT:
            prepared = self._prepared.pop(message[1])
            # What drains opens no listeners any more.
            if not self._stop.is_set():
                await self._traffic.adopt(prepared)
            channel.send(self._control, (m.ADOPTED, message[1]))
        elif word == m.ABORT:
            # Their sockets close with them.
            self._prepared.pop(message[1], None)
        elif word == m.HEALTH:
            self._traffic.set_unhealthy(message[1])
        elif word == m.ENDPOINTS:
            self._traffic.set_found(message[1])
        elif word == m.OVERRIDES:
            self._traffic.set_overrides(message[1])
        elif word == m.LIVE_LOG:
            self._traffic.observation.set_live_log(message[1])
        elif word == m.LAYOUT:
            self._row_memory.grow(message[1].size)
            self._traffic.set_layout(message[1], self._row_memory.cells, self._number)
        elif word == m.DRAIN:
            self._stop_but_keep(message[1])

    def _prepare(
        self, generation: int, snapshot: Snapshot | None, addresses: tuple[Address, ...], descriptors: list[int]
    ) -> None:
        sockets = sockets_of(addresses, descriptors)
        if snapshot is None or self._stop.is_set():
            channel.send(self._control, (m.REFUSED, generation))
            return
        self._prepared[generation] = Prepared(snapshot, sockets)
        channel.send(self._control, (m.PREPARED, generation))

    async def _drain(self) -> None:
        traffic = self._traffic
        await traffic.stop_accepting(self._kept)
        until = time.monotonic() + traffic.snapshot.drain_timeout
        if not await self._emptied(until):
            report(f"drain_timeout is over: {traffic.connections()} connections are closed as they are")
            traffic.end()
            await self._emptied(time.monotonic() + _LAST_WORDS_S)
        traffic.abort()
        traffic.observation.close()

    async def _emptied(self, until: float) -> bool:
        while self._traffic.connections():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_DRAIN_LOOK_S)
        return True


def _loaded(pickled: bytes) -> Snapshot | None:
    """None, and standard error says why, when it can't be read."""
    try:
        snapshot: Snapshot = pickle.loads(pickled)
    except Exception:
        report_exception()
        return None
    return snapshot


def sockets_of(addresses: tuple[Address, ...], descriptors: list[int]) -> Sockets:
    """The sockets that came with a message."""
    sockets: Sockets = {}
    for address, descriptor in zip(addresses, descriptors, strict=True):
        sockets.setdefault(address, []).append(socket.socket(fileno=descriptor))
    return sockets


def _tame_garbage_collector() -> None:
    # What was loaded lives as long as the worker; exchanges free themselves by reference count.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _be_called(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


def _wait_for_start(control: socket.socket) -> tuple[Snapshot, m.Start, list[int]]:
    """The snapshot to begin with, the start message and its descriptors. Raises EOFError when it is not needed."""
    snapshot = None
    while True:
        message, descriptors = channel.receive(control)
        if message[0] == m.LOAD:
            snapshot = pickle.loads(message[1])
            _tame_garbage_collector()
        elif snapshot is not None:
            return snapshot, message[1], descriptors


def main() -> None:
    # There is no log to open anew yet.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    _be_called(_STANDBY_NAME)
    try:
        snapshot, start, descriptors = _wait_for_start(control)
    except (EOFError, KeyboardInterrupt):
        return
    if start.program != __version__:
        report(f"fastgw {start.program} was started, and {__version__} is installed now: restart it")
        sys.exit(1)
    memory, row_memory, traces, news, *listening = descriptors
    _be_called(_WORKER_NAME)
    if start.cpu >= 0:
        os.sched_setaffinity(0, {start.cpu})
    counters = SharedMemory(memory, start.workers).column(start.number)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        records, told = socket.socket(fileno=traces), socket.socket(fileno=news)
        sink = NewsSink(told, start.number, snapshot.access_log, wall_offset, report_exception)
        traffic = Traffic(snapshot, counters, start.ticket_secret, start.lent, start.found, records, sink, loop)
        traffic.set_unhealthy(start.unhealthy)
        traffic.set_overrides(start.overrides)
        traffic.observation.set_live_log(start.live_log)
        rows = RowMemory(row_memory)
        rows.grow(start.layout.size)
        traffic.set_layout(start.layout, rows.cells, start.number)
        worker = Worker(traffic, control, loop, rows, start.number)
        runner.run(worker.run(sockets_of(start.addresses, listening)))


if __name__ == "__main__":
    main()
