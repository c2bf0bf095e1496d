"""What all turns share: where they run, and a peer that is started, checked, and ended."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.backend import FORWARDING_HEADERS
from benchmarks.measure import settled
from benchmarks.peers import Peer, Setup
from benchmarks.processes import free_port, get, make_certificate, running, wait_until_answering
from benchmarks.results import START_SECONDS
from benchmarks.workloads import ECHO_PATH, Workload

ROOT = Path(__file__).resolve().parent.parent
# All of them, but for a reopened connection's last request that wrk counted and its peer did not.
LOGGED_AT_LEAST = 0.99
# For what a peer does after its start that is no part of a request, such as one more worker that stands by.
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all turns of a run have in common."""

    directory: Path
    backend_port: int
    backend_pid: int
    peer_cores: tuple[int, ...]
    load_cores: tuple[int, ...]
    files: int
    seconds: int
    warmup_seconds: int


@dataclass(slots=True)
class Running:
    """A peer that answers."""

    peer: Peer
    setup: Setup
    process: subprocess.Popen[bytes]
    output: Path
    start_seconds: float


@contextmanager
def on_all_cores(bench: Bench) -> Iterator[Bench]:
    """Peer, load and backend share all the cores that there are for them."""
    cores = tuple(sorted({*bench.peer_cores, *bench.load_cores}))
    os.sched_setaffinity(bench.backend_pid, cores)
    try:
        yield replace(bench, peer_cores=cores, load_cores=cores)
    finally:
        os.sched_setaffinity(bench.backend_pid, bench.load_cores)


# Measures a peer that answers: gives the figures and how many requests were completed, and adds to the problems.
Measure = Callable[[Bench, Running, list[str]], tuple[dict[str, float], int]]


def visit(
    bench: Bench, workload: Workload, peer: Peer, directory: Path, measure: Measure
) -> tuple[dict[str, float], list[str]]:
    """Runs a peer for one measurement; gives the figures, and what is wrong with them."""
    with started(bench, workload, peer, directory) as server:
        problems = check(server)
        figures, requests = measure(bench, server, problems)
        figures[START_SECONDS] = server.start_seconds
    # Only now, since an orderly end writes what was still buffered.
    if peer.logs:
        problems += check_log(server.setup.access_log, requests)
    return figures, problems


@contextmanager
def started(bench: Bench, workload: Workload, peer: Peer, directory: Path) -> Iterator[Running]:
    """The peer, answering; ended on the way out."""
    setup = Setup(workload, directory, free_port(), bench.backend_port, bench.files)
    if workload.tls:
        make_certificate(setup.certificate)
    command = peer.command(setup)
    output = setup.access_log if peer.logs_to_stdout else directory / "output"
    begun = time.monotonic()
    with running(command, bench.peer_cores, output, ROOT) as process:
        path = f"/svc0/{workload.path}"
        wait_until_answering(process, setup.port, path, workload.start_seconds, output, workload.tls)
        start_seconds = time.monotonic() - begun
        settled(process.pid, SETTLE_SECONDS)
        yield Running(peer, setup, process, output, start_seconds)


def check(server: Running) -> list[str]:
    """Whether the peer does the work that it is compared by; what it leaves out, otherwise."""
    workload, port = server.setup.workload, server.setup.port
    problems: list[str] = []
    for route in {0, workload.routes // 2, workload.routes - 1}:
        path = f"/svc{route}/{workload.path}" if route == 0 else f"/svc{route}/items/1"
        status, head, body = get(port, path, workload.tls)
        if status != 200:
            problems.append(f"{path} is answered with {status}")
        elif route == 0 and len(body) != workload.response_body_bytes:
            problems.append(f"{path} has {len(body)} body bytes, not {workload.response_body_bytes}")
        problems += [f"no {name} to the client" for name in ("via", "x-request-id") if f"\r\n{name}:" not in head]
    echoed = get(port, f"/svc0/{ECHO_PATH}", workload.tls)[2].decode("latin-1")
    sent = {name: value.strip() for name, _, value in (line.partition(":") for line in echoed.split("\n"))}
    problems += [f"no {name} to the backend" for name in FORWARDING_HEADERS if not sent.get(name)]
    if get(port, "/no-such-route/", workload.tls)[0] != 404:
        problems.append("a path without a route is not answered with 404")
    return problems


def check_log(path: Path, requests: int) -> list[str]:
    """Whether the access log has a line for each request."""
    if not path.exists():
        return ["it wrote no access log"]
    lines = 0
    with path.open("rb") as log:
        while chunk := log.read(1 << 20):
            lines += chunk.count(b"\n")
    if lines < requests * LOGGED_AT_LEAST:
        return [f"{lines} lines in the access log for {requests} requests"]
    return []
