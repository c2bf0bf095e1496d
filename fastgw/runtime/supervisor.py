"""The supervisor: the cold process that owns the configuration and the listening sockets, and starts the workers.

It binds every socket itself and keeps it, so that a worker's death loses no connection that waits to be accepted.
Workers are fresh interpreters; they get the sockets and the snapshot over a control channel. A reload puts a new
snapshot into all workers, or into none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import resource
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from fastgw.config.load import load_config, load_text
from fastgw.config.self_tests import run_self_tests
from fastgw.errors import ConfigError
from fastgw.runtime.events import DONE, REFUSED, Events
from fastgw.runtime.explain import explain
from fastgw.runtime.file_watch import LOOK_S, FileWatch
from fastgw.runtime.report import report
from fastgw.runtime.sockets import CannotListen, SocketTable
from fastgw.runtime.workers import RefusedError, Workers

if TYPE_CHECKING:
    from fastgw.config.load import LoadedConfig
    from fastgw.snapshot import Snapshot


def run(config_path: Path, loaded: LoadedConfig) -> int:
    """Serves until it is told to stop; the exit status. 1: a socket can't be had."""
    _raise_file_limit()
    table = SocketTable(loaded.snapshot.workers)
    try:
        table.add(loaded.snapshot.listeners)
    except CannotListen as error:
        report(str(error))
        return 1
    for warning in loaded.warnings:
        report(warning)
    return asyncio.run(_run(config_path, loaded, table))


async def _run(config_path: Path, loaded: LoadedConfig, table: SocketTable) -> int:
    return await Supervisor(config_path, loaded, table).run()


def _raise_file_limit() -> None:
    # A connection costs a file or two; the soft limit of most shells is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Supervisor:
    """Keeps the gateway running until it is told to stop."""

    def __init__(self, config_path: Path, loaded: LoadedConfig, table: SocketTable) -> None:
        self._config_path = config_path
        self._loaded = loaded
        self._table = table
        self._events = Events()
        self._workers = Workers(loaded.snapshot, table, self._events, os.urandom(80))
        self._is_stopping = False
        # One reload after the other.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGQUIT, and the drain after it; the exit status."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(stop, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._workers.signal, signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        self._begin(self._announce())
        self._begin(self._watch_files())
        await self._workers.run()
        for task in tuple(self._tasks):
            task.cancel()
        return 0

    async def _announce(self) -> None:
        await self._workers.ready()
        listeners = self._workers.snapshot.listeners
        where = ", ".join(f"{listener.name} on {self._table.bound(listener.address)}" for listener in listeners)
        report(f"serving {self._config_path} ({where})")

    def _stop(self) -> None:
        """Lets what is in flight end; told once more, it waits no longer."""
        if self._is_stopping:
            report("told to stop once more: what is in flight is broken off")
            self._workers.kill()
            return
        self._is_stopping = True
        # Now, and not at the end: by then the files may be another gateway's.
        self._table.unlink()
        self._workers.stop()

    # Reload.

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin_reload(self) -> None:
        self._begin(self._reload(lambda: load_config(self._config_path), f"{self._config_path} is in force"))

    async def _reload(self, load: Callable[[], LoadedConfig], done: str) -> None:
        async with self._turn:
            if self._is_stopping:
                return
            try:
                loaded = await asyncio.to_thread(_tested, load)
                more = await self._adopt(loaded.snapshot)
            except (ConfigError, CannotListen, RefusedError) as error:
                self._events.add("reload", REFUSED, f"{error}\nthe configuration from before goes on")
                return
            self._loaded = loaded
            for warning in loaded.warnings:
                report(warning)
            self._events.add("reload", DONE, done + more)

    async def _watch_files(self) -> None:
        """Reloads what has changed: the files of TLS, and the configuration's if it says so."""
        paths = self._loaded.tls_paths
        tls, config = FileWatch(paths), FileWatch([self._config_path])
        while True:
            await asyncio.sleep(LOOK_S)
            if self._loaded.tls_paths != paths:
                paths = self._loaded.tls_paths
                tls = FileWatch(paths)
            if config.look() and self._loaded.snapshot.watch:
                self._begin_reload()
            elif tls.look():
                self._begin(self._reload(self._load_again, "the files of TLS are read again"))

    def _load_again(self) -> LoadedConfig:
        """The configuration as it was read, with the files that it names as they are now."""
        return load_text(self._loaded.document.text, self._loaded.file, self._config_path.parent)

    async def _adopt(self, snapshot: Snapshot) -> str:
        """Puts it in force; says what to know about it. Raises CannotListen and RefusedError, and changes nothing."""
        await self._workers.ready()
        pickled = await asyncio.to_thread(pickle.dumps, snapshot, pickle.HIGHEST_PROTOCOL)
        before = self._workers.snapshot
        added = self._table.add(snapshot.listeners)
        try:
            await self._workers.adopt(snapshot, pickled, added)
        except RefusedError:
            self._table.remove(added)
            raise
        kept = {listener.address for listener in snapshot.listeners}
        self._table.remove(listener.address for listener in before.listeners if listener.address not in kept)
        return _needs_restart(before, snapshot)


def _tested(load: Callable[[], LoadedConfig]) -> LoadedConfig:
    """Raises ConfigError, also when one of the `[[tests]]` fails."""
    loaded = load()
    if problems := run_self_tests(loaded, explain):
        raise ConfigError(problems)
    return loaded


def _needs_restart(before: Snapshot, after: Snapshot) -> str:
    """What a reload can't change."""
    changed = [name for name in ("workers", "pin_workers") if getattr(before, name) != getattr(after, name)]
    return f"; a restart is needed for server.{' and server.'.join(changed)}" if changed else ""
