"""What a second worker is worth: CPU per request of one worker, and of two, under the same load.

The capacity of two workers is 2 x (CPU per request of one) / (CPU per request of two): what two cores can do when
they have nothing else to do. One worker has a core for itself, as in all other workloads. On a machine of two cores,
two workers share both of them with the load and the backend; so what they cost each other is counted, and what the
load costs them too, in caches and in turns: the ratio is rather too low than too high.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench, on_all_cores, visit
from benchmarks.busy import measure_load
from benchmarks.peers import Peer
from benchmarks.results import CAPACITY, CPU_US, CPU_US_OF_ONE, CPU_US_OF_TWO, OTHERS_SHARE
from benchmarks.workloads import Workload

ONE, TWO = 1, 2


def visit_twice(
    bench: Bench, workload: Workload, peer: Peer, directory: Path, number: int
) -> tuple[dict[str, float], list[str]]:
    """Runs the peer with one worker and with two; which comes first changes with the round's number."""
    found: dict[int, dict[str, float]] = {}
    problems: list[str] = []
    for workers in (ONE, TWO) if number % 2 else (TWO, ONE):
        place = directory / str(workers)
        place.mkdir()
        with on_all_cores(bench) if workers == TWO else contextlib.nullcontext(bench) as placed:
            found[workers], wrong = visit(placed, replace(workload, workers=workers), peer, place, measure_load)
        problems += [f"with {workers}: {text}" for text in wrong]
    return compared(found[ONE], found[TWO]), problems


def compared(one: dict[str, float], two: dict[str, float]) -> dict[str, float]:
    """The figures of the two, side by side."""
    return {
        CPU_US_OF_ONE: one[CPU_US],
        CPU_US_OF_TWO: two[CPU_US],
        CAPACITY: TWO * one[CPU_US] / two[CPU_US],
        OTHERS_SHARE: max(one[OTHERS_SHARE], two[OTHERS_SHARE]),
    }
