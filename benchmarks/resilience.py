"""What clients see of endpoints in trouble: `python -m benchmarks.resilience`; see --help.

`tail`: one of three becomes 20 times as slow. `recovery`: all three fail for a while and return. A real gateway, three
real endpoints and 64 connections, on this machine; clients and endpoints share a core that is not the gateway's.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks import recovery, report, tail
from benchmarks.bench import ROOT
from benchmarks.machine import facts
from benchmarks.peers import all_peers
from benchmarks.processes import NotStartedError, raise_file_limit
from benchmarks.results import RECOVERED, SLOW_TO_HEALTHY_P99, Sample, summarize

OK, FAILED = 0, 1
TAIL, RECOVERY = "tail", "recovery"
ROUNDS = 3
_SHOWN = {SLOW_TO_HEALTHY_P99: "times the healthy p99", RECOVERED: "intervals until 99% succeed"}

# Its number, whether it is a smoke test, the gateway's cores, those of the others, and a directory.
Turn = Callable[[int, bool, list[int], list[int], Path], Awaitable[Sample]]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resilience", description="endpoints in trouble")
    parser.add_argument("--figure", choices=(TAIL, RECOVERY), help="default: both")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each case (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="one short case of each, to show that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables for a README")
    options = parser.parse_args(given)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


async def measure(options: argparse.Namespace) -> list[Sample]:
    """All rounds of all cases, in turns."""
    cores = sorted(os.sched_getaffinity(0))
    gateway_cores, load_cores = cores[:1], [cores[min(1, len(cores) - 1)]]
    os.sched_setaffinity(0, load_cores)
    turns: list[Turn] = []
    if options.figure != RECOVERY:
        turns += [partial(tail.measure, case) for case in tail.cases(options.smoke)]
    if options.figure != TAIL:
        turns += [partial(recovery.measure, case) for case in recovery.cases(options.smoke)]
    samples = []
    # In memory where there is such a place, so that no disk has a say.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for number in range(1, options.rounds + 1):
        for turn in turns:
            with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=place) as directory:
                samples.append(await turn(number, options.smoke, gateway_cores, load_cores, Path(directory)))
            print(progress(samples[-1]), flush=True)
    return samples


def progress(sample: Sample) -> str:
    figures = [f"{sample.figures[name]:.2f} {unit}" for name, unit in _SHOWN.items() if name in sample.figures]
    told = [*figures, *(f"INVALID: {text}" for text in sample.problems)]
    return f"{sample.workload:9} round {sample.round}  {sample.peer:38} {'; '.join(told)}"


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise_file_limit()
    if options.smoke:
        options.rounds = 1
    try:
        samples = uvloop.run(measure(options))
    except NotStartedError as error:
        print(f"can't measure: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; all servers are ended", file=sys.stderr)
        return FAILED
    summaries = summarize(samples)
    machine = facts([all_peers()["fastgw"]], ROOT)
    caption = f"{machine['cpu']}, {machine['kernel']}, medians of {options.rounds} rounds"
    print(f"\n{report.plain(summaries)}\n\n{caption}")
    if options.json:
        settings = {"rounds": options.rounds, "phase_seconds": tail.PHASE_S, "failure_seconds": recovery.FAILURE_S}
        options.json.write_text(report.as_json(machine, settings, samples, summaries, {}))
    if options.markdown:
        options.markdown.write_text(report.markdown(summaries))
    return OK if all(summary.valid for summary in summaries) else FAILED


if __name__ == "__main__":
    sys.exit(main())
