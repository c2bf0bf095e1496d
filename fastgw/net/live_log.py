"""A log that somebody looks at while it is made: it stands before the log itself, as long as somebody does.

Whoever looks sees lines of all exchanges that its filter takes, whatever share of them the log keeps, and no more than
so many a second; what is left out is counted. When nobody looks any more the log takes its place again, and nothing of
this is on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastgw.policy.access_log import LineEncoder
from fastgw.policy.kind import Kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fastgw.exchange import Exchange
    from fastgw.policy.log_filter import LogFilter
    from fastgw.ports import Log
    from fastgw.snapshot import AccessLog

# More than anybody can read; what is shown costs a worker less than 2 ms a second. Different filters share it.
LINES_PER_S = 200
_SECOND_S = 1.0
# Tail, head and kernel together have to fit into one datagram.
_PIECE_BYTES = 64 * 1024


class Piece(NamedTuple):
    """What a filter has taken: so many lines, each ended by a newline, and how many more were left out."""

    filter: LogFilter
    lines: bytes
    number: int
    left_out: int


class _Wanted:
    """One filter, and what it has taken since it was last looked at."""

    __slots__ = ("allowance", "batch", "filter", "left_out", "most")

    def __init__(self, wanted: LogFilter, most: int) -> None:
        self.filter = wanted
        self.most = self.allowance = most
        self.batch: list[Exchange] = []
        self.left_out = 0


class LiveLog:
    """`filters` are those of all who look, each once. `wall_offset` as for LogSink."""

    def __init__(
        self, log: Log, settings: AccessLog, filters: Collection[LogFilter], wall_offset: Callable[[], float]
    ) -> None:
        self._record = log.record
        # Whatever the log's own lines look like.
        self._encoder = LineEncoder("json", settings.fields, settings.redaction, settings.rule)
        self._kinds = Kinds()
        self._wanted = [_Wanted(one, max(1, LINES_PER_S // len(filters))) for one in filters]
        self._wall_offset = wall_offset
        self._second_ends = 0.0

    def record(self, exchange: Exchange) -> None:
        self._record(exchange)
        for wanted in self._wanted:
            if wanted.filter.takes(exchange):
                if wanted.allowance > 0:
                    wanted.allowance -= 1
                    wanted.batch.append(exchange)
                else:
                    wanted.left_out += 1

    def taken(self, now: float) -> list[Piece]:
        """What has come since the last time, to be called at every tick."""
        pieces: list[Piece] = []
        for wanted in self._wanted:
            batch, left_out = wanted.batch, wanted.left_out
            if batch or left_out:
                wanted.batch, wanted.left_out = [], 0
                pieces += self._pieces(wanted.filter, batch, left_out)
        if now >= self._second_ends:
            self._second_ends = now + _SECOND_S
            for wanted in self._wanted:
                wanted.allowance = wanted.most
        return pieces

    def _pieces(self, wanted: LogFilter, batch: list[Exchange], left_out: int) -> list[Piece]:
        """The lines in pieces of a datagram's size. One that is longer than that is left out."""
        pieces: list[Piece] = []
        lines: list[bytes] = []
        size = 0
        wall = self._wall_offset()
        for record in self._kinds.records(batch):
            line = self._encoder.encode((record,), wall)
            if len(line) > _PIECE_BYTES:
                left_out += 1
                continue
            if size + len(line) > _PIECE_BYTES:
                pieces.append(Piece(wanted, b"".join(lines), len(lines), 0))
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        return [*pieces, Piece(wanted, b"".join(lines), len(lines), left_out)]
