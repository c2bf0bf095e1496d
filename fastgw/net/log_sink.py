"""Where ended exchanges become access-log lines: collected on the loop, encoded in batches, handed to a writer.

Traffic never waits for the disk or the pipe: what the writer can't take is dropped, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastgw.net.log_file import LogFile
from fastgw.net.log_writer import Target, Writer
from fastgw.net.syslog import Syslog
from fastgw.policy.access_log import LineEncoder
from fastgw.policy.log_rule import LogRules

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.snapshot import AccessLog

# Few enough that what an exchange touched is still in the processor's cache when its line is made.
_BATCH = 32
_FLUSH_S = 0.5


class NoLog:
    """`path = "off"`."""

    def __init__(self, dropped_before: int = 0) -> None:
        self.dropped_before = dropped_before

    @property
    def dropped(self) -> int:
        return self.dropped_before

    def record(self, exchange: Exchange) -> None:
        pass

    def tick(self, now: float) -> None:
        pass

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class LogSink:
    """Collects ended exchanges; `tick` and full batches hand their lines to the writer.

    `dropped_before` is what those before it have lost.
    """

    def __init__(
        self,
        settings: AccessLog,
        wall_offset: Callable[[], float],
        report: Callable[[str], None],
        failed: Callable[[], None],
        dropped_before: int = 0,
    ) -> None:
        self._failed = failed
        self._encoder = LineEncoder(settings.format, settings.fields, settings.redaction, settings.rule)
        # None: all exchanges get a line.
        self._rules = LogRules(settings.rule) if settings.rule is not None else None
        target: Target = LogFile(settings.path)
        if settings.syslog is not None:
            target = Syslog(settings.syslog, settings.path, lambda: time.monotonic() + wall_offset())
        self._writer = Writer(target, report)
        self._wall_offset = wall_offset
        self.dropped_before = dropped_before
        self._batch: list[Exchange] = []
        self._encoded: list[bytes] = []
        self._flush_at = 0.0

    @property
    def dropped(self) -> int:
        """Lines that could not be written, since the worker began; it only grows."""
        return self.dropped_before + self._writer.dropped

    def record(self, exchange: Exchange) -> None:
        if self._rules is not None and not self._rules.keeps(exchange):
            return
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
            self._writer.lose(len(batch), "lines could not be made")
            self._failed()
        if len(self._encoded) >= _BATCH:
            lines, self._encoded = b"".join(self._encoded), []
            self._writer.put(lines)

    def reopen(self) -> None:
        self._writer.reopen()

    def close(self) -> None:
        self.flush()
        self._writer.close()
