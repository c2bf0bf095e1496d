"""What is noted of one worker's traffic: lines of the access log, counts, traces, and news for the supervisor."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from fastgw.counters import BUCKET_OF, BUCKETS, LAG, LOST_LINES, LOST_NEWS, LOST_TRACES, WORKER
from fastgw.net.clock import TICK_S, wall_offset
from fastgw.net.ended import Ended
from fastgw.net.log_sink import LogSink, NoLog
from fastgw.net.trace_sink import TraceSink
from fastgw.policy.metrics import ExchangeCounts
from fastgw.rows import Rows
from fastgw.runtime.report import report, report_exception
from fastgw.tracing import Tracer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fastgw.gateway import Gateway
    from fastgw.net.news_sink import NewsSink
    from fastgw.runtime.messages import Filters
    from fastgw.runtime.row_layout import Layout
    from fastgw.snapshot import AccessLog, Snapshot

# How often lines are handed to their writer, and what was counted goes into the shared memory.
_FLUSH_S = 0.5


class Observation:
    """Of the traffic of `gateway`, whose snapshot says what is wanted. `records` is where traces are sent to, `news`
    where all else goes that the supervisor is told; `write_levels` writes how the upstreams are into `rows`."""

    def __init__(
        self, gateway: Gateway, records: socket.socket, news: NewsSink, write_levels: Callable[[], None]
    ) -> None:
        self.rows = Rows()
        self._gateway = gateway
        self._news = news
        self._write_levels = write_levels
        self._own_row = self.rows.row(WORKER, "")
        self._counts = ExchangeCounts(self.rows, report_exception)
        self._traces = TraceSink(records, wall_offset, report, report_exception)
        self._log = _open_log(gateway.snapshot.access_log)
        self._ended = Ended(())
        # Of those who look at the log as it is made.
        self._filters: Filters = ()
        # Lines of the log that are counted already as lost.
        self._lost_lines = 0
        # Whether another worker goes on from its counts.
        self._has_handed_over = False
        self._ticked = 0.0
        self._flush_at = 0.0
        gateway.traces = self._traces
        self._adopt(gateway.snapshot)

    async def adopt(self, old: Snapshot, new: Snapshot) -> None:
        """The gateway has another snapshot; returns when the log of the one before is written, or given up."""
        if new.access_log == old.access_log:
            self._adopt(new)
            return
        before = self._log
        self._log = _open_log(new.access_log, before.dropped)
        self._adopt(new)
        # It waits for its writer, and may lose something more on the way.
        await asyncio.to_thread(before.close)
        self._log.dropped_before = before.dropped

    def _adopt(self, snapshot: Snapshot) -> None:
        tracer = Tracer(snapshot.tracing, snapshot, random.getrandbits) if snapshot.tracing else None
        self._gateway.set_tracer(tracer)
        self._gateway.failures = self._news if snapshot.is_observed else None
        self._put_log_in_place(snapshot)

    def _put_log_in_place(self, snapshot: Snapshot) -> None:
        # What has ended so far is for those who took it till now.
        self._ended.flush()
        takers = [] if isinstance(self._log, NoLog) else [self._log.take]
        if snapshot.counts_requests:
            takers.append(self._counts.take)
        self._ended = Ended(takers)
        log = self._ended if takers else NoLog()
        self._gateway.log = self._news.before(log, snapshot.access_log, self._filters)

    def set_live_log(self, filters: Filters) -> None:
        """What is looked at of the log as it is made; nothing, if there are none."""
        self._filters = filters
        self._put_log_in_place(self._gateway.snapshot)

    def reopen_log(self) -> None:
        self._log.reopen()

    def set_layout(self, layout: Layout, memory: memoryview, number: int) -> None:
        """Where the rows go in the shared memory; this is worker `number`. Whoever has looked up a row looks again."""
        if self._has_handed_over:
            return
        self._ended.flush()
        self._counts.look_up_again()
        self.rows.adopt(layout.places, memory, number)
        self._own_row = self.rows.row(WORKER, "")

    def tick(self, now: float) -> None:
        late_us = max(0, int((now - self._ticked - TICK_S) * 1e6)) if self._ticked else 0
        self._ticked = now
        self._own_row[LAG + BUCKET_OF[late_us.bit_length()]] += 1
        self._own_row[LAG + BUCKETS] += late_us
        if now >= self._flush_at:
            self._flush_at = now + _FLUSH_S
            self._ended.flush()
            self._log.flush()
            if self._gateway.snapshot.is_observed:
                self._flush_rows()
        self._traces.tick(now)
        self._news.tick(now)

    def _flush_rows(self) -> None:
        lost = self._log.dropped
        self._own_row[LOST_LINES] += lost - self._lost_lines
        self._lost_lines = lost
        self._own_row[LOST_TRACES] += self._traces.newly_lost()
        self._own_row[LOST_NEWS] += self._news.newly_lost()
        self._write_levels()
        self._counts.add_to_rows()
        self.rows.flush()

    def hand_counts_over(self) -> None:
        """Another worker goes on from what has been counted so far; what is counted here from now on is lost."""
        self._has_handed_over = True
        self._ended.flush()
        self._flush_rows()
        self._counts.look_up_again()
        self.rows.adopt({}, memoryview(b"").cast("Q"), 0)

    def close(self) -> None:
        """Says what is left to say; nothing is carried any more."""
        self._ended.flush()
        self._traces.close()
        self._news.close()
        self._flush_rows()
        self._log.close()


def _open_log(settings: AccessLog, dropped_before: int = 0) -> LogSink | NoLog:
    if settings.path == "off":
        return NoLog(dropped_before)
    return LogSink(settings, wall_offset, report, report_exception, dropped_before)
