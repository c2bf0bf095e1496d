"""A file, a pipe or standard output, as a target of the access log."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys

from fastgw.net.log_writer import LinesLost

# How long a pipe is waited for before somebody looks at what else there is to do.
_LOOK_MS = 500

_NEWLINE = 10


def whole_lines(lines: memoryview) -> memoryview:
    """As many lines as a pipe takes in one piece (PIPE_BUF), or what it takes of one that is longer.

    More than that it may mix with what other workers write.
    """
    if len(lines) <= select.PIPE_BUF:
        return lines
    end = bytes(lines[: select.PIPE_BUF]).rfind(b"\n") + 1
    return lines[: end or select.PIPE_BUF]


class LogFile:
    """`path` is "stdout", or that of a file or a named pipe."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._fd = -1
        # Whether what was written ends a line, and whether a full disk has kept one from its end.
        self._at_line_end = True
        self._is_torn = False

    def write(self, lines: memoryview) -> int:
        """As Target.write. What a full disk does not take is lost."""
        try:
            fd = self._open()
            found = os.fstat(fd)
            return self._write_file(fd, lines, found) if stat.S_ISREG(found.st_mode) else _write_pipe(fd, lines)
        except OSError as error:
            self.close()
            if error.errno == errno.ENXIO:
                # A named pipe that nobody has opened for reading yet.
                raise
            self._is_torn = not self._at_line_end
            count = bytes(lines).count(b"\n")
            raise LinesLost(error.strerror or str(error), len(lines), count) from None

    def _write_file(self, fd: int, lines: memoryview, found: os.stat_result) -> int:
        if self._is_torn and found.st_size:
            os.write(fd, b"\n")
        self._is_torn = False
        written = os.write(fd, lines)
        if written:
            self._at_line_end = lines[written - 1] == _NEWLINE
        return written

    def _open(self) -> int:
        """Opened anew when it was moved away."""
        if self.name == "stdout":
            return sys.__stdout__.fileno() if sys.__stdout__ is not None else 1
        if self._fd >= 0 and self._was_moved():
            self.close()
        if self._fd < 0:
            # Without a wait for whoever may read a named pipe.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = os.open(self.name, flags, 0o640)
        return self._fd

    def _was_moved(self) -> bool:
        try:
            named = os.stat(self.name)
        except FileNotFoundError:
            return True
        opened = os.fstat(self._fd)
        return stat.S_ISREG(opened.st_mode) and (named.st_ino, named.st_dev) != (opened.st_ino, opened.st_dev)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_pipe(fd: int, lines: memoryview) -> int:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    if not poller.poll(_LOOK_MS):
        return 0
    try:
        return os.write(fd, whole_lines(lines))
    except BlockingIOError:
        # Another worker was faster.
        return 0
