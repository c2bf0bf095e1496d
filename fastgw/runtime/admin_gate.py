"""What the admin API does with this gateway: `admin.Gate`, over the parts of its supervisor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgw import counters
from fastgw.config.load import load_text
from fastgw.config.routing_table import routing_table
from fastgw.config.table_diff import shown
from fastgw.counters import BUCKETS, ENDPOINT, HISTOGRAM, UPSTREAM
from fastgw.errors import ConfigError
from fastgw.policy.breaker import OPEN, STATES
from fastgw.runtime.aside import aside
from fastgw.runtime.dry_run import LiveUpstream
from fastgw.runtime.explain import explain
from fastgw.runtime.metrics import STATUS_CLASSES, Collector, WorkerFacts
from fastgw.runtime.reloads import tested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgw.runtime.events import Event, Events
    from fastgw.runtime.exposition import Family
    from fastgw.runtime.reloads import Reloads
    from fastgw.runtime.status import Status
    from fastgw.runtime.workers import Workers
    from fastgw.snapshot import Endpoint, Snapshot, Upstream


class GatewayGate:
    """See `admin.Gate`."""

    def __init__(self, status: Status, reloads: Reloads, workers: Workers, events: Events, directory: Path) -> None:
        self._status = status
        self._reloads = reloads
        self._workers = workers
        self._collector = Collector(workers.rows, events)
        self._directory = directory

    def status(self) -> dict[str, Any]:
        return self._status.now()

    def families(self) -> list[Family]:
        workers = [
            WorkerFacts(number, pid, self._workers.column(number))
            for number, pid in sorted(self._workers.pids().items())
        ]
        return self._collector.families(workers, self._workers.unhealthy, self._reloads.loaded.certificates)

    def routes(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(row) for row in routing_table(self._reloads.loaded)]

    def upstreams(self) -> list[dict[str, Any]]:
        snapshot = self._reloads.as_it_is(self._workers.snapshot)
        return [self._upstream(upstream) for upstream in snapshot.upstreams.values()]

    def _upstream(self, upstream: Upstream) -> dict[str, Any]:
        known = self._rows((UPSTREAM, "", upstream.name))
        return {
            "name": upstream.name,
            "balance": upstream.balance,
            "found_by": str(upstream.discover) if upstream.discover is not None else None,
            "queued": sum(row[counters.QUEUED] for row in known),
            # As each worker sees it.
            "breaker": [STATES[row[counters.BREAKER]] for row in known] if upstream.breaker else None,
            "endpoints": [self._endpoint(upstream, endpoint) for endpoint in upstream.endpoints],
        }

    def _endpoint(self, upstream: Upstream, endpoint: Endpoint) -> dict[str, Any]:
        rows = self._rows((ENDPOINT, upstream.name, endpoint.name))
        row = [sum(cells) for cells in zip(*rows, strict=True)] or [0] * counters.SIZES[ENDPOINT]
        head = row[counters.HEAD : counters.HEAD + HISTOGRAM]
        answers = sum(head[:BUCKETS])
        failures = row[counters.FAILURES : counters.FAILURES + len(counters.FAILURE_KINDS)]
        checks_fail = endpoint.name in self._workers.unhealthy.get(upstream.name, ())
        return {
            "name": endpoint.name,
            "weight": endpoint.weight,
            "backup": endpoint.backup,
            "draining": endpoint.draining,
            # None: nobody checks.
            "healthy": None if upstream.health is None else not checks_fail,
            "ejected_by_workers": row[counters.EJECTED],
            "active": row[counters.ACTIVE],
            "idle_connections": row[counters.IDLE],
            "requests": dict(zip(STATUS_CLASSES, row[counters.ENDPOINT_ANSWERS :], strict=False)),
            "failures": dict(zip(counters.FAILURE_KINDS, failures, strict=True)),
            "ejections": row[counters.EJECTIONS],
            "mean_head_ms": head[BUCKETS] / answers / 1000 if answers else None,
        }

    def _rows(self, key: tuple[str, str, str]) -> list[list[int]]:
        """Of each worker; none where nothing is counted."""
        layout = self._workers.rows
        return layout.of_each_worker(key) if key in layout.layout.places else []

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
        return await self._reloads.override(upstream, endpoint, draining, weight)

    async def reload(self) -> Event:
        return await self._reloads.from_file()

    def explain(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
        loaded = self._reloads.loaded
        snapshot = self._reloads.as_it_is(loaded.snapshot)
        try:
            found = dataclasses.asdict(explain(snapshot, method, url, list(headers), self._live(snapshot)))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        masked: dict[str, Any] = loaded.document.masked(found)
        return masked

    def _live(self, snapshot: Snapshot) -> dict[str, LiveUpstream]:
        """What holds in every worker: of what only some have seen, others know nothing."""
        return {upstream.name: self._live_upstream(upstream) for upstream in snapshot.upstreams.values()}

    def _live_upstream(self, upstream: Upstream) -> LiveUpstream:
        def is_ejected(endpoint: Endpoint) -> bool:
            rows = self._rows((ENDPOINT, upstream.name, endpoint.name))
            return bool(rows) and all(row[counters.EJECTED] for row in rows)

        known = self._rows((UPSTREAM, "", upstream.name))
        is_open = bool(known) and all(row[counters.BREAKER] == OPEN for row in known)
        return LiveUpstream(
            unhealthy=self._workers.unhealthy.get(upstream.name, frozenset()),
            draining=frozenset(endpoint.name for endpoint in upstream.endpoints if endpoint.draining),
            ejected=frozenset(endpoint.name for endpoint in upstream.endpoints if is_ejected(endpoint)),
            breaker_open_s=int(is_open),
        )
