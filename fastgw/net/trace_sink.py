"""Where recorded traces go: collected on the loop, and sent in batches to the process that exports them.

Each batch is one datagram on a pair of Unix sockets that all workers share; what the socket has no room for is lost,
and counted. So traffic never waits for the exporter, whatever that waits for; one that dies finds what has come
meanwhile when it starts again.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastgw.net.trace_record import record_of

if TYPE_CHECKING:
    from fastgw.exchange import Exchange

# A record has 0.5 to 5 KiB, and the kernel takes 200 KiB in one piece (net.core.wmem_default).
_BATCH = 32
_FLUSH_S = 0.5
# Whoever was told once that some are lost knows it for a while.
_TOLD_EVERY_S = 60.0


class TraceSink:
    """Collects ended exchanges; `tick` and full batches send them. `failed` is told of a bug, from inside its
    handler."""

    def __init__(
        self,
        sock: socket.socket,
        wall_offset: Callable[[], float],
        report: Callable[[str], None],
        failed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._wall_offset = wall_offset
        self._report = report
        self._failed = failed
        self._batch: list[Exchange] = []
        self._flush_at = 0.0
        self._now = 0.0
        self._told_at = float("-inf")
        # Exchanges whose record could not be sent, as far as they were told, and counted by others.
        self._lost = self._lost_told = self._lost_taken = 0

    def record(self, exchange: Exchange) -> None:
        self._batch.append(exchange)
        if len(self._batch) >= _BATCH:
            self.flush()

    def tick(self, now: float) -> None:
        self._now = now
        if now >= self._flush_at:
            self._flush_at = now + _FLUSH_S
            if self._batch:
                self.flush()
            self._tell_of_losses()

    def flush(self) -> None:
        batch, self._batch = self._batch, []
        try:
            wall = self._wall_offset()
            records = [record_of(one, one.trace, wall) for one in batch if one.trace is not None]
            self._send(pickle.dumps(records, pickle.HIGHEST_PROTOCOL), len(batch))
        except Exception:
            # A bug here must not become one in the exchange that ended last.
            self._lost += len(batch)
            self._failed()

    def _send(self, datagram: bytes, count: int) -> None:
        try:
            self._socket.send(datagram)
        except OSError:
            # It is full, or the batch is too large for it.
            self._lost += count

    def _tell_of_losses(self) -> None:
        lost = self._lost - self._lost_told
        if lost and self._now - self._told_at >= _TOLD_EVERY_S:
            self._lost_told, self._told_at = self._lost, self._now
            self._report(f"tracing: the traces of {lost} exchanges are lost, the exporter does not keep up")

    def newly_lost(self) -> int:
        """How many exchanges since the last time."""
        lost, self._lost_taken = self._lost - self._lost_taken, self._lost
        return lost

    def close(self) -> None:
        if self._batch:
            self.flush()
