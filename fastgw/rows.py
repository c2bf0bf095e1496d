"""One worker's rows of counters: kept where counting is cheapest, and copied into the shared memory now and then.

A plain list counts in a third of the time that shared memory takes. So what a worker has counted since the last `flush`
is lost when it is killed, and nothing else. Routes are counted in batches, and there may be a hundred thousand: their
rows are the shared memory itself, so that nothing is copied.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from fastgw.counters import ROUTE, SIZES

# A kind of counters.SIZES, and the names of who is counted: a route's, or an upstream's and its endpoint's.
Key = tuple[str, str, str]


class Rows:
    """`row` gives the row of one who is counted, and whoever keeps it looks it up again after `adopt`. It goes into the
    shared memory where `adopt` has said where that is, and nowhere until then."""

    def __init__(self) -> None:
        self._lists: dict[Key, list[int]] = {}
        self._places: Mapping[Key, int] = {}
        self._memory = memoryview(bytearray()).cast("Q")
        self._number = 0

    def row(self, kind: str, name: str, of: str = "") -> list[int]:
        """Of any kind but ROUTE; `of` is the upstream of an endpoint."""
        return self._list((kind, of, name))

    def route(self, name: str) -> list[int] | memoryview:
        key = (ROUTE, "", name)
        return self._there(key) if key in self._places else self._list(key)

    def adopt(self, places: Mapping[Key, int], memory: memoryview, number: int) -> None:
        """`places` are where the rows begin, one for each worker behind the other; this is worker `number`'s. Who has
        no place any more is forgotten; all but routes keep their row otherwise."""
        self.flush()
        before, self._lists = self._lists, {}
        was_at, self._places, self._memory, self._number = self._places, places, memory, number
        for key, row in before.items():
            if key in places:
                if key not in was_at:
                    # What another worker had counted in this place before.
                    row[:] = [one + other for one, other in zip(row, self._begun(key), strict=True)]
                self._lists[key] = row
        self.flush()
        for key in [key for key in self._lists if key[0] == ROUTE]:
            del self._lists[key]

    def flush(self) -> None:
        for key, row in self._lists.items():
            if key in self._places:
                self._there(key)[:] = memoryview(array("Q", row))

    def _list(self, key: Key) -> list[int]:
        known = self._lists.get(key)
        if known is None:
            known = self._lists[key] = self._begun(key)
        return known

    def _there(self, key: Key) -> memoryview:
        size = SIZES[key[0]]
        begin = self._places[key] + self._number * size
        return self._memory[begin : begin + size]

    def _begun(self, key: Key) -> list[int]:
        """What stands there, of a worker that was here before."""
        return self._there(key).tolist() if key in self._places else [0] * SIZES[key[0]]
