"""What a worker tells its supervisor while traffic flows: what becomes of endpoints, exchanges that have failed, and
lines of the log while somebody looks at it.

It is collected on the loop, and leaves at the next tick in datagrams, on a pair of Unix sockets that all workers share.
What is too much for a second is left out, and its number told; what the socket has no room for waits, and past a bound
it is lost, and counted. So traffic never waits for the supervisor, and a flapping backend can't keep that busy.
"""

from __future__ import annotations

import pickle
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from fastgw.errors import CLIENTS_REASONS
from fastgw.net.failure_record import record_of
from fastgw.net.live_log import LiveLog
from fastgw.policy.redaction import Redaction

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.policy.log_filter import LogFilter
    from fastgw.ports import Log
    from fastgw.snapshot import AccessLog

# What a datagram says: one of these words, the worker's number, and
EVENTS = "events"  # a list of (kind, outcome, detail), and how many were left out
FAILURES = "failures"  # a list of FailureRecord, and how many were left out
LINES = "lines"  # a LogFilter, lines, how many those are, and how many were left out

# An endpoint that fails is ejected, tried and ejected again within seconds; a few upstreams may do so at once.
_EVENTS_PER_S = 20
# Of clients' failures, and of all others: enough to learn what goes wrong; how often it does is counted elsewhere.
_FAILURES_PER_S = 10
_SECOND_S = 1.0
# Datagrams that wait for room: a supervisor that is busy for a moment.
_WAITING_MAX = 16


class _Waiting(NamedTuple):
    """A datagram with so much news in it. One of lines has their filter, and how many those make with the left out."""

    datagram: bytes
    news: int
    filter: LogFilter | None = None
    lines: int = 0


class NewsSink:
    """`worker` is its number; `settings` are those of the log, whose fields are hidden here, too. `failed` is told of a
    bug, from inside its handler."""

    def __init__(
        self,
        sock: socket.socket,
        worker: int,
        settings: AccessLog,
        wall_offset: Callable[[], float],
        failed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._worker = worker
        self._wall_offset = wall_offset
        self._failed = failed
        self._redaction = Redaction(settings.redaction)
        self._events: list[tuple[str, str, str]] = []
        self._events_left_out = 0
        self._failures: list[Exchange] = []
        self._failures_left_out = 0
        # What may still be told in this second.
        self._events_left = _EVENTS_PER_S
        # By whether they are a client's: one who tries names must not hide what has failed here.
        self._failures_left = dict.fromkeys((False, True), _FAILURES_PER_S)
        self._second_ends = 0.0
        self._live: LiveLog | None = None
        # Lines that were lost, as long as nobody has been told.
        self._lost_lines: Counter[LogFilter] = Counter()
        self._waiting: list[_Waiting] = []
        self._lost = self._lost_taken = 0

    def tell(self, kind: str, outcome: str, detail: str) -> None:
        """Something has become of an endpoint or an upstream, as this worker sees it."""
        if self._events_left > 0:
            self._events_left -= 1
            self._events.append((kind, outcome, detail))
        else:
            self._events_left_out += 1

    def record(self, exchange: Exchange) -> None:
        """It has failed, and nothing about it changes any more."""
        is_clients = exchange.reason in CLIENTS_REASONS
        if self._failures_left[is_clients] > 0:
            self._failures_left[is_clients] -= 1
            self._failures.append(exchange)
        else:
            self._failures_left_out += 1

    def before(self, log: Log, settings: AccessLog, filters: Collection[LogFilter]) -> Log:
        """Where exchanges are to be recorded from now on: `log` itself, or what shows them to those who look, too."""
        self._redaction = Redaction(settings.redaction)
        self._take_lines(0.0)
        self._live = LiveLog(log, settings, filters, self._wall_offset) if filters else None
        self._lost_lines = Counter({one: lost for one, lost in self._lost_lines.items() if one in filters})
        return self._live or log

    def tick(self, now: float) -> None:
        self._take_events(now >= self._second_ends)
        self._take_failures()
        self._take_lines(now)
        if now >= self._second_ends:
            self._second_ends = now + _SECOND_S
            self._events_left = _EVENTS_PER_S
            self._failures_left = dict.fromkeys((False, True), _FAILURES_PER_S)
        if self._waiting:
            self._send()

    def _take_events(self, is_second_over: bool) -> None:
        # How many were too many is an event in turn: one in a second.
        events, left_out = self._events, self._events_left_out if is_second_over else 0
        if events or left_out:
            self._events, self._events_left_out = [], self._events_left_out - left_out
            self._put(_Waiting(self._datagram(EVENTS, events, left_out), len(events)))

    def _take_failures(self) -> None:
        failures, left_out = self._failures, self._failures_left_out
        if not failures and not left_out:
            return
        self._failures, self._failures_left_out = [], 0
        try:
            wall = self._wall_offset()
            records = [record_of(one, self._redaction, wall) for one in failures]
            self._put(_Waiting(self._datagram(FAILURES, records, left_out), len(records)))
        except Exception:
            # A bug here must not keep the rest from being told.
            self._lost += len(failures)
            self._failed()

    def _take_lines(self, now: float) -> None:
        if self._live is None:
            return
        try:
            for wanted, lines, number, left_out in self._live.taken(now):
                missing = left_out + self._lost_lines.pop(wanted, 0)
                datagram = self._datagram(LINES, wanted, lines, number, missing)
                self._put(_Waiting(datagram, number, wanted, number + missing))
        except Exception:
            self._failed()

    def _datagram(self, word: str, *said: object) -> bytes:
        return pickle.dumps((word, self._worker, *said), pickle.HIGHEST_PROTOCOL)

    def _put(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if len(self._waiting) > _WAITING_MAX:
            # Lines are the most of it, and the least worth.
            oldest = next((place for place, one in enumerate(self._waiting) if one.filter is not None), 0)
            self._lose(self._waiting.pop(oldest))

    def _lose(self, waiting: _Waiting) -> None:
        self._lost += waiting.news
        if waiting.filter is not None:
            self._lost_lines[waiting.filter] += waiting.lines

    def _send(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0].datagram)
            except BlockingIOError:
                return
            except OSError:
                # It is too large, or nobody is there any more.
                self._lose(self._waiting[0])
            del self._waiting[0]

    def newly_lost(self) -> int:
        """How much news since the last time."""
        lost, self._lost_taken = self._lost - self._lost_taken, self._lost
        return lost

    def close(self) -> None:
        self.tick(float("inf"))
