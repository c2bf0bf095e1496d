"""The memory that the supervisor and its workers share: a column of counters for each worker.

One anonymous mapping that the supervisor makes; workers get its descriptor. A column stays its worker's when that is
replaced, so that counters survive a death.
"""

from __future__ import annotations

import mmap
import os

from fastgw.counters import COLUMN_SIZE

_NUMBER_BYTES = 8


class SharedMemory:
    """`column(n)` is worker n's; each item of it is a number of 64 bits."""

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self._mapping = mmap.mmap(fd, workers * COLUMN_SIZE * _NUMBER_BYTES)
        self._numbers = memoryview(self._mapping).cast("Q")

    def column(self, worker: int) -> memoryview:
        return self._numbers[worker * COLUMN_SIZE : (worker + 1) * COLUMN_SIZE]


def create(workers: int) -> SharedMemory:
    fd = os.memfd_create("fastgw-counters", os.MFD_CLOEXEC)
    os.ftruncate(fd, workers * COLUMN_SIZE * _NUMBER_BYTES)
    return SharedMemory(fd, workers)
