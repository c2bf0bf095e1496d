"""What the program says of itself, on standard error: one line each."""

from __future__ import annotations

import contextlib
import os
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


def ensure_standard_files() -> None:
    """Opens those of standard input, output and error that are closed, to and from nowhere: else the next file that is
    opened would be one of them, and get what is meant for it."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest one that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
