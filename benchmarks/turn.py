"""One turn: a peer is started, checked, warmed up, measured, and ended. Gives a Sample whatever happens."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import idle, load
from benchmarks.backend import FORWARDING_HEADERS
from benchmarks.heads import build_requests
from benchmarks.measure import CpuWindow, memory
from benchmarks.peers import Peer, Setup
from benchmarks.processes import (
    NotStartedError,
    free_port,
    get,
    make_certificate,
    running,
    tail,
    wait_until_answering,
)
from benchmarks.results import (
    CPU_US,
    MEMORY_BEFORE,
    MEMORY_BYTES,
    OTHERS_SHARE,
    P50_US,
    P99_US,
    REQUESTS_PER_SECOND,
    START_SECONDS,
    Sample,
)
from benchmarks.workloads import ECHO_PATH, Kind, Workload

ROOT = Path(__file__).resolve().parent.parent
# All of them, but for a reopened connection's last request that wrk counted and its peer did not.
LOGGED_AT_LEAST = 0.99


@dataclass(frozen=True, slots=True)
class Bench:
    """What all turns of a run have in common."""

    directory: Path
    backend_port: int
    backend_pid: int
    peer_core: int
    load_core: int
    files: int
    seconds: int
    warmup_seconds: int


@dataclass(slots=True)
class Running:
    """A peer that answers."""

    setup: Setup
    process: subprocess.Popen[bytes]
    output: Path
    start_seconds: float


def take(bench: Bench, workload: Workload, peer: Peer, number: int) -> Sample:
    """One turn of a peer, in a directory of its own."""
    sample = Sample(workload.name, peer.name, number)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{peer.name}-", dir=bench.directory) as directory:
            return _take(bench, workload, peer, sample, Path(directory))
    except (NotStartedError, load.LoadError) as error:
        return Sample(sample.workload, sample.peer, number, {}, (str(error),))


def _take(bench: Bench, workload: Workload, peer: Peer, sample: Sample, directory: Path) -> Sample:
    with started(bench, workload, peer, directory) as server:
        problems = check(server)
        if workload.kind is Kind.IDLE:
            figures, requests = measure_idle(server, workload, problems)
        else:
            figures, requests = measure_load(bench, server, workload, problems)
        figures[START_SECONDS] = server.start_seconds
    # Only now, since an orderly end writes what was still buffered.
    problems += check_log(server.setup.access_log, requests)
    return Sample(sample.workload, sample.peer, sample.round, figures, tuple(problems))


@contextmanager
def started(bench: Bench, workload: Workload, peer: Peer, directory: Path) -> Iterator[Running]:
    """The peer, answering; ended on the way out."""
    setup = Setup(workload, directory, free_port(), bench.backend_port, bench.files)
    if workload.tls:
        make_certificate(setup.certificate)
    command = peer.command(setup)
    output = setup.access_log if peer.logs_to_stdout else directory / "output"
    begun = time.monotonic()
    with running(command, bench.peer_core, output, ROOT) as process:
        path = f"/svc0/{workload.path}"
        wait_until_answering(process, setup.port, path, workload.start_seconds, output, workload.tls)
        yield Running(setup, process, output, time.monotonic() - begun)


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


def measure_load(
    bench: Bench, server: Running, workload: Workload, problems: list[str]
) -> tuple[dict[str, float], int]:
    """Warm-up, then the measured window; gives the figures and how many requests were completed in both."""
    drive = driver(bench, server, workload)
    warmed = 0
    if bench.warmup_seconds:
        warm = drive(bench.warmup_seconds)
        problems += [f"warming up: {text}" for text in load_problems(warm, workload)]
        warmed = warm.requests
    window = CpuWindow(server.process.pid, bench.peer_core, [bench.backend_pid], bench.load_core)
    result = drive(bench.seconds)
    spent = window.close()

    problems += load_problems(result, workload)
    problems += [f"its process {pid} ended under load: {tail(server.output, 200)}" for pid in spent.ended]
    requests = max(result.requests, 1)
    figures = {
        REQUESTS_PER_SECOND: result.requests / result.seconds,
        P50_US: result.p50_us,
        P99_US: result.p99_us,
        CPU_US: spent.nanoseconds / 1000 / requests,
        OTHERS_SHARE: spent.others_share,
    }
    return figures, warmed + result.requests


def driver(bench: Bench, server: Running, workload: Workload) -> Callable[[int], load.LoadResult]:
    """What puts the load on the peer for a number of seconds."""
    port, connections = server.setup.port, workload.connections
    requests = build_requests(workload)
    if workload.kind is Kind.HANDSHAKES:
        request = server.setup.directory / "request"
        request.write_bytes(requests[0])
        return lambda seconds: load.shake_hands(request, port, connections, seconds, bench.load_core)
    script = server.setup.directory / "requests.lua"
    script.write_text(load.script(requests))
    return lambda seconds: load.run(script, port, connections, seconds, bench.load_core, workload.tls)


def load_problems(result: load.LoadResult, workload: Workload) -> list[str]:
    problems = [f"{count} {kind} errors" for kind, count in result.errors.items()]
    if not result.requests:
        problems.append("no request was completed")
    elif result.bytes_read < result.requests * workload.response_body_bytes:
        problems.append("answers are shorter than the body asked for")
    return problems


def measure_idle(server: Running, workload: Workload, problems: list[str]) -> tuple[dict[str, float], int]:
    """Memory of the peer's processes before any of the connections, and while all of them are held."""
    before = memory(server.process.pid).proportional_bytes
    count = workload.connections
    with idle.held(server.setup.port, count, build_requests(workload)[0], workload.tls) as connections:
        during = memory(server.process.pid).proportional_bytes
        ended = idle.closed_by_peer(connections)
    if ended:
        problems.append(f"{ended} of {count} idle connections were closed by the peer")
    return {MEMORY_BYTES: (during - before) / count, MEMORY_BEFORE: float(before)}, count


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
