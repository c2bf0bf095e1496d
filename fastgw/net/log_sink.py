"""Where access-log lines go: collected on the loop, encoded in batches, written by a thread.

Traffic never waits for the disk or the pipe: what the writer can't take is dropped, and counted.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastgw.policy.access_log import LineEncoder

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.snapshot import AccessLog

# Few enough that what an exchange touched is still in the processor's cache when its line is made.
_BATCH = 32
# What waits for a slow disk or pipe at the most; about 25,000 lines.
_BACKLOG_BYTES = 8 * 1024 * 1024
_FLUSH_S = 0.5
# At stopping, how long a writer that is stuck is waited for.
_CLOSE_S = 2.0


class NoLog:
    """`path = "off"`."""

    lost = 0

    def record(self, exchange: Exchange) -> None:
        pass

    def tick(self, now: float) -> None:
        pass

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class LogSink:
    """Collects ended exchanges; `tick` and full batches hand their lines to the writer."""

    def __init__(
        self,
        settings: AccessLog,
        wall_offset: Callable[[], float],
        report: Callable[[str], None],
        failed: Callable[[], None],
    ) -> None:
        self._failed = failed
        self._encoder = LineEncoder(settings.format, settings.fields)
        self._writer = Writer(settings.path, report)
        self._wall_offset = wall_offset
        self._batch: list[Exchange] = []
        self._encoded: list[bytes] = []
        self._flush_at = 0.0

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._writer.lost

    def record(self, exchange: Exchange) -> None:
        batch = self._batch
        batch.append(exchange)
        if len(batch) >= _BATCH:
            self._encode()

    def tick(self, now: float) -> None:
        if now >= self._flush_at:
            self._flush_at = now + _FLUSH_S
            self.flush()

    def flush(self) -> None:
        if self._batch:
            self._encode()
        if self._encoded:
            lines, self._encoded = b"".join(self._encoded), []
            self._writer.put(lines)

    def _encode(self) -> None:
        batch, self._batch = self._batch, []
        try:
            self._encoded.append(self._encoder.encode(batch, self._wall_offset()))
        except Exception:
            # A bug in a line must not become one in the exchange that ended last.
            self._writer.lose(len(batch))
            self._failed()
        if len(self._encoded) >= _BATCH:
            lines, self._encoded = b"".join(self._encoded), []
            self._writer.put(lines)

    def reopen(self) -> None:
        self._writer.reopen()

    def close(self) -> None:
        self.flush()
        self._writer.close()


def whole_lines(lines: memoryview) -> memoryview:
    """As many lines as a pipe takes in one piece (PIPE_BUF), or what it takes of one that is longer.

    More than that it may mix with what other workers write.
    """
    if len(lines) <= select.PIPE_BUF:
        return lines
    end = bytes(lines[: select.PIPE_BUF]).rfind(b"\n") + 1
    return lines[: end or select.PIPE_BUF]


class Writer:
    """A thread that writes what it is given to a file or to standard output."""

    def __init__(self, path: str, report: Callable[[str], None]) -> None:
        self._path = path
        self._report = report
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._reopen = False
        self._stopping = False
        self.lost = 0
        self._lost_told = 0
        self._trouble = ""
        self._fd = -1
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def put(self, lines: bytes) -> None:
        with self._wake:
            if self._waiting_bytes + len(lines) > _BACKLOG_BYTES:
                self.lost += lines.count(b"\n")
            else:
                self._waiting.append(lines)
                self._waiting_bytes += len(lines)
            self._wake.notify()

    def lose(self, lines: int) -> None:
        """Counts lines that could not be made."""
        with self._wake:
            self.lost += lines

    def reopen(self) -> None:
        with self._wake:
            self._reopen = True
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._stopping or self._reopen):
                    self._wake.wait()
                lines = self._waiting.popleft() if self._waiting else b""
                reopen, self._reopen = self._reopen, False
            if reopen:
                self._close_file()
            if lines:
                self._write(lines)
                with self._wake:
                    self._waiting_bytes -= len(lines)
                self._tell_of_losses()
            elif self._stopping:
                self._close_file()
                return

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        try:
            fd = self._open_file()
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
            while rest:
                rest = rest[os.write(fd, rest if is_file else whole_lines(rest)) :]
        except OSError as error:
            # A full disk must not end the writer; what could not be written counts as lost.
            with self._wake:
                self.lost += bytes(rest).count(b"\n")
            trouble = f"access log {self._path}: {error.strerror}"
            if trouble != self._trouble:
                self._trouble = trouble
                self._report(trouble)
            self._close_file()
        else:
            self._trouble = ""

    def _open_file(self) -> int:
        """The file; opened anew when it was moved away."""
        if self._path == "stdout":
            return sys.__stdout__.fileno() if sys.__stdout__ is not None else 1
        if self._fd >= 0 and self._was_moved():
            self._close_file()
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return self._fd

    def _was_moved(self) -> bool:
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return True
        opened = os.fstat(self._fd)
        return stat.S_ISREG(opened.st_mode) and (named.st_ino, named.st_dev) != (opened.st_ino, opened.st_dev)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tell_of_losses(self) -> None:
        if self.lost != self._lost_told:
            lost, self._lost_told = self.lost - self._lost_told, self.lost
            self._report(f"access log {self._path}: {lost} lines lost, the writer could not keep up")
