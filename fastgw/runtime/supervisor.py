"""The supervisor: the cold process that owns the configuration and the listening sockets, and starts the workers.

It binds every socket itself and keeps it, so that a worker's death loses no connection that waits to be accepted.
Workers are fresh interpreters; they inherit the sockets and get the snapshot over a control channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastgw.runtime import channel
from fastgw.runtime.report import report
from fastgw.runtime.sockets import CannotListen, bind_all, unlink_unix_sockets, with_ports

if TYPE_CHECKING:
    from fastgw.config.load import LoadedConfig
    from fastgw.snapshot import Snapshot

# A worker that lives for less has failed at once; the next waits longer, up to the maximum.
_SHORT_LIFE_S = 5.0
_BACK_OFF_S = 0.1
_BACK_OFF_MAX_S = 5.0
# Past the drain time-out, how long a worker has for its last words.
_KILL_AFTER_S = 5.0


def run(config_path: Path, loaded: LoadedConfig) -> int:
    """Serves until it is told to stop; the exit status. 1: a socket can't be had."""
    _raise_file_limit()
    snapshot = loaded.snapshot
    try:
        sockets = [bind_all(snapshot, 0)]
        # Where any free port will do, it is the same one for all workers.
        snapshot = with_ports(snapshot, sockets[0])
        sockets += [bind_all(snapshot, number) for number in range(1, snapshot.workers)]
    except CannotListen as error:
        report(str(error))
        return 1
    for warning in loaded.warnings:
        report(warning)
    supervisor = Supervisor(snapshot, sockets)
    return asyncio.run(supervisor.run(config_path))


def _raise_file_limit() -> None:
    # A connection costs a file or two; the soft limit of most shells is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Supervisor:
    """Keeps the workers running until it is told to stop."""

    def __init__(self, snapshot: Snapshot, sockets: list[list[socket.socket]]) -> None:
        self._snapshot = snapshot
        self._sockets = sockets
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        # What all workers make the keys of TLS session tickets from. It is in no snapshot, and so in no log or answer.
        self._ticket_master = os.urandom(80)
        self._stopping = asyncio.Event()
        self._ready = 0

    async def run(self, config_path: Path) -> int:
        """Until SIGTERM, SIGINT or SIGQUIT, and the drain after it; the exit status."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(stop, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._tell_workers, signal.SIGUSR1)
        # Left alone it would end the gateway without a drain when a terminal closes.
        loop.add_signal_handler(signal.SIGHUP, report, "SIGHUP: the configuration is read at the start only; restart")
        async with asyncio.TaskGroup() as group:
            for number in range(self._snapshot.workers):
                group.create_task(self._keep_worker(number, config_path))
        return 0

    def _stop(self) -> None:
        """Lets what is in flight end; told once more, it waits no longer."""
        if self._stopping.is_set():
            report("told to stop once more: what is in flight is broken off")
            self._tell_workers(signal.SIGKILL)
            return
        self._stopping.set()
        # Now, and not at the end: by then the files may be another gateway's.
        unlink_unix_sockets(self._snapshot)
        self._tell_workers(signal.SIGTERM)

    def _tell_workers(self, number: int) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    async def _keep_worker(self, number: int, config_path: Path) -> None:
        """Starts a worker, and another when it dies, until the supervisor stops."""
        back_off_s = _BACK_OFF_S
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._run_worker(number, config_path)
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _SHORT_LIFE_S:
                back_off_s = _BACK_OFF_S
            report(f"worker {number} ended with status {status}; another is started")
            if time.monotonic() - started < _SHORT_LIFE_S:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(back_off_s):
                        await self._stopping.wait()
                back_off_s = min(back_off_s * 2, _BACK_OFF_MAX_S)

    async def _run_worker(self, number: int, config_path: Path) -> int:
        ours, theirs = socket.socketpair()
        numbers = [sock.fileno() for sock in self._sockets[number]]
        # Starting one takes a millisecond, and the supervisor carries no traffic.
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "fastgw.runtime.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), *numbers],
            stdin=subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the supervisor, which tells the workers.
            start_new_session=True,
        )
        self._processes[number] = process
        theirs.close()
        try:
            with ours:
                return await self._watch(process, ours, config_path, (self._snapshot, numbers, self._ticket_master))
        finally:
            del self._processes[number]

    async def _watch(
        self, process: subprocess.Popen[bytes], ours: socket.socket, config_path: Path, start: tuple[object, ...]
    ) -> int:
        """Hands a worker its start message, and waits for its end."""
        with contextlib.suppress(OSError, EOFError):
            await asyncio.to_thread(channel.send, ours, start)
            await asyncio.to_thread(channel.receive, ours)
            self._ready += 1
            if self._ready == self._snapshot.workers:
                where = ", ".join(f"{listener.name} on {listener.address}" for listener in self._snapshot.listeners)
                report(f"serving {config_path} ({where})")
        while process.poll() is None:
            if self._stopping.is_set():
                return await asyncio.to_thread(self._wait_for_end, process)
            await asyncio.sleep(0.05)
        return process.returncode

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> int:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(self._snapshot.drain_timeout + _KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
