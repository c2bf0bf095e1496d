"""The supervisor: the cold process that owns the configuration and the listening sockets, and starts the workers.

It binds every socket itself and keeps it, so that a worker's death loses no connection that waits to be accepted.
Workers are fresh interpreters; they get the sockets and the snapshot over a control channel. A reload puts a new
snapshot into all workers, or into none. An upgrade hands the sockets over to another supervisor with its own workers,
or changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from fastgw import __version__
from fastgw.config.load import load_config, load_text
from fastgw.config.self_tests import run_self_tests
from fastgw.errors import ConfigError
from fastgw.runtime import control, handover, systemd
from fastgw.runtime.acme import AcmeKeeper
from fastgw.runtime.events import DONE, REFUSED, Event, Events
from fastgw.runtime.explain import explain
from fastgw.runtime.file_watch import LOOK_S, FileWatch
from fastgw.runtime.report import report
from fastgw.runtime.sockets import CannotListen, SocketTable
from fastgw.runtime.status import Status
from fastgw.runtime.workers import RefusedError, Workers

if TYPE_CHECKING:
    from fastgw.config.load import LoadedConfig
    from fastgw.snapshot import Address, Snapshot


def run(config_path: Path, loaded: LoadedConfig) -> int:
    """Serves until it is told to stop; the exit status. 1: a socket can't be had, or a gateway can't be replaced."""
    _raise_file_limit()
    manager = systemd.Notifier(os.environ)
    lent = systemd.lent_sockets(os.environ)
    try:
        predecessor = handover.predecessor(os.environ)
    except handover.UpgradeError as error:
        report(str(error))
        return 1
    table = SocketTable(loaded.snapshot.workers, predecessor.estate.inherited if predecessor else lent)
    try:
        table.add(loaded.snapshot.listeners)
    except CannotListen as error:
        if predecessor:
            predecessor.refuse(str(error))
        else:
            report(str(error))
        return 1
    for warning in (*loaded.warnings, *_doubts(table)):
        report(warning)
    return asyncio.run(_run(config_path, loaded, table, manager, predecessor))


def _doubts(table: SocketTable) -> list[str]:
    """What is odd about sockets from the service manager."""
    unused = [
        f'the socket {address} that this was started with is no listener\'s; a listener says: address = "{address}"'
        for address in table.spare()
        if address in table.lent
    ]
    both = [
        f"the socket {address} takes IPv4 clients too, who are logged like ::ffff:192.0.2.1; "
        "a unit says: BindIPv6Only=ipv6-only"
        for address in table.dual_stack()
    ]
    return unused + both


async def _run(
    config_path: Path,
    loaded: LoadedConfig,
    table: SocketTable,
    manager: systemd.Notifier,
    predecessor: handover.Predecessor | None,
) -> int:
    return await Supervisor(config_path, loaded, table, manager, predecessor).run()


def _raise_file_limit() -> None:
    # A connection costs a file or two; the soft limit of most shells is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Supervisor:
    """Keeps the gateway running until it is told to stop. `manager` is told how it is; `predecessor` is the gateway
    whose place it takes, if it takes one's."""

    def __init__(
        self,
        config_path: Path,
        loaded: LoadedConfig,
        table: SocketTable,
        manager: systemd.Notifier,
        predecessor: handover.Predecessor | None,
    ) -> None:
        self._config_path = config_path
        self._loaded = loaded
        self._table = table
        self._manager = manager
        self._predecessor = predecessor
        self._successor: handover.Successor | None = None
        estate = predecessor.estate if predecessor else None
        # In no snapshot, and so in no log or answer.
        self._ticket_master = estate.ticket_master if estate else os.urandom(80)
        self._events = Events(estate.events if estate else 0)
        self._control_socket = estate.control if estate else _control_socket(config_path)
        self._control: control.ControlServer | None = None
        self._workers = Workers(loaded.snapshot, table, self._events, self._ticket_master)
        self._acme = AcmeKeeper(self._events, self._adopt_again)
        self._status = Status(config_path, self._workers, table, self._events)
        self._is_stopping = False
        self._exit_status = 0
        # One reload or upgrade after the other.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGQUIT, and the drain after it; the exit status."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(stop, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._workers.signal, signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload_config()))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._begin(self._upgrade()))
        self._begin(self._come_up())
        self._begin(self._watch_files())
        self._begin(self._acme.run())
        self._begin(self._feed_watchdog())
        await self._workers.run()
        if self._control is not None:
            await self._control.answered()
        for task in tuple(self._tasks):
            task.cancel()
        return self._exit_status

    def _begin(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report("a bug: " + "".join(traceback.format_exception(error)))

    async def _come_up(self) -> None:
        async with self._turn:
            if self._predecessor is not None and not await self._take_over(self._predecessor):
                return
            await self._workers.ready()
            if self._control_socket is not None:
                self._control = control.ControlServer(self._control_socket, self._obey)
                await self._control.start()
            listeners = self._workers.snapshot.listeners
            where = ", ".join(f"{listener.name} on {self._table.bound(listener.address)}" for listener in listeners)
            report(f"serving {self._config_path} ({where})")
            self._manager.ready(f"serving {self._config_path}")

    async def _take_over(self, predecessor: handover.Predecessor) -> bool:
        """Whether we are the gateway now."""
        addresses = [listener.address for listener in self._workers.snapshot.listeners]
        try:
            await self._workers.come_up()
        except RefusedError as error:
            predecessor.refuse(str(error))
            self._exit_status = 1
            self._stop()
            return False
        await asyncio.to_thread(predecessor.replace, addresses)
        self._predecessor = None
        self._table.drop_spare()
        return True

    async def _feed_watchdog(self) -> None:
        while self._manager.watchdog_s:
            self._manager.alive()
            # Twice as often as it must be, as sd_watchdog_enabled(3) advises.
            await asyncio.sleep(self._manager.watchdog_s / 2)

    async def _obey(self, command: str) -> control.Answer:
        if command == "status":
            return self._status.now()
        commands = {"reload": self._reload_config, "upgrade": self._upgrade}
        if command not in commands:
            return {"outcome": REFUSED, "detail": f"fastgw {__version__} runs here and knows no {command}"}
        event = await commands[command]()
        return {"outcome": event.outcome, "number": event.number, "detail": event.detail}

    # Stop.

    def _stop(self) -> None:
        """Lets what is in flight end; told once more, it waits no longer."""
        if self._is_stopping:
            report("told to stop once more: what is in flight is broken off")
            self._workers.kill()
            return
        if self._successor is not None:
            self._successor.kill()
        self._manager.stopping()
        # Where the gateway that we were to replace goes on, it listens on.
        self._leave(frozenset() if self._predecessor is None else self._table.addresses())

    def _leave(self, kept: frozenset[Address]) -> None:
        """Somebody else listens on at the addresses `kept`."""
        self._is_stopping = True
        self._acme.stop()
        if self._control is not None:
            self._control.close()
        # Now, and not at the end: by then the files may be another gateway's.
        self._table.unlink(kept)
        self._workers.stop(kept)

    # Reload.

    async def _reload_config(self) -> Event:
        return await self._reload(lambda: load_config(self._config_path), f"{self._config_path} is in force")

    async def _reload(self, load: Callable[[], LoadedConfig], done: str) -> Event:
        async with self._turn:
            if self._is_stopping:
                return self._events.add("reload", REFUSED, "the gateway stops")
            self._manager.reloading()
            try:
                loaded = await asyncio.to_thread(_tested, load)
                more = await self._adopt(loaded.snapshot)
            except (ConfigError, CannotListen, RefusedError) as error:
                return self._events.add("reload", REFUSED, f"{error}\nthe configuration from before goes on")
            finally:
                self._manager.ready(f"serving {self._config_path}")
            self._loaded = loaded
            for warning in loaded.warnings:
                report(warning)
            return self._events.add("reload", DONE, done + more)

    async def _watch_files(self) -> None:
        """Reloads what has changed: the files of TLS, and the configuration's if it says so."""
        paths = self._loaded.tls_paths
        tls, config = FileWatch(paths), FileWatch([self._config_path])
        while True:
            await asyncio.sleep(LOOK_S)
            if self._loaded.tls_paths != paths:
                paths = self._loaded.tls_paths
                tls = FileWatch(paths)
            # What is written from now on is noticed.
            self._acme.adopt(self._loaded.acme)
            if config.look() and self._loaded.snapshot.watch:
                await self._reload_config()
            elif tls.look():
                await self._reload(self._load_again, "the files of TLS are read again")

    def _load_again(self) -> LoadedConfig:
        """The configuration as it was read, with the files that it names as they are now."""
        return load_text(self._loaded.document.text, self._loaded.file, self._config_path.parent)

    async def _adopt_again(self) -> None:
        """Puts the configuration in force as it is, with the challenges of now. Raises as `_adopt` does."""
        async with self._turn:
            if not self._is_stopping:
                await self._adopt(self._loaded.snapshot)

    async def _adopt(self, snapshot: Snapshot) -> str:
        """Puts it in force; says what to know about it. Raises CannotListen and RefusedError, and changes nothing."""
        snapshot = await asyncio.to_thread(self._acme.with_challenges, snapshot)
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
        return _needs_upgrade(before, snapshot)

    # Upgrade.

    async def _upgrade(self) -> Event:
        async with self._turn:
            try:
                pid, kept = await self._replacement()
            except (handover.UpgradeError, OSError) as error:
                return self._events.add("upgrade", REFUSED, f"{error}\nthis gateway goes on")
            event = self._events.add("upgrade", DONE, f"process {pid} is the gateway now, and this one ends")
            self._leave(kept)
            return event

    async def _replacement(self) -> tuple[int, frozenset[Address]]:
        """The process that has taken our place, and the addresses that it has taken. Raises UpgradeError, OSError."""
        if self._is_stopping:
            raise handover.UpgradeError("the gateway stops")
        if os.getpid() == 1:
            raise handover.UpgradeError("a container ends with its process 1, which this is: start another container")
        await self._workers.ready()
        # This upgrade is an event, too.
        events = self._events.count + 1
        estate = handover.Estate(self._table.for_successor(), self._ticket_master, events, self._control_socket)
        successor = self._successor = handover.Successor(self._manager.for_successor(os.environ))
        try:
            kept = await successor.come_up(estate)
            # Before it is told, so that what it says then is heard.
            self._manager.replaced_by(successor.pid)
            try:
                await successor.go()
            except OSError:
                self._manager.replaced_by(os.getpid())
                raise
        finally:
            self._successor = None
        return successor.pid, kept


def _control_socket(config_path: Path) -> socket.socket | None:
    try:
        return control.bind(config_path)
    except OSError:
        report(f"another gateway runs with {config_path}: fastgw reload, upgrade and status speak with that one")
        return None


def _tested(load: Callable[[], LoadedConfig]) -> LoadedConfig:
    """Raises ConfigError, also when one of the `[[tests]]` fails."""
    loaded = load()
    if problems := run_self_tests(loaded, explain):
        raise ConfigError(problems)
    return loaded


def _needs_upgrade(before: Snapshot, after: Snapshot) -> str:
    """What a reload can't change."""
    changed = [name for name in ("workers", "pin_workers") if getattr(before, name) != getattr(after, name)]
    if not changed:
        return ""
    return f"; server.{' and server.'.join(changed)} changed, which takes a restart or: fastgw upgrade"
