"""How evenly clients come to several workers: connections of each, and requests on new connections that each answers.

The kernel tells whose sockets are whose, and the backend from which port each request came, so nothing is taken from
what the peers count themselves. 1 is even; the number of workers means that one of them had it all.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.backend import PORTS_FILE
from benchmarks.bench import Bench, Running
from benchmarks.busy import driver, load_problems
from benchmarks.heads import build_requests
from benchmarks.idle import held
from benchmarks.measure import Connection, connections
from benchmarks.results import CONNECTIONS_OF_64, CONNECTIONS_OF_1000, REQUESTS_NEW
from benchmarks.workloads import Kind

IN_A_BURST = {CONNECTIONS_OF_64: 64, CONNECTIONS_OF_1000: 1000}
# As many clients connect anew for each request; more threads would only wait for each other.
CONNECTING_CLIENTS = 16
LOOKS = 3
# The rest went over connections to the backend that were closed since, and whose worker nobody knows any more.
KNOWN_AT_LEAST = 0.99


def measure_balance(bench: Bench, server: Running, problems: list[str]) -> tuple[dict[str, float], int]:
    """Connections that are opened in a burst and kept, then one for each request."""
    workers = server.peer.workers(server.process.pid)
    if len(workers) != server.setup.workload.workers:
        problems.append(f"{len(workers)} workers, not {server.setup.workload.workers}")
    figures = {
        name: max_to_mean(connections_of_each(server, workers, count, problems)) for name, count in IN_A_BURST.items()
    }
    answered, completed = requests_of_each(bench, server, workers, problems)
    figures[REQUESTS_NEW] = max_to_mean(answered)
    return figures, sum(IN_A_BURST.values()) + completed


def connections_of_each(server: Running, workers: Sequence[int], count: int, problems: list[str]) -> list[int]:
    """How many of so many connections each worker has."""
    setup = server.setup
    with held(setup.port, count, build_requests(setup.workload)[0], setup.workload.tls, burst=True):
        taken = [sum(one.local_port == setup.port for one in seen(pid)) for pid in workers]
    if sum(taken) != count:
        problems.append(f"{sum(taken)} of {count} connections are its workers'")
    return taken


def requests_of_each(
    bench: Bench, server: Running, workers: Sequence[int], problems: list[str]
) -> tuple[list[int], int]:
    """How many requests on new connections each worker has passed on, and how many were completed."""
    load = replace(
        server.setup.workload, kind=Kind.CONNECTING, connections=CONNECTING_CLIENTS, new_connection_each=True
    )
    ports = bench.directory / PORTS_FILE
    os.truncate(ports, 0)
    result = driver(bench, replace(server, setup=replace(server.setup, workload=load)))(bench.seconds)
    problems += load_problems(result, load)
    came_from = Counter(map(int, ports.read_text().split()))
    answered = []
    for pid in workers:
        own = {one.local_port for one in seen(pid) if one.remote_port == bench.backend_port}
        answered.append(sum(came_from[port] for port in own))
    if sum(answered) < came_from.total() * KNOWN_AT_LEAST:
        problems.append(f"of {came_from.total()} requests, {sum(answered)} came over connections that are still there")
    return answered, result.requests


def seen(pid: int) -> set[Connection]:
    """All connections of a process, while it has nothing to do."""
    return {one for _ in range(LOOKS) for one in connections(pid)}


def max_to_mean(shares: Sequence[int]) -> float:
    """Of what each worker had, how much more the busiest had than its part."""
    return max(shares) * len(shares) / max(sum(shares), 1)
