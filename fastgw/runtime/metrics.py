"""What a scrape of `/metrics` shows: what the workers have counted, and what the supervisor knows."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastgw import __version__, counters
from fastgw.counters import CLASSES, ENDPOINT, HISTOGRAM, LISTENER, METHODS, REASONS, ROUTE, UPSTREAM, WORKER
from fastgw.policy import breaker as breaker_states
from fastgw.runtime.exposition import COUNTER, GAUGE, INFO, Family, labels
from fastgw.runtime.exposition import HISTOGRAM as HISTOGRAM_KIND

if TYPE_CHECKING:
    from fastgw.config.load import ListenerCertificate
    from fastgw.runtime.events import Events
    from fastgw.runtime.row_layout import Counted
    from fastgw.runtime.traces import TraceKeeper

STATUS_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_METHOD_NAMES = [*(method.decode() for method in METHODS), "other"]


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A worker that serves: its column is `counters.COLUMN_SIZE` cells."""

    number: int
    pid: int
    column: Sequence[int]


class Collector:
    """Of one scrape, which may be in a thread of its own: with thousands of routes it takes a while."""

    def __init__(self, counted: Counted, events: Events, traces: TraceKeeper) -> None:
        self._counted = counted
        self._traces = traces
        self._events = events

    def families(
        self,
        workers: Iterable[WorkerFacts],
        unhealthy: dict[str, frozenset[str]],
        certificates: Iterable[ListenerCertificate],
    ) -> list[Family]:
        """All there is to tell now. `unhealthy` are endpoints whose checks fail, by upstream."""
        workers = list(workers)
        return [
            *self._routes(),
            *self._listeners(),
            *self._upstreams(),
            *self._endpoints(unhealthy),
            *self._workers(workers),
            *self._gateway(certificates),
        ]

    def _names(self, kind: str) -> list[tuple[str, str, list[int]]]:
        """Upstream (of an endpoint), name, and row."""
        keys = [key for key in self._counted.places if key[0] == kind]
        return [(of, name, self._counted.sums((kind, of, name))) for _, of, name in keys]

    def _routes(self) -> list[Family]:
        requests = Family("fastgw_requests", COUNTER, "Ended exchanges; the route is empty where none has matched.")
        refused = Family("fastgw_refusals", COUNTER, "Exchanges that the gateway has answered itself, by reason.")
        retries = Family("fastgw_retries", COUNTER, "How often requests were sent again.")
        taken = Family("fastgw_request_bytes", COUNTER, "Bytes of requests' bodies.", "bytes")
        given = Family("fastgw_response_bytes", COUNTER, "Bytes of answers' bodies.", "bytes")
        took = Family("fastgw_request_duration_seconds", HISTOGRAM_KIND, "Of whole exchanges.", "seconds")
        own_help = "The gateway's own share of exchanges: without the upstream's, and without waits for connections."
        own = Family("fastgw_own_duration_seconds", HISTOGRAM_KIND, own_help, "seconds")
        for _, name, row in self._names(ROUTE):
            route = labels({"route": name})
            for number, method in enumerate(_METHOD_NAMES):
                _add_classes(requests, row, counters.ANSWERS + number * CLASSES, f'{route},method="{method}"')
            for number, reason in enumerate(REASONS):
                if count := row[counters.REFUSED + number]:
                    refused.add_labelled(count, f'{route},reason="{reason}"')
            if any(row):
                retries.add_labelled(row[counters.ROUTE_RETRIES], route)
                taken.add_labelled(row[counters.ROUTE_BYTES_IN], route)
                given.add_labelled(row[counters.ROUTE_BYTES_OUT], route)
            took.add_histogram(row[counters.DURATION : counters.DURATION + HISTOGRAM], route)
            own.add_histogram(row[counters.OWN : counters.OWN + HISTOGRAM], route)
        return [requests, refused, retries, taken, given, took, own]

    def _listeners(self) -> list[Family]:
        requests = Family("fastgw_listener_requests", COUNTER, "Ended exchanges by the listener they came to.")
        for _, name, row in self._names(LISTENER):
            _add_classes(requests, row, counters.LISTENER_ANSWERS, labels({"listener": name}))
        return [requests]

    def _upstreams(self) -> list[Family]:
        queued = Family("fastgw_upstream_queued", GAUGE, "Requests that wait for a connection.")
        waited = Family("fastgw_upstream_queue_waits", COUNTER, "Requests that had to wait for a connection.")
        waits_help = "How long requests have waited for connections, in all."
        waits = Family("fastgw_upstream_queue_wait_seconds", COUNTER, waits_help, "seconds")
        in_flight_help = "Requests that await an answer's head, where a breaker or limit counts them."
        in_flight = Family("fastgw_upstream_in_flight", GAUGE, in_flight_help)
        breaker = Family("fastgw_upstream_breaker_open", GAUGE, "In how many workers the circuit breaker is open.")
        half = Family(
            "fastgw_upstream_breaker_half_open", GAUGE, "In how many workers the breaker lets trials through."
        )
        for key in [key for key in self._counted.places if key[0] == UPSTREAM]:
            rows = self._counted.of_each_worker(key)
            upstream = labels({"upstream": key[2]})
            queued.add_labelled(sum(row[counters.QUEUED] for row in rows), upstream)
            waited.add_labelled(sum(row[counters.WAITED] for row in rows), upstream)
            waits.add_labelled(sum(row[counters.WAITED_US] for row in rows) / 1e6, upstream)
            in_flight.add_labelled(sum(row[counters.IN_FLIGHT] for row in rows), upstream)
            breaker.add_labelled(sum(row[counters.BREAKER] == breaker_states.OPEN for row in rows), upstream)
            half.add_labelled(sum(row[counters.BREAKER] == breaker_states.HALF_OPEN for row in rows), upstream)
        return [queued, waited, waits, in_flight, breaker, half]

    def _endpoints(self, unhealthy: dict[str, frozenset[str]]) -> list[Family]:
        answers = Family("fastgw_endpoint_requests", COUNTER, "Exchanges that the endpoint has answered.")
        failures = Family("fastgw_endpoint_failures", COUNTER, "Tries that came to nothing, by kind.")
        connects = Family("fastgw_endpoint_connects", COUNTER, "Connections that were opened.")
        ejections = Family("fastgw_endpoint_ejections", COUNTER, "How often workers have ejected it.")
        active = Family("fastgw_endpoint_active", GAUGE, "Requests in flight.")
        idle = Family("fastgw_endpoint_idle_connections", GAUGE, "Connections that wait to be used again.")
        ejected = Family("fastgw_endpoint_ejected", GAUGE, "How many workers have ejected it now.")
        healthy = Family("fastgw_endpoint_healthy", GAUGE, "1, or 0 while its checks fail.")
        head_help = "From a request's way to the endpoint to the head of the answer."
        head = Family("fastgw_endpoint_head_duration_seconds", HISTOGRAM_KIND, head_help, "seconds")
        for upstream, name, row in self._names(ENDPOINT):
            endpoint = labels({"upstream": upstream, "endpoint": name})
            _add_classes(answers, row, counters.ENDPOINT_ANSWERS, endpoint)
            for number, kind in enumerate(counters.FAILURE_KINDS):
                if count := row[counters.FAILURES + number]:
                    failures.add_labelled(count, f'{endpoint},kind="{kind}"')
            connects.add_labelled(row[counters.CONNECTS], endpoint)
            ejections.add_labelled(row[counters.EJECTIONS], endpoint)
            active.add_labelled(row[counters.ACTIVE], endpoint)
            idle.add_labelled(row[counters.IDLE], endpoint)
            ejected.add_labelled(row[counters.EJECTED], endpoint)
            healthy.add_labelled(int(name not in unhealthy.get(upstream, ())), endpoint)
            head.add_histogram(row[counters.HEAD : counters.HEAD + HISTOGRAM], endpoint)
        return [answers, failures, connects, ejections, active, idle, ejected, healthy, head]

    def _workers(self, workers: list[WorkerFacts]) -> list[Family]:
        requests = Family("fastgw_worker_requests", COUNTER, "Ended exchanges by the worker that has carried them.")
        accepted = Family("fastgw_worker_accepted_connections", COUNTER, "Connections from clients.")
        connections = Family("fastgw_worker_connections", GAUGE, "Open connections from clients.")
        handshakes = Family("fastgw_worker_handshakes", COUNTER, "TLS handshakes with clients that have ended.")
        failed = Family("fastgw_worker_failed_handshakes", COUNTER, "TLS handshakes with clients that failed.")
        lost = Family("fastgw_worker_lost_log_lines", COUNTER, "Lines of the access log that could not be written.")
        traces_help = "Recorded exchanges that could not be handed to the process that exports them."
        lost_traces = Family("fastgw_worker_lost_traces", COUNTER, traces_help)
        news_help = "What the supervisor was to be told (events, failures, lines that are looked at), and could not be."
        lost_news = Family("fastgw_worker_lost_news", COUNTER, news_help)
        cpu = Family("fastgw_worker_cpu_seconds", COUNTER, "CPU time of the worker's process.", "seconds")
        memory = Family("fastgw_worker_resident_memory_bytes", GAUGE, "Memory of the worker's process.", "bytes")
        lag_help = "By how much the worker's event loop is late for what it has planned."
        lag = Family("fastgw_worker_loop_lag_seconds", HISTOGRAM_KIND, lag_help, "seconds")
        key = (WORKER, "", "")
        # Not where a reload has just ended all this, and its last answer is asked for.
        rows = self._counted.of_each_worker(key) if key in self._counted.places else []
        for worker in workers if rows else ():
            column, row, name = worker.column, rows[worker.number], labels({"worker": str(worker.number)})
            _add_classes(requests, column, counters.EXCHANGES, name)
            accepted.add_labelled(column[counters.ACCEPTED], name)
            connections.add_labelled(column[counters.ACCEPTED] - column[counters.CLOSED], name)
            handshakes.add_labelled(column[counters.HANDSHAKES], name)
            failed.add_labelled(column[counters.FAILED_HANDSHAKES], name)
            lost.add_labelled(row[counters.LOST_LINES], name)
            lost_traces.add_labelled(row[counters.LOST_TRACES], name)
            lost_news.add_labelled(row[counters.LOST_NEWS], name)
            lag.add_histogram(row[counters.LAG : counters.LAG + HISTOGRAM], name)
            for family, value in zip((cpu, memory), process_facts(worker.pid), strict=True):
                family.add_labelled(value, name)
        return [requests, accepted, connections, handshakes, failed, lost, lost_traces, lost_news, cpu, memory, lag]

    def _gateway(self, certificates: Iterable[ListenerCertificate]) -> list[Family]:
        build = Family("fastgw_build", INFO, "The program that runs.")
        build.add(1, version=__version__, python=platform.python_version())
        events = Family("fastgw_events", COUNTER, "Reloads, upgrades, workers that died and so on, by outcome.")
        for (kind, outcome), count in sorted(dict(self._events.counts).items()):
            events.add(count, kind=kind, outcome=outcome)
        expiry_help = "When a listener's certificate expires, in seconds since 1970."
        expiry = Family("fastgw_certificate_expiry_timestamp_seconds", GAUGE, expiry_help, "seconds")
        for one in certificates:
            expiry.add(one.expires, listener=one.listener, file=one.file)
        cpu = Family("fastgw_supervisor_cpu_seconds", COUNTER, "CPU time of the supervisor's process.", "seconds")
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu.add(used.ru_utime + used.ru_stime)
        exported = Family("fastgw_traces_exported", COUNTER, "Recorded exchanges that the collector has taken.")
        exported.add(self._traces.exported)
        lost = Family("fastgw_traces_lost", COUNTER, "Recorded exchanges that the collector never got, or refused.")
        lost.add(self._traces.lost)
        return [build, events, expiry, cpu, exported, lost]


def _add_classes(family: Family, row: Sequence[int], begin: int, labelled: str) -> None:
    for hundreds, name in enumerate(STATUS_CLASSES):
        if count := row[begin + hundreds]:
            family.add_labelled(count, f'{labelled},status="{name}"')


def process_facts(pid: int) -> tuple[float, int]:
    """CPU time in seconds and resident memory in bytes; of one that has just ended, nothing."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name before the parenthesis may hold anything.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")
