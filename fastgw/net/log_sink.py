"""Where ended exchanges become access-log lines: encoded in batches, collected, handed to a writer.

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
    from fastgw.policy.kind import Record
    from fastgw.snapshot import AccessLog

# As many batches are written at once.
_BATCHES = 32


class NoLog:
    """`path = "off"`."""

    def __init__(self, dropped_before: int = 0) -> None:
        self.dropped_before = dropped_before

    @property
    def dropped(self) -> int:
        return self.dropped_before

    def record(self, exchange: Exchange) -> None:
        pass

    def flush(self) -> None:
        pass

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class LogSink:
    """Takes ended exchanges; `flush`, and many of them, hand their lines to the writer.

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
        self._encoded: list[bytes] = []

    @property
    def dropped(self) -> int:
        """Lines that could not be written, since the worker began; it only grows."""
        return self.dropped_before + self._writer.dropped

    def take(self, records: list[Record]) -> None:
        if self._rules is not None:
            keeps = self._rules.keeps
            records = [record for record in records if keeps(record[0])]
            if not records:
                return
        try:
            self._encoded.append(self._encoder.encode(records, self._wall_offset()))
        except Exception:
            self._writer.lose(len(records), "lines could not be made")
            self._failed()
        if len(self._encoded) >= _BATCHES:
            self.flush()

    def flush(self) -> None:
        if self._encoded:
            lines, self._encoded = b"".join(self._encoded), []
            self._writer.put(lines)

    def reopen(self) -> None:
        self._writer.reopen()

    def close(self) -> None:
        self.flush()
        self._writer.close()
