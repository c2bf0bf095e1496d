"""One turn: a peer is started, checked, measured in its workload's way, and ended. Gives a Sample whatever happens."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks import load
from benchmarks.balance import measure_balance
from benchmarks.bench import Bench, Measure, on_all_cores, visit
from benchmarks.busy import measure_load
from benchmarks.idle import measure_idle
from benchmarks.peers import Peer
from benchmarks.processes import NotStartedError
from benchmarks.results import Sample
from benchmarks.scaling import visit_twice
from benchmarks.workloads import Kind, Workload

_MEASURES: dict[Kind, Measure] = {
    Kind.LOAD: measure_load,
    Kind.CONNECTING: measure_load,
    Kind.IDLE: measure_idle,
    Kind.BALANCE: measure_balance,
}


def take(bench: Bench, workload: Workload, peer: Peer, number: int) -> Sample:
    """One turn of a peer, in a directory of its own."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"{peer.name}-", dir=bench.directory) as name:
            directory = Path(name)
            if workload.kind is Kind.SCALING:
                figures, problems = visit_twice(bench, workload, peer, directory, number)
            else:
                with on_all_cores(bench) if workload.workers > 1 else nullcontext(bench) as placed:
                    figures, problems = visit(placed, workload, peer, directory, _MEASURES[workload.kind])
    except (NotStartedError, load.LoadError) as error:
        figures, problems = {}, [str(error)]
    return Sample(workload.name, peer.name, number, figures, tuple(problems))
