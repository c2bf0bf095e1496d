"""What two workers of one gateway cost each other: `python -m benchmarks.micro_scaling [ROUNDS]`.

The workload `two-workers` compares a worker that has a core to itself with two that share both cores with the load and
the backend, so that it counts against the second worker what the load costs them. Here the load is the same on both
sides: two gateways of one worker each, which know nothing of each other, beside one gateway of two workers, in turns;
all of it on all cores, and each side driven by two times 32 connections. Two gateways have twice the capacity of one,
so two workers have 2 x (CPU per request of two gateways) / (CPU per request of two workers).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import backend
from benchmarks.measure import settled
from benchmarks.peers import Peer, Setup, all_peers
from benchmarks.processes import free_port, running, wait_until_answering
from benchmarks.workloads import named

PEERS = ("fastgw", "nginx", "haproxy")
SECONDS = 2
CONNECTIONS = 32
FILES = 4096
PATH = "/svc0/items/1027"
SETTLE_S = 5.0


def cpu_ns(pids: list[int]) -> int:
    """What their threads have had of a processor."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def requests(port: int) -> subprocess.Popen[str]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", f"http://127.0.0.1:{port}{PATH}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def microseconds_per_request(peer: Peer, workers: tuple[int, ...], backend_port: int, cores: tuple[int, ...]) -> float:
    """Of gateways with so many workers each, under two loads."""
    with ExitStack() as stack:
        ports: list[int] = []
        pids: list[int] = []
        for count in workers:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            workload = replace(named("two-workers"), workers=count)
            setup = Setup(workload, directory, free_port(), backend_port, FILES)
            output = setup.access_log if peer.logs_to_stdout else directory / "output"
            process = stack.enter_context(running(peer.command(setup), cores, output, Path.cwd()))
            wait_until_answering(process, setup.port, PATH, workload.start_seconds, output)
            settled(process.pid, SETTLE_S)
            ports.append(setup.port)
            pids += peer.workers(process.pid)
        before = cpu_ns(pids)
        loads = [requests(ports[number % len(ports)]) for number in range(2)]
        printed = [load.communicate()[0] for load in loads]
        spent = cpu_ns(pids) - before
    served = sum(int(match[1]) for text in printed if (match := re.search(r"(\d+) requests in", text)))
    return spent / served / 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    cores = tuple(sorted(os.sched_getaffinity(0)))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PEERS}
    with tempfile.TemporaryDirectory() as place, backend.started(Path(place), cores, FILES) as (port, _):
        for number in range(rounds):
            for name in PEERS:
                sides = [(1, 1), (2,)]
                measured = {
                    side: microseconds_per_request(all_peers()[name], side, port, cores)
                    for side in (sides if number % 2 else reversed(sides))
                }
                found[name].append((measured[1, 1], measured[2,]))
    print(f"{'peer':10}{'µs of two gateways':>20}{'of two workers':>16}{'capacity of two to one':>26}")
    for name, pairs in found.items():
        ratios = [2 * apart / together for apart, together in pairs]
        apart, together = (median(side) for side in zip(*pairs, strict=True))
        told = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"{name:10}{apart:>20.1f}{together:>16.1f}{told:>26}")


if __name__ == "__main__":
    main()
