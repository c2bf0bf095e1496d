"""`python -m tests`: all checks, one after the other; the first that fails ends it.

What can't run here is said: the benchmarks need wrk, which not every machine has (with CI set, it must).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# More gateways at once only make each other slow, and a test or two fail that wait for something.
_BESIDE = str(min(len(os.sched_getaffinity(0)), 4))
# The tests come last, so that their summary is what one sees.
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff", ("-m", "ruff", "check", ".")),
    ("mypy", ("-m", "mypy")),
    ("a smoke run of the benchmarks", ("-m", "benchmarks", "--smoke")),
    ("a smoke run of the benchmark of resilience", ("-m", "benchmarks.resilience", "--smoke")),
    # Files beside each other: most of the time goes into starting gateways, and much of the rest is waited. As they
    # come, or the longest tests, of which few files have many, would be the last ones.
    ("pytest", ("-m", "pytest", "-n", _BESIDE, "--dist", "loadfile", "--no-loadscope-reorder")),
)


def main() -> int:
    for name, arguments in STEPS:
        print(f"== {name}: python {' '.join(arguments)}", flush=True)
        if "benchmarks" in arguments and shutil.which("wrk") is None and not os.environ.get("CI"):
            print("skipped: wrk is not installed (Debian: apt-get install wrk nginx-light haproxy)", flush=True)
            continue
        status = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
        if status:
            print(f"== {name} failed with status {status}", flush=True)
            return 1
    print("== all checks passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
