"""What the program says of itself, on standard error: one line each."""

from __future__ import annotations

import sys
import traceback


def report(message: str) -> None:
    """One line for whoever runs the gateway."""
    print(f"fastgw: {message}", file=sys.stderr, flush=True)  # noqa: T201


def report_exception() -> None:
    """An exception on the data plane, from inside its handler: a bug, so with its traceback."""
    report("a bug: an exception on the data plane\n" + traceback.format_exc())
