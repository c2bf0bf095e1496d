"""What the admin API does with this gateway: `admin.Gate`, over the parts of its supervisor."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgw.config.load import load_text
from fastgw.config.routing_table import routing_table
from fastgw.config.secrets import shown
from fastgw.errors import ConfigError
from fastgw.runtime.aside import aside
from fastgw.runtime.explain import explain
from fastgw.runtime.exposition import exposed
from fastgw.runtime.metrics import Collector
from fastgw.runtime.reloads import tested

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from fastgw.runtime.events import Event, Events
    from fastgw.runtime.failures import Failures
    from fastgw.runtime.live_log import LiveLogs
    from fastgw.runtime.overview import Overview
    from fastgw.runtime.reloads import Reloads
    from fastgw.runtime.status import Status
    from fastgw.runtime.workers import Workers


class GatewayGate:
    """See `admin.Gate`."""

    def __init__(
        self,
        status: Status,
        overview: Overview,
        reloads: Reloads,
        workers: Workers,
        events: Events,
        directory: Path,
        failures: Failures,
        live_logs: LiveLogs,
    ) -> None:
        self._status = status
        self._overview = overview
        self._reloads = reloads
        self._workers = workers
        self._events = events
        self._directory = directory
        # One scrape after the other: they would only share a processor, with all else that the supervisor does.
        self._scraping = asyncio.Lock()
        self._changes: set[asyncio.Task[Event]] = set()
        self._failures = failures
        self._live_logs = live_logs

    def status(self) -> dict[str, Any]:
        return self._status.now()

    async def metrics(self, openmetrics: bool) -> bytes:
        async with self._scraping:
            collector = Collector(self._workers.rows.counted(), self._events, self._reloads.traces)
            workers, unhealthy = self._overview.workers(), self._workers.unhealthy
            certificates = self._reloads.loaded.certificates
            return await aside(lambda: exposed(collector.families(workers, unhealthy, certificates), openmetrics))

    async def routes(self) -> list[dict[str, Any]]:
        loaded = self._reloads.loaded
        return await aside(lambda: [dataclasses.asdict(row) for row in routing_table(loaded)])

    def upstreams(self) -> list[dict[str, Any]]:
        return self._overview.upstreams()

    def summary(self) -> dict[str, Any]:
        return self._overview.summary()

    def events(self) -> Events:
        return self._events

    def failures(self) -> Failures:
        return self._failures

    def live_logs(self) -> LiveLogs:
        return self._live_logs

    def config(self) -> dict[str, Any]:
        raw = self._reloads.loaded.document.raw
        return {key: shown(value, key) for key, value in raw.items()}

    async def check(self, text: str) -> list[dict[str, Any]]:
        loaded = self._reloads.loaded
        try:
            await aside(lambda: tested(load_text(text, loaded.file, self._directory)))
        except ConfigError as error:
            return [dataclasses.asdict(problem) for problem in error.problems]
        return []

    async def override(self, upstream: str, endpoint: str, draining: bool | None, weight: int | None) -> Event:
        return await self._to_its_end(self._reloads.override(upstream, endpoint, draining, weight))

    async def reload(self) -> Event:
        return await self._to_its_end(self._reloads.from_file())

    async def _to_its_end(self, change: Coroutine[None, None, Event]) -> Event:
        """A server that stops cancels the requests that it has, and half a change would be none."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    def explain(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
        loaded = self._reloads.loaded
        snapshot = self._reloads.as_it_is(loaded.snapshot)
        try:
            found = dataclasses.asdict(explain(snapshot, method, url, list(headers), self._overview.live(snapshot)))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        masked: dict[str, Any] = loaded.document.masked(found)
        return masked
