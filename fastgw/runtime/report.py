"""What the program says of itself, on standard error: one line each."""

from __future__ import annotations

import contextlib
import sys
import traceback


def report(message: str) -> None:
    """One line for whoever runs the gateway. A full disk or a pipe that nobody reads is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        print(f"fastgw: {message}", file=sys.stderr, flush=True)  # noqa: T201


def report_exception() -> None:
    """An exception on the data plane, from inside its handler: a bug, so with its traceback."""
    report("a bug: an exception on the data plane\n" + traceback.format_exc())


def report_bug(error: BaseException) -> None:
    """An exception that nobody has foreseen, anywhere else."""
    report("a bug: " + "".join(traceback.format_exception(error)))
