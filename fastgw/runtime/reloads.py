"""Reloads: a new configuration in all workers or in none, when it is asked for or its files have changed."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgw.config.load import load_config, load_text
from fastgw.config.self_tests import run_self_tests
from fastgw.errors import ConfigError
from fastgw.runtime.acme import AcmeKeeper
from fastgw.runtime.admin_server import AdminServer
from fastgw.runtime.aside import aside
from fastgw.runtime.canary import Canary
from fastgw.runtime.discovery import Discoverer
from fastgw.runtime.events import DONE, REFUSED, Event, Events
from fastgw.runtime.explain import outcome
from fastgw.runtime.file_watch import LOOK_S, FileWatch
from fastgw.runtime.health_checks import Checker
from fastgw.runtime.overrides import Override, all_overridden, kept_by_reload
from fastgw.runtime.reload_scope import beyond_reload
from fastgw.runtime.report import report, report_bug
from fastgw.runtime.row_layout import keys_of
from fastgw.runtime.sockets import CannotListen, SocketTable
from fastgw.runtime.systemd import Notifier
from fastgw.runtime.traces import TraceKeeper
from fastgw.runtime.workers import RefusedError, Workers

if TYPE_CHECKING:
    import socket

    from fastgw.config.load import LoadedConfig
    from fastgw.runtime.messages import Found, Unhealthy
    from fastgw.snapshot import Address, Endpoint, Snapshot

# For how long workers that are still starting may keep a reload waiting.
_READY_S = 30.0


class Over(Exception):
    """The gateway stops, or another has taken its place."""


class Reloads:
    """`loaded` is the configuration in force. Once it `is_over`, nothing changes any more.

    Whoever changes the configuration or the process holds `turn` to the end. Whoever changes anything at all, an
    endpoint by hand for instance, holds `step`; that comes after `turn` for who needs both, and is held by nobody while
    a worker tries something: that may take minutes, in which an endpoint may have to be taken out.
    """

    def __init__(
        self,
        config_path: Path,
        loaded: LoadedConfig,
        table: SocketTable,
        workers: Workers,
        events: Events,
        manager: Notifier,
        admin: AdminServer,
    ) -> None:
        self.loaded = loaded
        self.turn = asyncio.Lock()
        self.step = asyncio.Lock()
        self.is_over = False
        self._config_path = config_path
        self._config_file = FileWatch([config_path])
        self._tls_files = FileWatch(loaded.tls_paths)
        self._table = table
        self._workers = workers
        self._events = events
        self._manager = manager
        self._admin = admin
        # What one worker tries at the moment.
        self._tried: tuple[Snapshot, ...] = ()
        self.acme = AcmeKeeper(events, self._adopt_again)
        self.traces = TraceKeeper(workers.traces.exporter, events)
        self.traces.adopt(loaded.tracing)
        self.checker = Checker(workers.tell_unhealthy, partial(events.pass_by, "health"))
        self.checker.adopt(loaded.snapshot)
        self.discoverer = Discoverer(self._tell_found)
        self._lay_rows()

    def _lay_rows(self) -> None:
        """Sees to it that there is place for the counters of all that there is now."""
        snapshots = (self._workers.snapshot, *self._tried)
        keys = [key for snapshot in snapshots for key in keys_of(self.as_it_is(snapshot))]
        self._workers.rows.adopt(dict.fromkeys(keys), time.monotonic())

    def as_it_is(self, snapshot: Snapshot) -> Snapshot:
        """With the endpoints that were found, and what is changed by hand about them."""
        return all_overridden(self.discoverer.filled(snapshot), self._workers.overrides)

    async def override(self, upstream: str, endpoint: str, draining: bool | None, weight: int | None) -> Event:
        """Lets an endpoint drain or not, or gives it a weight (0: its own); None leaves that as it is. The upstream may
        be empty where only one has such an endpoint. Raises Over."""
        async with self.step:
            if self.is_over:
                raise Over
            upstreams = self.as_it_is(self._workers.snapshot).upstreams.values()
            having = [one.name for one in upstreams if endpoint in [known.name for known in one.endpoints]]
            if upstream not in having and (upstream or len(having) != 1):
                return self._events.add("endpoint", REFUSED, _no_such_endpoint(upstream, endpoint, having))
            upstream = upstream or having[0]
            before = self._workers.overrides.get((upstream, endpoint), Override())
            after = Override(
                before.draining if draining is None else draining, before.weight if weight is None else weight
            )
            overrides = {**self._workers.overrides, (upstream, endpoint): after}
            if after == Override():
                del overrides[upstream, endpoint]
            await self._workers.tell_overrides(overrides)
            what = "drains" if after.draining else "takes requests"
            with_weight = f", with weight {after.weight}" if after.weight else ""
            return self._events.add("endpoint", DONE, f"{endpoint} of upstream {upstream} {what}{with_weight}")

    def inherit(
        self, found: Mapping[str, tuple[Endpoint, ...]], unhealthy: Unhealthy, draining: Iterable[tuple[str, str]]
    ) -> None:
        """What the gateway has found out whose place this one takes, and what was told it by hand."""
        self._workers.overrides = {key: Override(draining=True) for key in draining}
        self.discoverer.presume(self.loaded.snapshot, found)
        self.checker.adopt(self.discoverer.filled(self.loaded.snapshot))
        self.checker.presume(unhealthy)
        self._lay_rows()
        self._workers.found, self._workers.unhealthy = self.discoverer.found(), self.checker.unhealthy()

    async def begin(self) -> None:
        """Finds endpoints, before there is a worker that would need them."""
        await self.discoverer.expect(self.loaded.snapshot)

    async def _tell_found(self, changed: Found) -> None:
        """Other endpoints: the workers get them, and the checks."""
        await self._workers.tell_found(self.discoverer.found(), changed)
        self.checker.adopt(self.discoverer.filled(self._workers.snapshot))
        await self._workers.tell_unhealthy(self.checker.unhealthy())
        self._lay_rows()
        await self._workers.tell_layout()

    async def from_file(self) -> Event:
        """Reads the configuration's file. Raises Over."""

        def load() -> LoadedConfig:
            self._config_file.take_note()
            return load_config(self._config_path)

        return await self._reload(load, f"{self._config_path} is in force", is_tried=True)

    async def watch(self) -> None:
        """Reloads what has changed: the files of TLS, and the configuration's if it says so. Raises Over."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.loaded.tls_paths != self._tls_files.paths:
                self._tls_files = FileWatch(self.loaded.tls_paths)
            # What is written from now on is noticed.
            self.acme.adopt(self.loaded.acme)
            if self._config_file.look() and self.loaded.snapshot.watch:
                await self.from_file()
            elif self._tls_files.look():
                await self._reload(self._load_again, "the files of TLS are read again")

    def _load_again(self) -> LoadedConfig:
        """The configuration as it was read, with the files that it names as they are now."""
        return load_text(self.loaded.document.text, self.loaded.file, self._config_path.parent)

    async def _reload(self, load: Callable[[], LoadedConfig], done: str, is_tried: bool = False) -> Event:
        async with self.turn:
            if self.is_over:
                raise Over
            self._manager.reloading()
            overrides_before = self._workers.overrides
            # Every reload reads them.
            self._tls_files.take_note()
            admin_socket = None
            try:
                loaded = await aside(lambda: tested(load()))
                admin_socket = await self._admin.prepare(loaded.admin)
                more = await self._adopt(loaded.snapshot, is_tried)
            except (ConfigError, CannotListen, RefusedError) as error:
                if admin_socket is not None:
                    admin_socket.close()
                return self._events.add("reload", REFUSED, f"{error}\nthe configuration from before goes on")
            except Exception as error:
                report_bug(error)
                return self._events.add("reload", REFUSED, f"a bug in fastgw: {error!r}")
            finally:
                if not self.is_over:
                    self._manager.ready(f"serving {self._config_path}")
            self.loaded = loaded
            self.traces.adopt(loaded.tracing)
            async with self.step:
                left = kept_by_reload(self._workers.overrides, loaded.snapshot, overrides_before)
                await self._workers.tell_overrides(left)
            # Not waited for: it may be the admin API that has asked for the reload.
            self._adopting_admin = asyncio.create_task(self._adopt_admin(loaded, admin_socket))
            for warning in loaded.warnings:
                report(warning)
            return self._events.add("reload", DONE, done + more)

    async def _adopt_admin(self, loaded: LoadedConfig, sock: socket.socket | None) -> None:
        try:
            await self._admin.adopt(loaded.admin, sock)
        except Exception as error:
            report_bug(error)

    async def _adopt_again(self) -> None:
        """Puts the configuration in force as it is, with the challenges of now. Raises as `_adopt` does."""
        async with self.turn:
            await self._adopt(self.loaded.snapshot)

    async def _adopt(self, snapshot: Snapshot, is_tried: bool = False) -> str:
        """Puts it in force, after one worker has tried it where it says so; says what to know about it. Raises
        CannotListen and RefusedError, and changes nothing."""
        await self.discoverer.expect(snapshot)
        try:
            return await self._put_in_force(snapshot, is_tried)
        finally:
            # What has come of it: of one that was refused, nothing is looked for.
            self.discoverer.adopt(self._workers.snapshot)

    async def _put_in_force(self, snapshot: Snapshot, is_tried: bool) -> str:
        snapshot = await aside(lambda: self.acme.with_challenges(snapshot))
        pickled = await aside(lambda: pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL))
        try:
            async with asyncio.timeout(_READY_S):
                await self._workers.ready()
        except TimeoutError:
            raise RefusedError("its workers don't start; standard error says why") from None
        if self.is_over:
            raise RefusedError("the gateway stops")
        before = self._workers.snapshot
        more = await self._try(snapshot, pickled) if is_tried and snapshot.canary else ""
        async with self.step:
            added = self._table.add(snapshot.listeners)
            try:
                await self._workers.adopt(snapshot, pickled, added)
            except RefusedError:
                self._table.remove(added)
                raise
            self.checker.adopt(self.discoverer.filled(snapshot))
            await self._workers.tell_unhealthy(self.checker.unhealthy())
            self._lay_rows()
            await self._workers.tell_layout()
            kept = {listener.address for listener in snapshot.listeners}
            self._table.remove(listener.address for listener in before.listeners if listener.address not in kept)
        return more + _needs_upgrade(before, snapshot)

    async def _try(self, snapshot: Snapshot, pickled: bytes) -> str:
        """Has one worker try it; what to know about that. Raises RefusedError when it does worse than its siblings."""
        before, pids = self._workers.snapshot, self._workers.pids()
        if {listener.address for listener in before.listeners} != {one.address for one in snapshot.listeners}:
            return "; no worker has tried it first, since it has other listeners"
        if not before.counts_requests or not pids:
            return "; no worker has tried it first, since there is nothing to hold that against"
        number = min(pids)
        self._tried = (snapshot,)
        is_well = False
        try:
            async with self.step:
                self._lay_rows()
                await self._workers.tell_layout()
                changed, is_as_strict = _changed_routes(before, snapshot), _strictness(before) == _strictness(snapshot)
                canary = Canary(self._workers, number, changed, is_as_strict)
                await self._workers.adopt(snapshot, pickled, (), only=number)
            report(f"worker {number} tries {self._config_path} for {snapshot.canary:g} s")
            words = await canary.watch(snapshot.canary, lambda: self.is_over)
            is_well = not words and not self.is_over
        finally:
            self._tried = ()
            if not is_well:
                await self._take_back(number)
        if not is_well:
            raise RefusedError(f"worker {number} has tried it, and {words}" if words else "the gateway stops")
        return f"; worker {number} has tried it for {snapshot.canary:g} s"

    async def _take_back(self, number: int) -> None:
        async with self.step:
            # What was found for upstreams that the other configuration does not have, the worker has forgotten.
            found = self.discoverer.found()
            await self._workers.tell_found(found, found)
            await self._workers.take_back(number)
            self._lay_rows()
            await self._workers.tell_layout()


def _changed_routes(before: Snapshot, after: Snapshot) -> frozenset[str]:
    """The routes that are new, take other requests than before, or forward them now, or do no longer."""
    old, new = (
        {
            route.name: (rule, bool(route.upstreams))
            for route, rule in zip(snapshot.routes, snapshot.router.rules, strict=True)
        }
        for snapshot in (before, after)
    )
    return frozenset(name for name, what in new.items() if old.get(name) != what)


def _strictness(snapshot: Snapshot) -> dict[Address, tuple[str, bool, bool] | None]:
    """What listeners ask of their clients in a TLS handshake; None: no handshake."""
    return {
        listener.address: None if tls is None else (tls.min_version, bool(tls.client_ca), tls.requires_client_cert)
        for listener in snapshot.listeners
        for tls in [listener.tls]
    }


def _no_such_endpoint(upstream: str, endpoint: str, having: list[str]) -> str:
    if having and not upstream:
        return f"{endpoint} is an endpoint of {' and '.join(having)}: say of which"
    elsewhere = f"; {' and '.join(having)} has one" if having else ""
    return f"there is no endpoint {endpoint}{f' of an upstream {upstream}' if upstream else ''}{elsewhere}"


def tested(loaded: LoadedConfig) -> LoadedConfig:
    """Raises ConfigError when one of its `[[tests]]` fails."""
    if problems := run_self_tests(loaded, outcome):
        raise ConfigError(problems)
    return loaded


def _needs_upgrade(before: Snapshot, after: Snapshot) -> str:
    """What a reload can't change."""
    changed = beyond_reload(before, after)
    return f"; {' and '.join(changed)} changed, which takes a restart or: fastgw upgrade" if changed else ""
