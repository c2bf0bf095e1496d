"""A peer under load: what is put on it, and what it costs."""

from collections.abc import Callable

from benchmarks import load
from benchmarks.bench import Bench, Running
from benchmarks.heads import build_requests
from benchmarks.measure import CpuWindow
from benchmarks.processes import tail
from benchmarks.results import CPU_US, OTHERS_SHARE, P50_US, P99_US, REQUESTS_PER_SECOND
from benchmarks.workloads import Kind, Workload


def measure_load(bench: Bench, server: Running, problems: list[str]) -> tuple[dict[str, float], int]:
    """Warm-up, then the measured window; gives the figures and how many requests were completed in both."""
    workload = server.setup.workload
    drive = driver(bench, server)
    warmed = 0
    if bench.warmup_seconds:
        warm = drive(bench.warmup_seconds)
        problems += [f"warming up: {text}" for text in load_problems(warm, workload)]
        warmed = warm.requests
    window = CpuWindow(server.process.pid, bench.peer_cores, [bench.backend_pid], bench.load_cores)
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


def driver(bench: Bench, server: Running) -> Callable[[int], load.LoadResult]:
    """What puts the load on the peer for a number of seconds."""
    workload, port = server.setup.workload, server.setup.port
    connections = workload.connections
    requests = build_requests(workload)
    if workload.kind is Kind.CONNECTING:
        request = server.setup.directory / "request"
        request.write_bytes(requests[0])
        return lambda seconds: load.connect_anew(request, port, connections, seconds, bench.load_cores, workload.tls)
    script = server.setup.directory / "requests.lua"
    script.write_text(load.script(requests))
    return lambda seconds: load.run(script, port, connections, seconds, bench.load_cores, workload.tls)


def load_problems(result: load.LoadResult, workload: Workload) -> list[str]:
    problems = [f"{count} {kind} errors" for kind, count in result.errors.items()]
    if not result.requests:
        problems.append("no request was completed")
    elif result.bytes_read < result.requests * workload.response_body_bytes:
        problems.append("answers are shorter than the body asked for")
    return problems
