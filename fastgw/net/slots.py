"""The places of an upstream's endpoints. An index is all that connections, balancers and bit masks know of an endpoint,
so it keeps its place for as long as it is there, and a new one gets a place where nothing is left of another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastgw.snapshot import Address, Endpoint

# Lists and masks of nothing are a case of their own for every balancer; one place where nobody is, is none.
_NOBODY = Endpoint("", Address())


@dataclass(frozen=True, slots=True)
class Slots:
    """Bit i of `gone` is set when the endpoint at place i is none any more: it gets nothing new."""

    endpoints: tuple[Endpoint, ...]
    gone: int

    def present(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for index, endpoint in enumerate(self.endpoints) if not self.gone >> index & 1)

    def followed_by(self, endpoints: tuple[Endpoint, ...], is_unused: Callable[[int], bool]) -> Slots:
        """The places of other endpoints, known by their names. `is_unused`: nothing is left of who had that place."""
        after = list(self.endpoints)
        gone = (1 << len(after)) - 1
        places = {endpoint.name: index for index, endpoint in enumerate(after)}
        for endpoint in endpoints:
            index = places.get(endpoint.name)
            if index is not None:
                after[index] = endpoint
                gone &= ~(1 << index)
        free = [index for index in range(len(after)) if gone >> index & 1 and is_unused(index)]
        for endpoint in endpoints:
            if endpoint.name in places:
                continue
            if free:
                index = free.pop(0)
                after[index] = endpoint
                gone &= ~(1 << index)
            else:
                after.append(endpoint)
        while len(after) > 1 and free and free[-1] == len(after) - 1:
            index = free.pop()
            after.pop()
            gone &= ~(1 << index)
        return Slots(tuple(after), gone)

    def staying(self, before: Slots) -> int:
        """The places whose endpoint was there before, and is now: a bit for each."""
        pairs = zip(self.endpoints, before.endpoints, strict=False)
        same = sum(1 << index for index, (one, other) in enumerate(pairs) if one.name == other.name)
        return same & ~self.gone & ~before.gone


def first_slots(endpoints: tuple[Endpoint, ...]) -> Slots:
    """Each in its order."""
    return Slots(endpoints, 0) if endpoints else Slots((_NOBODY,), 1)
