"""What a request, and to observe it, costs in instructions: `python -m benchmarks.instructions [PART …]`.

Time tells nothing of a few percent where neighbours have their share of the caches; what valgrind counts (Debian:
`valgrind`) is the same from one run to the next, to a thousandth. The line and the parts are those of
`micro_observation`, without sockets and the kernel. Beside the instructions stand the accesses that miss caches of two
sizes, as valgrind simulates them: of 32 KiB each for code and data, as processors have for each core, and of 256 KiB,
as is left of the second level for a process beside the kernel's network code. What misses the latter is what a loop
alone never shows: it may have to come from memory again under load, at up to 200 ns each.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from itertools import count
from pathlib import Path

from benchmarks.micro_observation import CASES, line_with
from benchmarks.micro_policies import CLIENTS, NOTHING

# Of all clients: what comes before the first of them, and the first ones themselves, are in both counts.
_TURNS = (64, 320)
# By which the clock goes on at each look. A request looks a few times: that makes it as long as under load.
_LOOK_S = 20e-6
_VALGRIND = (
    "valgrind",
    "--tool=cachegrind",
    "--cache-sim=yes",
    "--I1=32768,8,64",
    "--D1=32768,8,64",
    "--LL=262144,8,64",
    "--cachegrind-out-file=/dev/null",
)
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request; misses are those of caches of 32 and of 256 KiB."""

    instructions: float
    misses: float
    far_misses: float


def run(part: str, turns: int) -> None:
    """What is counted. It ends the process."""
    looks = count()
    line, _ = line_with(CASES[part], lambda: 1000.0 + next(looks) * _LOOK_S)
    gc.collect()
    gc.disable()
    for _ in range(turns):
        line.turn()
    # What an end in order takes is no request's.
    os._exit(0)


def read_counts(told: str) -> tuple[int, int, int]:
    """Instructions and misses of the two sizes, as valgrind tells them. Raises ValueError when it tells none."""
    numbers = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"^==\d+== (\w+) +(?:refs|misses): +([\d,]+)", told, re.MULTILINE)
        if name != "D"
    }
    try:
        return numbers["I"], numbers["I1"] + numbers["D1"], numbers["LLi"] + numbers["LLd"]
    except KeyError as error:
        raise ValueError(f"valgrind has counted no {error.args[0]}:\n{told}") from None


def counted(part: str, turns: int) -> tuple[int, int, int]:
    command = [*_VALGRIND, sys.executable, "-m", "benchmarks.instructions", "--run", str(turns), part]
    # Hashes decide where in a dictionary something is found, and how soon.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return read_counts(done.stderr)


def costs(parts: Sequence[str], turns: tuple[int, int] = _TURNS) -> dict[str, Cost]:
    """Of each part. Raises ValueError, with what valgrind says, when it can't count."""
    requests = (turns[1] - turns[0]) * CLIENTS
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as beside:
        both = [[beside.submit(counted, part, number) for number in turns] for part in parts]
        pairs = [zip(*(one.result() for one in pair), strict=True) for pair in both]
    return {
        part: Cost(*((more - less) / requests for less, more in pair)) for part, pair in zip(parts, pairs, strict=True)
    }


def table(found: dict[str, Cost]) -> str:
    """The first one whole, and what the others cost more."""
    (first, base), *others = found.items()
    lines = [f"{'':30}{'instructions':>14}{'':>8}{'misses':>10}{'of 256 KiB':>12}"]
    lines.append(f"{first:30}{base.instructions:>14,.0f}{'':>8}{base.misses:>10.0f}{base.far_misses:>12.0f}")
    for name, cost in others:
        more = Cost(*(one - other for one, other in zip(astuple(cost), astuple(base), strict=True)))
        share = f"{more.instructions / base.instructions:+.1%}"
        lines.append(f"{name:30}{more.instructions:>+14,.0f}{share:>8}{more.misses:>+10.0f}{more.far_misses:>+12.0f}")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"(default: {', '.join(CASES)})")
    parser.add_argument("--run", type=int, metavar="TURNS", help="only do what is counted, with the first part")
    options = parser.parse_args(given)
    parts = list(dict.fromkeys(options.parts)) or list(CASES)
    unknown = [part for part in parts if part not in CASES]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of: {', '.join(CASES)}")
    if options.run is not None:
        run(parts[0], options.run)
    if shutil.which(_VALGRIND[0]) is None:
        parser.error("valgrind is not installed (Debian: apt-get install valgrind)")
    try:
        print(table(costs([NOTHING, *(part for part in parts if part != NOTHING)])))
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
