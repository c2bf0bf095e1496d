from __future__ import annotations

import os

from fastgw.counters import COLUMN_SIZE, EXCHANGES, HEARTBEAT
from fastgw.runtime.shared_memory import SharedMemory, create


def test_what_a_worker_writes_into_its_column_its_supervisor_reads_there() -> None:
    ours = create(3)
    theirs = SharedMemory(os.dup(ours.fd), 3)
    column = theirs.column(1)
    assert len(column) == COLUMN_SIZE
    column[EXCHANGES + 2] += 2**40
    column[HEARTBEAT] = 7
    assert (ours.column(1)[EXCHANGES + 2], ours.column(1)[HEARTBEAT]) == (2**40, 7)
    assert [any(ours.column(number)) for number in range(3)] == [False, True, False]
