"""`python -m benchmarks`: which workloads, which peers, how long; see --help."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import backend, load, picture, profiling, report
from benchmarks.bench import ROOT, Bench
from benchmarks.machine import facts
from benchmarks.peers import Peer, all_peers
from benchmarks.processes import NotStartedError, raise_file_limit
from benchmarks.results import CAPACITY, CPU_US, MEMORY_BYTES, REQUESTS_NEW, Sample, summarize
from benchmarks.turn import take
from benchmarks.workloads import WORKLOADS, Workload, for_smoke, named

OK, FAILED, USAGE = 0, 1, 2
# What is told of each turn: figures with their units and digits.
_SHOWN = {
    CPU_US: ("µs/request", 1),
    MEMORY_BYTES: ("bytes/connection", 1),
    CAPACITY: ("times the capacity of one worker", 2),
    REQUESTS_NEW: ("times the mean of requests on new connections", 2),
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="fastgw beside nginx and HAProxy")
    parser.add_argument("--workload", nargs="+", action="extend", choices=names, metavar="NAME", help="default: all")
    parser.add_argument("--peer", action="append", choices=list(all_peers()), help="repeatable; default: all")
    parser.add_argument("--seconds", type=int, default=4, help="of the measured window (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="one short round of a few, to show that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table for a README")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="CPU per request as bars (SVG)")
    parser.add_argument("--list", action="store_true", help="the workloads and peers, and end")
    parser.add_argument("--profile", choices=names, metavar="NAME", help="fastgw alone; prints its top functions")
    parser.add_argument("--stacks", type=Path, metavar="FILE", help="with --profile: keep the stacks (collapsed)")
    options = parser.parse_args(given)
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds must be at least 1")
    return options


def main() -> int:
    options = arguments()
    # Ended by SIGTERM, it still ends what it started, as after an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.list:
        return list_all()
    for reason in filter(None, (load.missing(), backend.missing())):
        print(reason, file=sys.stderr)
        return FAILED
    if options.smoke:
        options.seconds = options.rounds = 1
    try:
        with bench(options) as ready:
            if options.profile:
                print(profiling.profile(ready, named(options.profile), options.stacks))
                return OK
            return compare(ready, options)
    except (NotStartedError, load.LoadError) as error:
        print(f"can't measure: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; all servers are ended", file=sys.stderr)
        return FAILED


def list_all() -> int:
    for workload in WORKLOADS:
        print(f"{workload.name:18} {workload.summary}")
    for peer in all_peers().values():
        print(f"{peer.name:18} {peer.missing() or peer.version()}")
    return OK


@contextmanager
def bench(options: argparse.Namespace) -> Iterator[Bench]:
    """The backend running, in a temporary directory that all turns share."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        print("only one core: peers, load and backend share it, and only ratios of CPU time mean anything")
    peer_cores, load_cores = (cores[0],), (cores[min(1, len(cores) - 1)],)
    os.sched_setaffinity(0, load_cores)  # what this process does itself must not cost the peer anything either
    files = raise_file_limit()
    # In memory where there is such a place, so that no disk has a say.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=place) as directory:
        path = Path(directory)
        with backend.started(path, load_cores, files) as (port, pid):
            warmup_seconds = 0 if options.smoke else 1
            yield Bench(path, port, pid, peer_cores, load_cores, files, options.seconds, warmup_seconds)


def compare(ready: Bench, options: argparse.Namespace) -> int:
    workloads = choose_workloads(options)
    peers, skipped = choose_peers(options.peer, workloads)
    samples: list[Sample] = []
    for workload in workloads:
        taking_part = [peer for peer in peers if peer.name in workload.peers]
        samples += run_workload(ready, workload, taking_part, options.rounds)
    summaries = summarize(samples)
    machine = facts(peers, ROOT)
    caption = f"{machine['cpu']}, {machine['kernel']}, medians of {options.rounds} rounds"
    print(f"\n{report.plain(summaries)}\n\n{caption}")
    settings = {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "workloads": [w.name for w in workloads],
    }
    if options.json:
        options.json.write_text(report.as_json(machine, settings, samples, summaries, skipped))
    if options.markdown:
        options.markdown.write_text(report.markdown(summaries))
    if options.picture:
        options.picture.write_text(picture.svg(summaries, caption))
    # A peer missing on somebody's own machine is no failure; where the machine was set up for this, it is.
    failed = not peers or (bool(skipped) and os.environ.get("CI") == "true")
    return FAILED if failed or not all(summary.valid for summary in summaries) else OK


def choose_peers(wanted: Sequence[str] | None, workloads: Sequence[Workload]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that have a part in these workloads and can run here, and why the others can't."""
    asked = {name for workload in workloads for name in workload.peers}
    chosen = [peer for name, peer in all_peers().items() if name in asked and (not wanted or name in wanted)]
    skipped = {peer.name: reason for peer in chosen if (reason := peer.missing())}
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    return [peer for peer in chosen if peer.name not in skipped], skipped


def choose_workloads(options: argparse.Namespace) -> list[Workload]:
    if options.workload:
        return [named(name) for name in dict.fromkeys(options.workload)]
    return for_smoke() if options.smoke else list(WORKLOADS)


def run_workload(ready: Bench, workload: Workload, peers: Sequence[Peer], rounds: int) -> list[Sample]:
    """All rounds of a workload; peers take turns, and a different one goes first each round."""
    samples: list[Sample] = []
    for number in range(rounds):
        first = number % len(peers) if peers else 0
        for peer in [*peers[first:], *peers[:first]]:
            samples.append(take(ready, workload, peer, number + 1))
            print(progress(samples[-1]), flush=True)
    return samples


def progress(sample: Sample) -> str:
    figures = [
        f"{sample.figures[name]:,.{digits}f} {unit}"
        for name, (unit, digits) in _SHOWN.items()
        if name in sample.figures
    ]
    told = [*figures, *(f"INVALID: {text}" for text in sample.problems)]
    return f"{sample.workload:18} round {sample.round}  {sample.peer:15} {'; '.join(told)}"


if __name__ == "__main__":
    sys.exit(main())
