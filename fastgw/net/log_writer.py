"""The thread that takes the access log's lines to their target, and what is told of those that get lost.

Traffic never waits for the target: what it can't take in time is dropped and counted. A trouble is told once, when it
begins, and once more when it is over, with what it has cost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

# What waits for a slow target at the most; about 25,000 lines.
_BACKLOG_BYTES = 8 * 1024 * 1024
# At stopping, how long a target that is stuck is waited for, and how much longer until that has been told.
_CLOSE_S = 2.0
_LAST_WORD_S = 1.0
# Before a target that can't be reached is tried again.
_RETRY_S = 1.0
# A trouble is over when lines are taken and nothing has gone wrong for so long: one that comes and goes is one trouble.
_CALM_S = 2.0

_TOO_FAST = "lines come faster than they are taken"


class LinesLost(OSError):
    """The first `taken` bytes of the lines are done with, and `count` lines are lost."""

    def __init__(self, why: str, taken: int, count: int) -> None:
        super().__init__(why)
        self.taken = taken
        self.count = count


class Target(Protocol):
    """Where lines go. All calls come from one thread, which they may block for a moment."""

    name: str

    def write(self, lines: memoryview) -> int:
        """Takes some of the lines, and says how many bytes; 0: it has no room for now.

        Raises LinesLost when some can't be had any more, and another OSError when they can be tried again.
        """

    def close(self) -> None:
        """The next `write` opens it anew."""


class Writer:
    """A thread that gives lines to a target. `now` is a monotonic clock."""

    def __init__(
        self, target: Target, report: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._report = report
        self._now = now
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._reopen = False
        self._stopping = False
        self._give_up_at = 0.0
        # Lines; it only grows. What was noticed of it, and told.
        self.dropped = 0
        self._noticed = 0
        self._told = 0
        # Why the last ones were, and the trouble that is not over yet.
        self._why = ""
        self._trouble = ""
        self._troubled_at = 0.0
        # Whether anything was written since.
        self._has_recovered = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def put(self, lines: bytes) -> None:
        with self._wake:
            if self._waiting_bytes + len(lines) > _BACKLOG_BYTES:
                self.dropped += lines.count(b"\n")
                self._why = _TOO_FAST
            else:
                self._waiting.append(lines)
                self._waiting_bytes += len(lines)
            self._wake.notify()

    def lose(self, count: int, why: str) -> None:
        """Counts lines that never will be written."""
        with self._wake:
            self.dropped += count
            self._why = why

    def reopen(self) -> None:
        with self._wake:
            self._reopen = True
            self._wake.notify()

    def close(self) -> None:
        """Returns when all is written, or given up."""
        with self._wake:
            self._stopping = True
            self._give_up_at = self._now() + _CLOSE_S
            self._wake.notify()
        self._thread.join(_CLOSE_S + _LAST_WORD_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                if not (self._waiting or self._stopping or self._reopen):
                    # That a trouble is over is told without another line, too.
                    self._wake.wait(_CALM_S if self._trouble else None)
                lines = self._waiting.popleft() if self._waiting else b""
                reopen, self._reopen = self._reopen, False
            if reopen:
                self._target.close()
            if lines:
                self._write(lines)
                with self._wake:
                    self._waiting_bytes -= len(lines)
            elif self._stopping:
                self._target.close()
                self._tell_losses("ends")
                return
            self._look()

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        # After a loss, that these lines are taken says nothing: UDP takes each, and tells with the next one.
        has_lost = False
        while rest:
            try:
                taken = self._target.write(rest)
                rest = rest[taken:]
                self._has_recovered |= taken > 0 and not has_lost
                if not taken and self._stopping and self._now() >= self._give_up_at:
                    self._give_up(rest, _TOO_FAST)
                    return
            except LinesLost as error:
                self.lose(error.count, str(error))
                rest = rest[error.taken :]
                has_lost = True
            except OSError as error:
                why = error.strerror or str(error)
                if self._stopping:
                    self._give_up(rest, why)
                    return
                self._begin_trouble(why)
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, _RETRY_S)
            self._notice_losses()

    def _give_up(self, rest: memoryview, why: str) -> None:
        """Nothing of what waits is written any more: the process is to end, or another target has its place."""
        with self._wake:
            left = [bytes(rest), *self._waiting]
            self._waiting.clear()
        self.lose(sum(lines.count(b"\n") for lines in left), why)

    # What is told.

    def _notice_losses(self) -> None:
        dropped = self.dropped
        if dropped != self._noticed:
            self._noticed = dropped
            self._begin_trouble(self._why)

    def _begin_trouble(self, why: str) -> None:
        self._troubled_at = self._now()
        self._has_recovered = False
        if not self._trouble:
            self._trouble = why
            self._report(f"access log {self._target.name}: {why}; lines may get lost until that is over")

    def _look(self) -> None:
        """Whether a trouble has begun, or is over."""
        self._notice_losses()
        is_calm = self._has_recovered and not self._waiting
        if self._trouble and is_calm and self._now() - self._troubled_at >= _CALM_S:
            self._trouble = ""
            self._tell_losses("is well again")

    def _tell_losses(self, state: str) -> None:
        lost, self._told = self.dropped - self._told, self.dropped
        if lost or state != "ends":
            self._report(f"access log {self._target.name} {state}: {lost} lines were lost")
