"""Two peers that are up at once, and take turns of a fifth of a second: `python -m benchmarks.paired PEER PEER`.

On a machine whose speed changes from one second to the next, as many virtual ones do, both have the same share of each
speed then, and the ratio of what a request costs them is known to about a hundredth, where rounds of seconds know it to
a tenth. Each has a load of its own, which is stopped by a signal while it is the turn of the other.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median

from benchmarks import backend, load
from benchmarks.__main__ import bench
from benchmarks.bench import Bench, Running, check, check_log, started
from benchmarks.busy import driver, load_problems
from benchmarks.heads import build_requests
from benchmarks.measure import CpuWindow
from benchmarks.peers import all_peers
from benchmarks.processes import NotStartedError, pinned
from benchmarks.workloads import WORKLOADS, Kind, named

_TURN_S = 0.2
_WORKLOADS = [workload.name for workload in WORKLOADS if workload.kind is Kind.LOAD and workload.workers == 1]


class _Side:
    """One of the two: its load is there, and stopped."""

    def __init__(self, ready: Bench, server: Running, seconds: int) -> None:
        workload = server.setup.workload
        lua = server.setup.directory / "paired.lua"
        lua.write_text(load.script(build_requests(workload)))
        cores = ready.load_cores
        command = load.wrk(lua, server.setup.port, workload.connections, seconds, cores, workload.tls)
        self._server = server
        self._window = CpuWindow(server.process.pid, ready.peer_cores)
        self.load = subprocess.Popen(pinned(cores, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.load.send_signal(signal.SIGSTOP)

    def take_turn(self) -> None:
        self.load.send_signal(signal.SIGCONT)
        time.sleep(_TURN_S)
        self.load.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """Ends the load, whatever has happened; one that is stopped would stay for ever."""
        with self.load:
            self.load.kill()

    def end(self) -> tuple[float, int, list[str]]:
        """µs of the processor a request, how many there were, and what is wrong with that."""
        self.load.send_signal(signal.SIGCONT)
        printed, complained = self.load.communicate()
        spent = self._window.close()
        result = load.parse(printed, complained)
        problems = load_problems(result, self._server.setup.workload)
        problems += [f"its process {pid} ended" for pid in spent.ended]
        return spent.nanoseconds / 1000 / max(result.requests, 1), result.requests, problems


def measure(ready: Bench, workload_name: str, names: Sequence[str], seconds: int) -> tuple[list[float], list[str]]:
    """One round: what a request costs each of the two, in µs, and what is wrong with that."""
    workload = named(workload_name)
    peers = all_peers()
    found, problems = [], []
    requests = []
    with ExitStack() as until_the_end:
        servers = []
        for name in names:
            directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=ready.directory))
            servers.append(until_the_end.enter_context(started(ready, workload, peers[name], directory)))
        for server in servers:
            problems += check(server)
            requests.append(driver(ready, server)(1).requests)
        sides = []
        for server in servers:
            sides.append(_Side(ready, server, seconds))
            until_the_end.callback(sides[-1].close)
        for side in cycle(sides):
            if any(one.load.poll() is not None for one in sides):
                break
            side.take_turn()
        for number, side in enumerate(sides):
            cost, count, wrong = side.end()
            found.append(cost)
            requests[number] += count
            problems += wrong
    for server, count in zip(servers, requests, strict=True):
        if server.peer.logs:
            problems += check_log(server.setup.access_log, count)
    return found, problems


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description="two peers in quick turns")
    parser.add_argument("peers", nargs=2, choices=list(all_peers()), metavar="PEER", help="whose costs are compared")
    parser.add_argument("--workload", choices=_WORKLOADS, default="json-bare", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="each with peers started anew (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of a round, both peers' (default: %(default)s)")
    options = parser.parse_args(given)
    # Without a warm-up of its own: each side has one.
    options.smoke = True
    peers = all_peers()
    for reason in filter(None, (load.missing(), backend.missing(), *(peers[name].missing() for name in options.peers))):
        print(reason, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cores_before = os.sched_getaffinity(0)
    costs: list[list[float]] = []
    wrong: list[str] = []
    try:
        with bench(options) as ready:
            for number in range(options.rounds):
                found, problems = measure(ready, options.workload, options.peers, options.seconds)
                wrong += [f"round {number + 1}: {text}" for text in problems]
                costs.append(found)
    except (NotStartedError, load.LoadError) as error:
        print(f"can't measure: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, cores_before)
    for name, of_rounds in zip(options.peers, zip(*costs, strict=True), strict=True):
        print(f"{name:20} {median(of_rounds):.1f} µs/request")
    ratios = sorted(second / first for first, second in costs)
    print(f"second to first: {median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f}), {len(ratios)} rounds")
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
