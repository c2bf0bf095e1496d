"""How traces are handed to a collector: a bounded backlog, batches by OTLP over HTTP, and patience.

What a collector does not take now is offered again, less and less often, until it does; meanwhile the oldest of the
backlog make room for the newest, and are counted as lost. What it refuses for good is lost at once.
https://opentelemetry.io/docs/specs/otlp/#otlphttp-response
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastgw.runtime.events import DONE, FAILED
from fastgw.runtime.otlp import encode, rejected_spans, resource_of

if TYPE_CHECKING:
    from fastgw.config.trace_settings import TraceExport
    from fastgw.net.trace_record import TraceRecord

# Of exchanges: 10 to 50 MiB, and what one worker records in a few seconds when it records everything.
BACKLOG_MAX = 20_000
# Of exchanges in one request; about 500 KiB.
_BATCH = 256
# How long the first of a batch waits for others.
_WAIT_S = 1.0
# Between two offers of the same batch, twice as long each time.
_PAUSE_S = 1.0
_PAUSE_MAX_S = 30.0
# What a collector may ask for.
_RETRY_AFTER_MAX_S = 120.0
# Of one request; what OpenTelemetry's own exporters give.
_TIMEOUT_S = 10.0
# What the specification calls retryable.
_RETRYABLE = frozenset((429, 502, 503, 504))
# Of an answer; what is longer is no OTLP.
_ANSWER_SIZE_MAX = 1024 * 1024


class Backlog:
    """What waits to be exported. Filled by one thread, and emptied by another."""

    def __init__(self, size: int = BACKLOG_MAX) -> None:
        self._size = size
        self._records: deque[TraceRecord] = deque()
        self._filled = threading.Condition()
        self._is_ending = False
        self._lost = 0

    def put(self, records: Iterable[TraceRecord]) -> None:
        with self._filled:
            self._records.extend(records)
            while len(self._records) > self._size:
                self._records.popleft()
                self._lost += 1
            self._filled.notify()

    def take(self, count: int, wait_s: float) -> list[TraceRecord]:
        """As many at the most; waits for the first, and then for as long for others. Empty: nothing came."""
        with self._filled:
            self._filled.wait_for(lambda: self._records or self._is_ending, wait_s)
            self._filled.wait_for(lambda: len(self._records) >= count or self._is_ending, wait_s)
            return [self._records.popleft() for _ in range(min(count, len(self._records)))]

    def lost(self) -> int:
        """How many since the last time."""
        with self._filled:
            lost, self._lost = self._lost, 0
            return lost

    def end(self) -> None:
        """Nothing is waited for any more."""
        with self._filled:
            self._is_ending = True
            self._filled.notify()

    @property
    def is_ending(self) -> bool:
        return self._is_ending

    def __len__(self) -> int:
        return len(self._records)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a request. `why` is empty where it was taken; `rejected` spans of it were not, for all that.
    Else it `is_retried`, after as many seconds as the collector says, if it does."""

    why: str = ""
    is_retried: bool = False
    retry_after: float = 0.0
    rejected: int = 0


class Collector:
    """Where traces are sent to."""

    def __init__(self, export: TraceExport) -> None:
        parts = urlsplit(export.endpoint)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        # The specification's path, below what the endpoint has.
        self._path = parts.path.rstrip("/") + "/v1/traces"
        self._headers = {
            "User-Agent": "fastgw",
            "Content-Type": "application/x-protobuf",
            **dict(export.headers),
        }

    def offer(self, body: bytes) -> Outcome:
        """Waits for the answer."""
        was_open = self._connection.sock is not None
        try:
            return self._post(body)
        except ConnectionError as error:
            self._connection.close()
            if was_open:
                # It was kept, and the collector has closed it meanwhile: that says nothing.
                return self.offer(body)
            return Outcome(str(error), is_retried=True)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome(str(error) or type(error).__name__, is_retried=True)

    def _post(self, body: bytes) -> Outcome:
        self._connection.request("POST", self._path, body, self._headers)
        answer = self._connection.getresponse()
        status, retry_after = answer.status, answer.getheader("Retry-After", "")
        content = answer.read(_ANSWER_SIZE_MAX)
        if not answer.isclosed():
            self._connection.close()
        if status // 100 == 2:
            return Outcome(rejected=rejected_spans(content))
        seconds = min(float(retry_after), _RETRY_AFTER_MAX_S) if retry_after.isdecimal() else 0.0
        return Outcome(f"it answers {status}", status in _RETRYABLE, seconds)

    def close(self) -> None:
        self._connection.close()


class Exporter:
    """Empties the backlog into a collector. `pause` waits for as many seconds, or until something has changed;
    `count` is told how many exchanges were exported and how many lost, and `tell` what people should know."""

    def __init__(
        self,
        backlog: Backlog,
        pause: Callable[[float], object],
        count: Callable[[int, int], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._backlog = backlog
        self._pause = pause
        self._count = count
        self._tell = tell
        self._trouble = ""
        # A batch that was offered in vain.
        self._left: list[TraceRecord] = []
        self._pause_s = _PAUSE_S

    @property
    def is_empty(self) -> bool:
        return not self._left and not len(self._backlog)

    def step(self, export: TraceExport, collector: Collector) -> bool:
        """Offers one batch, if there is one, and waits where that was in vain; whether it was not."""
        batch = self._left or self._backlog.take(_BATCH, _WAIT_S)
        self._left = []
        if lost := self._backlog.lost():
            self._count(0, lost)
        if not batch:
            return True
        outcome = collector.offer(encode(batch, resource_of(export.service_name, export.attributes)))
        if not outcome.why:
            self._count(len(batch), 0)
            self._is_well(export)
            self._pause_s = _PAUSE_S
            if outcome.rejected:
                self._tell(FAILED, f"{export.endpoint} has not taken {outcome.rejected} spans of a request")
        elif outcome.is_retried:
            self._left = batch
            self._is_troubled(f"{export.endpoint} takes no traces: {outcome.why}; they are offered again")
            self._pause(max(self._pause_s, outcome.retry_after))
            self._pause_s = min(self._pause_s * 2, _PAUSE_MAX_S)
        else:
            self._count(0, len(batch))
            self._is_troubled(f"{export.endpoint} refuses traces: {outcome.why}; they are lost")
        return not outcome.why

    def give_up(self) -> None:
        """Nobody waits any more for what is left."""
        left = self._left + self._backlog.take(BACKLOG_MAX, 0)
        self._left = []
        if left:
            self._count(0, len(left))

    def _is_troubled(self, trouble: str) -> None:
        if not self._trouble:
            self._tell(FAILED, trouble)
        self._trouble = trouble

    def _is_well(self, export: TraceExport) -> None:
        if self._trouble:
            self._trouble = ""
            self._tell(DONE, f"{export.endpoint} takes traces again")
