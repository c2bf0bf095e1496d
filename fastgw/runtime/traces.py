"""Tracing, as the supervisor sees it: the sockets that records travel on, and the process that exports them.

The sockets live as long as the supervisor, so that a worker never learns of an exporter that was replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

from fastgw.runtime import trace_messages as m
from fastgw.runtime.events import LOST, Events
from fastgw.runtime.worker_process import WorkerProcess

if TYPE_CHECKING:
    from fastgw.config.trace_settings import TraceExport

_HELPER = "fastgw.runtime.trace_helper"
# One that dies is started again after a second, and after twice as long each time.
_BACK_OFF_S = 1.0
_BACK_OFF_MAX_S = 60.0
# One that has lived for as long has not died of what the one before it did.
_LONG_LIFE_S = 60.0
_HEARS_S = 3600.0
# For how long a gateway that ends waits for it; it waits for the collector a little less.
_END_S = 5.0
# Some thousand records, or what the kernel allows (net.core.wmem_max): an exporter that is busy for a moment.
_BUFFER_BYTES = 1024 * 1024


class TraceSockets:
    """`workers` is what all of them send to, and `exporter` where that arrives, each datagram whole."""

    def __init__(self) -> None:
        self.exporter, self.workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self.workers.setblocking(False)

    def close(self) -> None:
        self.exporter.close()
        self.workers.close()


class TraceKeeper:
    """Keeps a process that exports what comes out of `source`. `exported` and `lost` count exchanges."""

    def __init__(self, source: socket.socket, events: Events) -> None:
        self._source = source
        self._events = events
        self._export: TraceExport | None = None
        self._changed = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._is_stopping = False
        self.exported = 0
        self.lost = 0

    def adopt(self, export: TraceExport | None) -> None:
        """What is wanted from now on; None: nothing."""
        if export != self._export:
            self._export = export
            self._changed.set()

    async def stop(self) -> None:
        """The workers have ended: lets what they have recorded be exported, if that is soon done."""
        self._is_stopping = True
        self._changed.set()
        process = self._process
        if process is not None:
            await process.send((m.END,))
            await asyncio.wait((process.ended,), timeout=_END_S)
            process.kill()

    async def run(self) -> None:
        """Keeps one for as long as there is something to do for it."""
        back_off_s = _BACK_OFF_S
        while not self._is_stopping:
            if self._export is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            began = time.monotonic()
            how = await self._run_helper()
            if self._is_stopping or self._export is None:
                continue
            back_off_s = _BACK_OFF_S if time.monotonic() - began > _LONG_LIFE_S else back_off_s
            detail = f"the process that exports traces {how}; it starts again in {back_off_s:g} s"
            self._events.add("tracing", LOST, detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(back_off_s):
                    await self._stopped()
            back_off_s = min(back_off_s * 2, _BACK_OFF_MAX_S)

    async def _stopped(self) -> None:
        while not self._is_stopping:
            self._changed.clear()
            await self._changed.wait()

    async def _run_helper(self) -> str:
        """Starts one and waits for its end; says how that was."""
        try:
            self._process = process = WorkerProcess(asyncio.get_running_loop(), _HELPER)
        except OSError as error:
            return f"can't be started: {error.strerror}"
        telling = asyncio.create_task(self._tell(process))
        try:
            while not process.ended.done():
                message = await process.hears(_HEARS_S)
                if message is not None:
                    self._handle(message)
        finally:
            telling.cancel()
            process.kill()
            self._process = None
            await process.close()
        status = process.ended.result()
        return f"ended with signal {-status}" if status < 0 else f"ended with status {status}"

    async def _tell(self, process: WorkerProcess) -> None:
        """Each change of what is wanted; when nothing is any more, the helper ends."""
        descriptors = [self._source.fileno()]
        while self._export is not None and not self._is_stopping:
            self._changed.clear()
            await process.send((m.SETTINGS, self._export), descriptors)
            descriptors = []
            await self._changed.wait()
        if not self._is_stopping:
            await process.send((m.END,))

    def _handle(self, message: tuple[object, ...]) -> None:
        match message:
            case (m.COUNTS, int(exported), int(lost)):
                self.exported += exported
                self.lost += lost
            case (m.EVENT, str(outcome), str(detail)):
                self._events.add("tracing", outcome, detail)
