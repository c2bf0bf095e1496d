"""A worker, or another helper, as its supervisor sees it: a process, and the channel to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from fastgw.runtime import channel
from fastgw.runtime.messages import LEAVING, READY

# For how long a worker may leave a message unread; it reads in a thread, and loads what has come in between.
_SEND_S = 60.0


class WorkerProcess:
    """A fresh interpreter that runs `module`, which loads everything and waits for its start message. Raises OSError
    when there can be none.

    `ended` is done when the process is; its result is the exit status, negative for a signal. `leaving` is set when it
    goes by itself; `has_served`, from when it accepts connections.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, module: str = "fastgw.runtime.worker") -> None:
        self._loop = loop
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel = ours
        self._sending = asyncio.Lock()
        self._said: asyncio.Queue[channel.Message] = asyncio.Queue()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    # A Ctrl-C in the terminal is for the supervisor, which tells the workers.
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        self.pid = self._process.pid
        self.ended: asyncio.Future[int] = loop.create_future()
        self.leaving = asyncio.Event()
        self.has_served = False
        self._death = os.pidfd_open(self.pid)
        loop.add_reader(self._death, self._has_ended)
        self._reading = loop.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = await channel.receive_later(self._loop, self._channel)
                if message == (LEAVING,):
                    self.leaving.set()
                else:
                    self._said.put_nowait(message)

    def _has_ended(self) -> None:
        self._loop.remove_reader(self._death)
        os.close(self._death)
        self.ended.set_result(self._process.wait())

    async def send(self, message: channel.Message, descriptors: Sequence[int] = ()) -> None:
        """Ends it when it does not read; when it is gone, whoever waits for its end knows what to do."""
        # To its end, even when whoever sends it is cancelled: half a message would be the last that it understands.
        await asyncio.shield(self._send(message, descriptors))

    async def _send(self, message: channel.Message, descriptors: Sequence[int]) -> None:
        async with self._sending:
            try:
                async with asyncio.timeout(_SEND_S):
                    await channel.send_later(self._loop, self._channel, message, descriptors)
            except TimeoutError:
                # That was half of one.
                self.kill()
            except OSError:
                return

    async def readiness(self) -> None:
        """Until it serves, or has ended."""
        self.has_served = await self.hears(None) == (READY,)

    async def hears(self, seconds: float | None) -> channel.Message | None:
        """The next of what it says; None when it says nothing in time, or has ended."""
        saying = asyncio.ensure_future(self._said.get())
        try:
            await asyncio.wait((saying, self.ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return saying.result() if saying.done() else None
        finally:
            saying.cancel()

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await asyncio.shield(self.ended)

    def signal(self, number: int) -> None:
        if not self.ended.done():
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def close(self) -> None:
        """Waits for its end, and forgets it."""
        await self.ended
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        self._channel.close()
