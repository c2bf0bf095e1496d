"""Large plain-text bodies, moved from socket to socket by the kernel: splice(2) through a pipe.

The transports of both sides stop reading while it runs. It works on duplicates of their file descriptors, since
uvloop lets nobody else wait on a descriptor that a transport has.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

from fastgw.net.clock import FOREVER, Sweep

# Fewer bytes than these are not worth the system calls around it.
SPLICE_MIN = 256 * 1024
# What one pipe may hold; past /proc/sys/fs/pipe-max-size the kernel's default of 64 KiB remains.
_PIPE_SIZE = 1024 * 1024
# How much is moved before other connections have their turn.
_TURN_BYTES = 4 * 1024 * 1024
# Empty pipes kept for the next.
_PIPES_KEPT = 32

# How it ended.
DONE = 0
SOURCE_BROKE = 1
SOURCE_STALLED = 2
SINK_BROKE = 3
SINK_STALLED = 4

_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
AVAILABLE = hasattr(os, "splice")

_pipes: list[tuple[int, int]] = []


def _take_pipe() -> tuple[int, int]:
    if _pipes:
        return _pipes.pop()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return reader, writer


def _take_descriptors(source: int, sink: int) -> tuple[tuple[int, int], int, int]:
    """A pipe, and duplicates of both ends; all of them, or OSError."""
    pipe = _take_pipe()
    taken: list[int] = []
    try:
        for descriptor in (source, sink):
            taken.append(os.dup(descriptor))
    except OSError:
        for descriptor in (*pipe, *taken):
            os.close(descriptor)
        raise
    return pipe, taken[0], taken[1]


def plain_descriptor(transport: asyncio.Transport) -> int:
    """The descriptor of a transport without encryption, or -1."""
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


class Splice:
    """Moves `remaining` bytes from `source` to `sink` (descriptors), then calls `ended` with one of the outcomes.

    Time-outs are in seconds without progress, by the side that is waited for. Raises OSError when there are no more
    descriptors.
    """

    __slots__ = (
        "_ended",
        "_in_pipe",
        "_loop",
        "_now",
        "_pipe",
        "_remaining",
        "_sink",
        "_sink_timeout",
        "_source",
        "_source_timeout",
        "_sweep",
        "_waited_for_sink",
        "_waits_for_sink",
        "deadline",
        "moved",
        "write_deadline",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sweep: Sweep,
        now: Callable[[], float],
        source: tuple[int, float],
        sink: tuple[int, float],
        remaining: int,
        ended: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._sweep = sweep
        self._now = now
        self._pipe, self._source, self._sink = _take_descriptors(source[0], sink[0])
        self._source_timeout = source[1]
        self._sink_timeout = sink[1]
        self._remaining = remaining
        self._ended = ended
        self._in_pipe = 0
        self._waits_for_sink = False
        self._waited_for_sink = False
        self.moved = 0
        self.write_deadline = FOREVER
        self.deadline = now() + self._source_timeout
        sweep.watched.add(self)
        loop.add_reader(self._source, self._move)

    def _move(self) -> None:
        """Moves what can be moved now."""
        turn = 0
        while turn < _TURN_BYTES:
            if not self._in_pipe:
                try:
                    count = os.splice(self._source, self._pipe[1], min(self._remaining, _PIPE_SIZE), flags=_FLAGS)
                except BlockingIOError:
                    self._wait(for_sink=False)
                    return
                except OSError:
                    self._end(SOURCE_BROKE)
                    return
                if count == 0:
                    self._end(SOURCE_BROKE)
                    return
                self._in_pipe = count
                self._remaining -= count
            try:
                count = os.splice(self._pipe[0], self._sink, self._in_pipe, flags=_FLAGS)
            except BlockingIOError:
                self._wait(for_sink=True)
                return
            except OSError:
                self._end(SINK_BROKE)
                return
            self._in_pipe -= count
            self.moved += count
            if not self._in_pipe and not self._remaining:
                # Before the turn's end is looked at: nobody would wake us again.
                self._end(DONE)
                return
            turn += count
        self._wait(for_sink=self._in_pipe > 0)

    def _wait(self, for_sink: bool) -> None:
        self.deadline = self._now() + (self._sink_timeout if for_sink else self._source_timeout)
        if for_sink != self._waits_for_sink:
            self._waits_for_sink = for_sink
            self._waited_for_sink = True
            if for_sink:
                self._loop.remove_reader(self._source)
                self._loop.add_writer(self._sink, self._move)
            else:
                self._loop.remove_writer(self._sink)
                self._loop.add_reader(self._source, self._move)

    def was_held_up(self) -> bool:
        """Whether it has had to wait for the sink since it was last asked."""
        waited, self._waited_for_sink = self._waited_for_sink, self._waits_for_sink
        return waited

    def overdue(self, now: float) -> None:
        if self._source < 0:
            return
        self._end(SINK_STALLED if self._waits_for_sink else SOURCE_STALLED)

    def cancel(self) -> None:
        """Stops without telling."""
        if self._source < 0:
            return
        self._sweep.watched.discard(self)
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)
        os.close(self._source)
        os.close(self._sink)
        self._source = -1
        if self._in_pipe or len(_pipes) >= _PIPES_KEPT:
            os.close(self._pipe[0])
            os.close(self._pipe[1])
        else:
            _pipes.append(self._pipe)

    def _end(self, outcome: int) -> None:
        self.cancel()
        self._ended(outcome)
