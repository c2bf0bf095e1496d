"""What workers tell while traffic flows, as the supervisor hears it: the sockets that it travels on, and who gets it.

The sockets live as long as the supervisor, so that a worker that dies takes nothing with it that others have said.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from typing import TYPE_CHECKING

from fastgw.net import news_sink
from fastgw.policy.log_filter import LogFilter
from fastgw.runtime.report import report_bug

if TYPE_CHECKING:
    from fastgw.runtime.events import Events
    from fastgw.runtime.failures import Failures
    from fastgw.runtime.live_log import LiveLogs

# More than the kernel queues by default (net.unix.max_dgram_qlen); what else there is to do has its turn in between.
_AT_ONCE = 32
# A datagram of a worker has less.
_DATAGRAM_MAX = 1024 * 1024
# Or what the kernel allows (net.core.wmem_max): a supervisor that is busy for a moment.
_BUFFER_BYTES = 1024 * 1024


class NewsSockets:
    """`workers` is what all of them send to, and `supervisor` where that arrives, each datagram whole."""

    def __init__(self) -> None:
        self.supervisor, self.workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self.workers.setblocking(False)
        self.supervisor.setblocking(False)

    def close(self) -> None:
        self.supervisor.close()
        self.workers.close()


class News:
    """Reads it on the loop, and passes it on."""

    def __init__(self, sockets: NewsSockets, events: Events, failures: Failures, live_logs: LiveLogs) -> None:
        self._sockets = sockets
        self._events = events
        self._failures = failures
        self._live_logs = live_logs

    def begin(self) -> None:
        asyncio.get_running_loop().add_reader(self._sockets.supervisor, self._read)

    def close(self) -> None:
        """Hears what has come, and nothing more."""
        self._read()
        asyncio.get_running_loop().remove_reader(self._sockets.supervisor)
        self._sockets.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                datagram = self._sockets.supervisor.recv(_DATAGRAM_MAX)
            except BlockingIOError:
                return
            try:
                self._hear(pickle.loads(datagram))
            except Exception as error:
                # What one worker says must not keep the others' from being heard.
                report_bug(error)

    def _hear(self, message: tuple[object, ...]) -> None:
        match message:
            case (news_sink.EVENTS, int(worker), list(events), int(left_out)):
                for kind, outcome, detail in events:
                    self._events.note(kind, outcome, f"worker {worker}: {detail}")
                if left_out:
                    self._events.note("upstream", "left-out", f"worker {worker}: {left_out} more events in a second")
            case (news_sink.FAILURES, int(worker), list(records), int(left_out)):
                self._failures.add(worker, records, left_out)
            case (news_sink.LINES, int(), LogFilter() as wanted, bytes(lines), int(count), int(left_out)):
                self._live_logs.add(wanted, lines, count, left_out)
