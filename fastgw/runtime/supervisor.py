"""The supervisor: the cold process that owns the configuration and the listening sockets, and starts the workers.

It binds every socket itself and keeps it, so that a worker's death loses no connection that waits to be accepted.
Workers are fresh interpreters; they get the sockets and the snapshot over a control channel. An upgrade hands the
sockets over to another supervisor with its own workers, or changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fastgw import __version__
from fastgw.errors import ConfigError
from fastgw.policy.ticket_secret import SECRET_SIZE, TicketSecret
from fastgw.runtime import control, handover, systemd
from fastgw.runtime.admin_server import AdminServer
from fastgw.runtime.events import DONE, REFUSED, Event, Events
from fastgw.runtime.failures import Failures
from fastgw.runtime.live_log import LiveLogs
from fastgw.runtime.news import News
from fastgw.runtime.overview import Overview
from fastgw.runtime.process import ignore_signals, let_signals_in, raise_file_limit
from fastgw.runtime.reloads import Over, Reloads, tested
from fastgw.runtime.report import report, report_bug
from fastgw.runtime.sockets import CannotListen, SocketTable
from fastgw.runtime.status import Status
from fastgw.runtime.workers import RefusedError, Workers

if TYPE_CHECKING:
    from fastgw.config.admin import AdminSettings
    from fastgw.config.load import LoadedConfig
    from fastgw.snapshot import Address

# What a gateway is.
COMING_UP = 0  # not the gateway yet, or with workers that still start
SERVING = 1
REPLACED = 2  # another process is the gateway; what is in flight here ends
STOPPING = 3


def run(config_path: Path, loaded: LoadedConfig, keeps_others: bool = False) -> int:
    """Serves until it is told to stop; the exit status. 1: a socket can't be had, or a gateway can't be replaced.
    `keeps_others`: more than the gateway runs in this process, so that it can't be replaced."""
    raise_file_limit()
    manager = systemd.Notifier(os.environ)
    try:
        lent = systemd.lent_sockets(os.environ)
        predecessor = handover.predecessor(os.environ)
    except (CannotListen, handover.UpgradeError) as error:
        report(str(error))
        return 1
    table = SocketTable(loaded.snapshot.workers, predecessor.estate.inherited if predecessor else lent)
    try:
        if predecessor:
            tested(loaded)
        table.add(loaded.snapshot.listeners)
    except (CannotListen, ConfigError) as error:
        if predecessor:
            predecessor.refuse(str(error))
        else:
            report(str(error))
        return 1
    for warning in (*loaded.warnings, *_doubts(table)):
        report(warning)
    return asyncio.run(_run(config_path, loaded, table, manager, predecessor, keeps_others))


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
    keeps_others: bool,
) -> int:
    return await Supervisor(config_path, loaded, table, manager, predecessor, keeps_others).run()


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
        keeps_others: bool,
    ) -> None:
        self._config_path = config_path
        self._table = table
        self._manager = manager
        self._predecessor = predecessor
        self._keeps_others = keeps_others
        self._is_successor = predecessor is not None
        estate = predecessor.estate if predecessor else None
        # In no snapshot, and so in no log or answer.
        new_secret = TicketSecret.begun(os.urandom(SECRET_SIZE), time.time())  # noqa: TID251
        ticket_secret = estate.ticket_secret if estate else new_secret
        self._control_socket = estate.control if estate else None
        self._control: control.ControlServer | None = None
        self._events = Events()
        self._workers = Workers(loaded.snapshot, table, self._events, ticket_secret)
        self._admin = AdminServer(self._admin_app, self._events.hang_up)
        self._reloads = Reloads(config_path, loaded, table, self._workers, self._events, manager, self._admin)
        if estate is not None:
            unhealthy = {name: frozenset(names) for name, names in estate.unhealthy.items()}
            self._reloads.inherit(estate.found, unhealthy, estate.draining)
        self._overview = Overview(self._reloads, self._workers)
        self._failures, self._live_logs = Failures(), LiveLogs(self._workers.tell_live_log)
        self._news = News(self._workers.news, self._events, self._failures, self._live_logs)
        self._status = Status(config_path, self._workers, table, self._events)
        self._state = COMING_UP
        self._exit_status = 0
        # While it comes up, and from when it has taken our place.
        self._successor: handover.Successor | None = None
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGQUIT, and the drain after it; the exit status."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(stop, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._workers.signal, signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload_or_pass_on()))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._begin(self._upgrade_or_pass_on()))
        let_signals_in()
        self._news.begin()
        await self._reloads.begin()
        if self._state == COMING_UP:
            self._begin(self._come_up())
        await self._workers.run()
        await self._reloads.traces.stop()
        self._workers.traces.close()
        self._news.close()
        if self._control is not None:
            await self._control.answered()
        for task in tuple(self._tasks):
            task.cancel()
        await self._reloads.discoverer.stop()
        await self._admin.stop()
        ignore_signals(loop)
        return self._exit_status

    def _begin(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Over):
            report_bug(error)

    # From the start to a gateway that serves.

    async def _come_up(self) -> None:
        if self._predecessor is not None and not await self._take_over(self._predecessor):
            return
        if not await self._open_admin():
            return
        self._begin(self._feed_watchdog())
        self._begin(self._reloads.watch())
        self._begin(self._reloads.acme.run())
        self._begin(self._reloads.traces.run())
        self._begin(self._reloads.checker.run())
        self._begin(self._live_logs.run())
        self._control_socket = self._control_socket or _control_socket(self._config_path)
        if self._control_socket is not None:
            self._control = control.ControlServer(self._control_socket, self._obey)
            await self._control.start()
        await self._workers.ready()
        if self._state != COMING_UP:
            return
        self._state = SERVING
        self._manager.ready(f"serving {self._config_path}")
        listeners = self._workers.snapshot.listeners
        where = ", ".join(f"{listener.name} on {self._table.bound(listener.address)}" for listener in listeners)
        report(f"serving {self._config_path} ({where})")

    def _admin_app(self, settings: AdminSettings) -> object:
        # Only who has an admin API has what it needs.
        from fastgw.runtime import admin, admin_gate  # noqa: PLC0415

        directory = self._config_path.parent
        gate = admin_gate.GatewayGate(
            *(self._status, self._overview, self._reloads, self._workers, self._events, directory),
            *(self._failures, self._live_logs),
        )
        return admin.make_app(gate, settings)

    async def _open_admin(self) -> bool:
        """Whether the gateway goes on."""
        settings = self._reloads.loaded.admin
        try:
            prepare = self._admin.prepare_after if self._is_successor else self._admin.prepare
            sock = await prepare(settings)
        except CannotListen as error:
            report(str(error))
            if self._is_successor:
                # Traffic comes first.
                return True
            self._exit_status = 1
            self._stop()
            return False
        await self._admin.adopt(settings, sock)
        return True

    async def _take_over(self, predecessor: handover.Predecessor) -> bool:
        """Whether we are the gateway now."""
        addresses = [listener.address for listener in self._workers.snapshot.listeners]
        try:
            await self._workers.come_up()
        except RefusedError as error:
            predecessor.refuse(str(error))
            self._exit_status = 1
            if self._state == COMING_UP:
                self._stop()
            return False
        self._events.go_on_from(await predecessor.replace(addresses))
        self._predecessor = None
        self._table.drop_spare()
        return self._state == COMING_UP

    async def _feed_watchdog(self) -> None:
        while self._manager.watchdog_s:
            self._manager.alive()
            # Twice as often as it must be, as sd_watchdog_enabled(3) advises.
            await asyncio.sleep(self._manager.watchdog_s / 2)

    # Commands.

    async def _obey(self, command: str) -> control.Answer:
        if command == "status":
            return self._status.now()
        if command == "summary":
            return {**self._status.now(), **self._overview.summary()}
        word, *words = command.split(" ")
        commands: dict[str, Callable[..., Awaitable[Event]]] = {
            "reload": self._reloads.from_file,
            "upgrade": self._upgrade,
            "endpoint": self._override,
        }
        if word not in commands:
            return {"outcome": REFUSED, "detail": f"fastgw {__version__} runs here and knows no {word}"}
        try:
            event = await commands[word](*words)
        except Over:
            return control.MOVED if self._state == REPLACED else {"outcome": REFUSED, "detail": "the gateway stops"}
        return {"outcome": event.outcome, "number": event.number, "detail": event.detail}

    async def _override(self, upstream: str, endpoint: str, *changes: str) -> Event:
        """The names are percent-encoded, so that they hold no space. `changes` are one or both of "drain" or "undrain",
        and a weight."""
        draining = {"drain": True, "undrain": False}
        drains = next((draining[change] for change in changes if change in draining), None)
        weight = next((int(change) for change in changes if change.isdigit()), None)
        return await self._reloads.override(unquote(upstream), unquote(endpoint), drains, weight)

    async def _reload_or_pass_on(self) -> None:
        try:
            await self._reloads.from_file()
        except Over:
            self._pass_on(signal.SIGHUP)

    async def _upgrade_or_pass_on(self) -> None:
        try:
            await self._upgrade()
        except Over:
            self._pass_on(signal.SIGUSR2)

    def _pass_on(self, number: int) -> None:
        """A signal that was meant for whoever is the gateway."""
        if self._state == REPLACED and self._successor is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._successor.pid, number)

    # Stop.

    def _stop(self) -> None:
        """Lets what is in flight end; told once more, it waits no longer."""
        if self._state == STOPPING:
            report("told to stop once more: what is in flight is broken off")
            self._workers.kill()
            return
        if self._state == REPLACED:
            self._state = STOPPING
            report("another process is the gateway now; this one ends when what is in flight has ended")
            return
        self._state = STOPPING
        if self._successor is not None:
            self._successor.kill()
        if self._predecessor is None:
            self._manager.stopping()
            self._leave(frozenset())
        else:
            # It goes on, and listens on.
            self._predecessor.withdraw()
            self._leave(self._table.inherited)

    def _leave(self, kept: frozenset[Address]) -> None:
        """Somebody else listens on at the addresses `kept`."""
        self._reloads.is_over = True
        self._workers.stop(kept)
        self._reloads.acme.stop()
        self._admin.let_go()
        if self._control is not None:
            self._control.close()
        # Now, and not at the end: by then the files may be another gateway's.
        self._table.unlink(kept)

    # Upgrade.

    async def _upgrade(self) -> Event:
        """Raises Over."""
        async with self._reloads.turn, self._reloads.step:
            if self._reloads.is_over:
                raise Over
            try:
                self._may_be_replaced()
                event, kept = await self._replacement()
            except handover.UpgradeError as error:
                self._successor = None
                goes_on = "" if self._reloads.is_over else "\nthis gateway goes on"
                return self._events.add("upgrade", REFUSED, f"{error}{goes_on}")
            self._state = REPLACED
            self._leave(kept)
            return self._events.tell(event)

    def _may_be_replaced(self) -> None:
        """Raises UpgradeError."""
        if self._keeps_others:
            raise handover.UpgradeError("more than the gateway runs in this process; stop it, and start it again")
        if self._state != SERVING:
            raise handover.UpgradeError("the workers of this one don't all serve yet")
        if handover.ends_a_container(has_other_parent=self._is_successor or self._manager.is_there):
            raise handover.UpgradeError("the container ends with this process: start another container")

    async def _replacement(self) -> tuple[Event, frozenset[Address]]:
        """What has happened: another process has taken our place, and these addresses. Raises UpgradeError."""
        estate = handover.Estate(
            self._table.for_successor(),
            self._workers.ticket_secret(),
            self._reloads.checker.unhealthy(),
            {str(discovery): endpoints for discovery, endpoints in self._reloads.discoverer.found().items()},
            [key for key, override in self._workers.overrides.items() if override.draining],
            self._control_socket,
        )
        successor = self._successor = handover.Successor(self._manager.for_successor(os.environ))
        try:
            kept = await successor.come_up(estate)
        except handover.UpgradeError:
            if self._reloads.is_over:
                raise handover.UpgradeError("the gateway stops") from None
            raise
        event = self._events.next("upgrade", DONE, f"process {successor.pid} has taken the place of {os.getpid()}")
        # Before it is told, so that what it says then is heard.
        self._manager.replaced_by(successor.pid)
        try:
            await successor.go([*self._events.last, event])
        except handover.UpgradeError:
            self._manager.replaced_by(os.getpid())
            raise
        return event, kept


def _control_socket(config_path: Path) -> socket.socket | None:
    try:
        return control.bind(config_path)
    except OSError:
        report(f"another gateway runs with {config_path}: fastgw reload, upgrade and status don't reach this one")
        return None
