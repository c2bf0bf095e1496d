"""How the gateway is just now: what the admin API, the terminal and explanations show of its workers' counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastgw import __version__, counters
from fastgw.counters import BUCKETS, ENDPOINT, HISTOGRAM, REASONS, ROUTE, UPSTREAM, WORKER
from fastgw.policy.breaker import OPEN, STATES
from fastgw.runtime.dry_run import LiveUpstream
from fastgw.runtime.exposition import BOUNDS
from fastgw.runtime.metrics import STATUS_CLASSES, WorkerFacts, process_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgw.runtime.reloads import Reloads
    from fastgw.runtime.workers import Workers
    from fastgw.snapshot import Endpoint, Snapshot, Upstream


class Overview:
    """Over the parts of a supervisor. What nobody counts is left out."""

    def __init__(self, reloads: Reloads, workers: Workers) -> None:
        self._reloads = reloads
        self._workers = workers

    def workers(self) -> list[WorkerFacts]:
        """Those that serve."""
        pids = sorted(self._workers.pids().items())
        return [WorkerFacts(number, pid, self._workers.column(number)) for number, pid in pids]

    def summary(self) -> dict[str, Any]:
        """What has been counted, as plain data for JSON; whoever looks twice sees rates. `at` is in seconds of a clock
        that only goes forward. The cells of a histogram count what took less than the bound of the same place in
        `bounds_s`, and no less than the one before; the last two are what took longer, and the sum in µs."""
        return {
            "version": __version__,
            "at": time.monotonic(),
            "bounds_s": BOUNDS,
            "routes": [self._route(key[2], self._sums(key)) for key in self._keys(ROUTE)],
            "upstreams": self.upstreams(),
            "workers": [self._worker(worker) for worker in self.workers()],
        }

    def _keys(self, kind: str) -> list[tuple[str, str, str]]:
        return [key for key in self._workers.rows.layout.places if key[0] == kind]

    def _sums(self, key: tuple[str, str, str]) -> list[int]:
        return self._workers.rows.sums(key)

    def _route(self, name: str, row: Sequence[int]) -> dict[str, Any]:
        answers = [
            sum(row[counters.ANSWERS + hundreds : counters.REFUSED : counters.CLASSES])
            for hundreds in range(counters.CLASSES)
        ]
        refusals = row[counters.REFUSED : counters.REFUSED + len(REASONS)]
        return {
            "name": name,
            "requests": dict(zip(STATUS_CLASSES, answers, strict=True)),
            "refusals": {reason: count for reason, count in zip(REASONS, refusals, strict=True) if count},
            "retries": row[counters.ROUTE_RETRIES],
            "bytes_in": row[counters.ROUTE_BYTES_IN],
            "bytes_out": row[counters.ROUTE_BYTES_OUT],
            "duration": row[counters.DURATION : counters.DURATION + HISTOGRAM],
            "own_duration": row[counters.OWN : counters.OWN + HISTOGRAM],
        }

    def _worker(self, worker: WorkerFacts) -> dict[str, Any]:
        column = worker.column
        rows = self._rows((WORKER, "", ""))
        cpu_s, memory = process_facts(worker.pid)
        return {
            "number": worker.number,
            "pid": worker.pid,
            "connections": column[counters.ACCEPTED] - column[counters.CLOSED],
            "requests": sum(column[counters.EXCHANGES : counters.EXCHANGES + counters.CLASSES]),
            "cpu_s": cpu_s,
            "memory_bytes": memory,
            "lag": rows[worker.number][counters.LAG : counters.LAG + HISTOGRAM] if rows else [0] * HISTOGRAM,
        }

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
            "head_duration": head,
        }

    def _rows(self, key: tuple[str, str, str]) -> list[list[int]]:
        """Of each worker; none where nothing is counted."""
        layout = self._workers.rows
        return layout.of_each_worker(key) if key in layout.layout.places else []

    def live(self, snapshot: Snapshot) -> dict[str, LiveUpstream]:
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
