"""Where fastgw spends its time under a workload: py-spy samples the worker; the top is printed."""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.bench import Bench, started
from benchmarks.busy import driver
from benchmarks.measure import busiest
from benchmarks.peers import all_peers
from benchmarks.processes import NotStartedError
from benchmarks.workloads import Kind, Workload

SAMPLES_PER_SECOND = 500  # finer than py-spy's 100, since a window is short; more would slow the worker down
SHOWN = 30
WAITING = "wait (threading.py)"  # a helper thread with nothing to do; py-spy takes it for a busy one


def py_spy() -> str | None:
    """Its path: on PATH, or beside the running Python."""
    beside = Path(sys.executable).with_name("py-spy")
    return shutil.which("py-spy") or (str(beside) if beside.exists() else None)


def profile(bench: Bench, workload: Workload, keep: Path | None = None) -> str:
    """Runs fastgw alone under the workload and samples it; gives the text to print.

    `keep` is where the raw stacks are left, for a flame graph. Raises NotStartedError when it can't be done.
    """
    program = py_spy()
    if program is None:
        raise NotStartedError("py-spy is neither on PATH nor beside this Python")
    if workload.kind is Kind.IDLE:
        raise NotStartedError(f"{workload.name} has no load to profile under")
    with tempfile.TemporaryDirectory(prefix="profile-", dir=bench.directory) as name:
        directory = Path(name)
        raw = directory / "stacks.txt"
        with (
            started(bench, workload, all_peers()["fastgw"], directory) as server,
            ThreadPoolExecutor(1) as threads,
        ):
            # The load outlasts warm-up, sampling, and py-spy's own start.
            seconds = bench.warmup_seconds + bench.seconds + 3
            running = threads.submit(driver(bench, server), seconds)
            _record(program, busiest(server.process.pid, bench.warmup_seconds), bench.seconds, raw)
            result = running.result()
        stacks = raw.read_text()
        if keep is not None:
            keep.write_text(stacks)
    return f"{workload.name}: {result.requests} requests, errors {result.errors or 'none'}\n\n{top(stacks)}"


def _record(program: str, pid: int, seconds: int, raw: Path) -> None:
    command = [
        program,
        "record",
        "--pid",
        str(pid),
        "--duration",
        str(seconds),
        "--rate",
        str(SAMPLES_PER_SECOND),
    ]
    finished = subprocess.run(
        [*command, "--format", "raw", "--output", str(raw)],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    if finished.returncode or not raw.exists():
        raise NotStartedError(f"py-spy: {(finished.stderr or finished.stdout).strip()[-400:]}")


def top(stacks: str) -> str:
    """The functions that samples ended in ("own") or had anywhere on the stack ("all"), most own first.

    `stacks` are collapsed: `outer (file:line);inner (file:line) count`. C code counts for its Python caller.
    """
    own: Counter[str] = Counter()
    anywhere: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_without_line(frame) for frame in stack.split(";")]
        if frames[-1].endswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        for frame in set(frames):
            anywhere[frame] += int(count)
    total = max(own.total(), 1)
    rows = [f"{count / total:7.1%} {anywhere[frame] / total:7.1%}  {frame}" for frame, count in own.most_common(SHOWN)]
    return "\n".join([f"{'own':>7} {'all':>7}  function", *rows])


def _without_line(frame: str) -> str:
    start, colon, number = frame.rpartition(":")
    return f"{start})" if colon and number.rstrip(")").isdigit() else frame
