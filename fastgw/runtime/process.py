"""What the process of a gateway needs before it begins: standard files, signals, a limit on files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys

# They would end a process that has no handler for them yet.
_EARLY_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


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


def hold_signals_back() -> None:
    """Those that come now wait for their handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY_SIGNALS)


def let_signals_in() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _EARLY_SIGNALS)


def ignore_signals(loop: asyncio.AbstractEventLoop) -> None:
    """From now on; all is done, and what comes behind the first word to stop must not kill what has ended well."""
    for number in (*_STOPS, *_EARLY_SIGNALS):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def raise_file_limit() -> None:
    # A connection costs a file or two; the soft limit of most shells is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
