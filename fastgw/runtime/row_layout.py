"""Where the rows of counters stand in the memory that the supervisor shares with its workers.

Names keep their place from one configuration to the next, so that counts outlive it. A place is given to another name
only when all workers have long forgotten whose it was; so the memory does not grow with every change.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastgw.counters import ENDPOINT, LISTENER, ROUTE, SIZES, UPSTREAM, WORKER
from fastgw.rows import Key
from fastgw.snapshot import Snapshot

_CELL_BYTES = 8
# For how long nobody gets a place that was another's: workers learn of it at once, but may be busy.
_FALLOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the first worker's row of each begins, in cells; the other workers' are behind it. `size` is of it all."""

    size: int = 0
    places: dict[Key, int] = field(default_factory=dict)


class RowMemory:
    """The memory, as far as `size` cells of it have been mapped."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.cells = memoryview(b"").cast("Q")
        self._size = 0

    def grow(self, size: int) -> None:
        """What was taken of `cells` before stays good."""
        if size > self._size:
            self.cells = memoryview(mmap.mmap(self.fd, size * _CELL_BYTES)).cast("Q")
            self._size = size


def keys_of(snapshot: Snapshot) -> list[Key]:
    """Who is counted in it; nobody where nobody would read that."""
    if not snapshot.is_observed:
        return []
    keys: list[Key] = [(WORKER, "", "")]
    if snapshot.counts_requests:
        keys.append((ROUTE, "", ""))
        keys += [(ROUTE, "", route.name) for route in snapshot.routes]
        keys += [(LISTENER, "", listener.name) for listener in snapshot.listeners]
    for upstream in snapshot.upstreams.values():
        keys.append((UPSTREAM, "", upstream.name))
        keys += [(ENDPOINT, upstream.name, endpoint.name) for endpoint in upstream.endpoints]
    return keys


@dataclass(frozen=True, slots=True)
class Counted:
    """Reads what the `workers` have counted by a layout, in any thread, whatever layouts come after it."""

    places: Mapping[Key, int]
    cells: memoryview
    workers: int

    def of_each_worker(self, key: Key) -> list[list[int]]:
        """A row, as each worker has filled it."""
        place, size = self.places[key], SIZES[key[0]]
        cells = self.cells[place : place + size * self.workers].tolist()
        return [cells[begin : begin + size] for begin in range(0, len(cells), size)]

    def sums(self, key: Key) -> list[int]:
        """A row, over all workers."""
        rows = self.of_each_worker(key)
        return rows[0] if len(rows) == 1 else [sum(cells) for cells in zip(*rows, strict=True)]


class LayoutKeeper:
    """The supervisor's side: gives out places, and reads what stands there, summed up over all workers."""

    def __init__(self, workers: int) -> None:
        self.layout = Layout()
        self._workers = workers
        fd = os.memfd_create("fastgw-rows", os.MFD_CLOEXEC)
        self.memory = RowMemory(fd)
        # By kind, in the order in which they were freed.
        self._free: dict[str, list[tuple[float, int]]] = {kind: [] for kind in SIZES}

    def adopt(self, keys: Iterable[Key], now: float) -> Layout:
        """These are counted from now on, and no others. `now` is of a monotonic clock, in seconds."""
        before, places, size = self.layout.places, {}, self.layout.size
        for key in keys:
            place = before.get(key, -1)
            if place < 0:
                place = self._freed(key[0], now)
            if place < 0:
                place = size
                size += SIZES[key[0]] * self._workers
            places[key] = place
        for key, place in before.items():
            if key not in places:
                self._free[key[0]].append((now, place))
        os.ftruncate(self.memory.fd, size * _CELL_BYTES)
        self.memory.grow(size)
        self.layout = Layout(size, places)
        return self.layout

    def _freed(self, kind: str, now: float) -> int:
        free = self._free[kind]
        if not free or now - free[0][0] < _FALLOW_S:
            return -1
        _, place = free.pop(0)
        length = SIZES[kind] * self._workers
        self.memory.cells[place : place + length] = memoryview(bytes(length * _CELL_BYTES)).cast("Q")
        return place

    def counted(self) -> Counted:
        """What is counted by the layout of now."""
        return Counted(self.layout.places, self.memory.cells, self._workers)

    def of_each_worker(self, key: Key) -> list[list[int]]:
        """A row, as each worker has filled it."""
        return self.counted().of_each_worker(key)

    def sums(self, key: Key) -> list[int]:
        """A row, over all workers."""
        return self.counted().sums(key)
