"""Ended exchanges on their way to those who write or count them: in batches, and with their kinds.

What a batch touches is still in the processor's cache, and the code of whoever takes it is loaded once for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgw.policy.kind import Kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastgw.exchange import Exchange
    from fastgw.policy.kind import Record

_BATCH = 32


class Ended:
    """A `ports.Log` that passes on what was recorded. `takers` see to it themselves that a bug of theirs does not
    become one of the exchange that ended last."""

    __slots__ = ("_batch", "_kinds", "_takers")

    def __init__(self, takers: Sequence[Callable[[list[Record]], None]]) -> None:
        self._takers = takers
        self._kinds = Kinds()
        self._batch: list[Exchange] = []

    def record(self, exchange: Exchange) -> None:
        batch = self._batch
        batch.append(exchange)
        if len(batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """All that have ended so far."""
        batch, self._batch = self._batch, []
        if batch:
            records = self._kinds.records(batch)
            for take in self._takers:
                take(records)
