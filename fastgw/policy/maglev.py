"""The same endpoint for the same key, as far as it can be: Maglev hashing with bounded loads.

Each endpoint has a permutation of the slots of a table, by its name; in turns, as often as its weight says, each takes
its first slot that is free (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
§3.4). A key's hash leads to a slot, and so to its owner. When one of n endpoints leaves, its keys go to the others, and
few other keys move. All that decides is names and weights, not the order of endpoints: all workers and all gateways
agree.

An owner that has its bound of requests is passed over, so that a key that many ask for, or keys that somebody has
chosen for one endpoint, don't overrun it. The bound is `load_factor` times what it would have by its weight, this
request included (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018), as far as this
worker knows, and no less than `bound_min`; an infinite factor is no bound. A key goes on from its slot by a step of its
own, again from its hash: the keys of an endpoint that can't be taken spread over all others by weight, where the next
one in a ring would get them all.

Building a table takes about 60 ms for 100 endpoints, and 130 KB.
"""

from __future__ import annotations

from array import array
from heapq import heapreplace
from math import fsum, isqrt, log

from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from fastgw.policy.balancer import NO_ENDPOINT

# Envoy's, and the smaller one of the paper's. A hundred slots for each endpoint keep shares within a percent.
TABLE_SIZE = 65537
# A quarter above the average. With less, more keys leave their owners; with more, owners differ more.
LOAD_FACTOR = 1.25
# The paper's. With few requests in flight a bound is a matter of one or two, and chance alone exceeds it: with 10 on 10
# endpoints, every fourth goes to another than its owner, and less than every hundredth if 4 are always allowed.
BOUND_MIN = 1
# Slots that a key tries after its own, until endpoints are looked at one by one. When nine tenths can't be taken, one
# pick in five comes to that.
_STEPS_MAX = 16


def hash_of(key: bytes) -> int:
    """What `pick_for` wants of a key: 64 bits, the same in all processes and on all machines (XXH3)."""
    return xxh3_64_intdigest(key)


class Maglev:
    """One upstream's table. It is made anew when endpoints come or go, or their weights change for good."""

    __slots__ = ("_all", "_bound_min", "_load_factor", "_names", "_size", "_table", "_total_weight", "weights")

    def __init__(
        self,
        names: tuple[str, ...],
        weights: tuple[float, ...],
        load_factor: float = LOAD_FACTOR,
        bound_min: int = BOUND_MIN,
        table_size: int = TABLE_SIZE,
        gone: int = 0,
    ) -> None:
        """`gone` has a bit for each place where there is no endpoint: it owns no slot, and callers exclude it."""
        if not load_factor > 1 or bound_min < 1:
            raise ValueError("bounds need a load factor above 1, and to be 1 or more")
        if not len(names) <= table_size <= TABLE_SIZE or not _is_prime(table_size):
            raise ValueError(f"a table's size needs to be a prime from {len(names)} to {TABLE_SIZE}")
        self._names = tuple([name.encode() for name in names])
        self._all = (1 << len(names)) - 1
        self._load_factor = load_factor
        self._bound_min = bound_min
        self._size = table_size
        self.set_weights(weights)
        self._table = _fill(self._names, weights, table_size, gone)

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on bounds go by these. Keys keep their owners: each step of a slow start would move some of them
        for a short time; as it is, an endpoint that warms up passes on what is too much for it as yet."""
        if not weights or min(weights) <= 0:
            raise ValueError("a balancer needs at least one endpoint, and weights above 0")
        if len(weights) != len(self._names):
            raise ValueError(f"{len(weights)} weights for {len(self._names)} endpoints")
        self.weights = weights
        self._total_weight = fsum(weights)

    def pick_for(self, key_hash: int, active: list[int], capacity: int, excluded: int) -> int:
        """The key's owner, or who stands in for it; else as `RoundRobin.pick`. `key_hash` is from `hash_of`."""
        owner = self._table[key_hash % self._size]
        load = active[owner]
        if load < capacity and not excluded >> owner & 1:
            if load < self._bound_min:
                return owner
            if not excluded:
                bound = self._load_factor * (sum(active) + 1) * self.weights[owner]
                # Without a division, what is equal is exactly equal.
                if load * self._total_weight < bound:
                    return owner
        return self._pick_another(key_hash, active, capacity, excluded)

    def _pick_another(self, key_hash: int, active: list[int], capacity: int, excluded: int) -> int:
        weights = self.weights
        left_out = excluded & self._all
        if left_out == self._all or min(active) >= capacity:
            return NO_ENDPOINT
        total = sum(active)
        total_weight = self._total_weight
        while left_out:
            endpoint = left_out.bit_length() - 1
            total -= active[endpoint]
            total_weight -= weights[endpoint]
            left_out ^= 1 << endpoint
        allowed = self._load_factor * (total + 1)
        slot = key_hash % self._size
        # Prime to the size, as all are: it leads to every slot.
        step = key_hash // self._size % (self._size - 1) + 1
        for _ in range(_STEPS_MAX):
            endpoint = self._table[slot]
            load = active[endpoint]
            is_below = load < self._bound_min or load * total_weight < allowed * weights[endpoint]
            if is_below and load < capacity and not excluded >> endpoint & 1:
                return endpoint
            slot += step
            if slot >= self._size:
                slot -= self._size
        return self._scan(key_hash, active, capacity, excluded, allowed, total_weight)

    def _scan(
        self, key_hash: int, active: list[int], capacity: int, excluded: int, allowed: float, total_weight: float
    ) -> int:
        """Weighted rendezvous hashing (Thaler, Ravishankar, 1998; Schindelhauer, Schomaker, 2005): it needs no slots.

        Where weights and the capacity leave nobody below its bound, one that is above it is taken.
        """
        best = NO_ENDPOINT
        best_score = 0.0
        is_best_below = False
        for endpoint, weight in enumerate(self.weights):
            load = active[endpoint]
            if load >= capacity or excluded >> endpoint & 1:
                continue
            is_below = load < self._bound_min or load * total_weight < allowed * weight
            if is_best_below and not is_below:
                continue
            score = log((xxh3_64_intdigest(self._names[endpoint], key_hash) + 1) / 2**64) / weight
            if best < 0 or score > best_score or (is_below and not is_best_below):
                best = endpoint
                best_score = score
                is_best_below = is_below
        return best


def _fill(names: tuple[bytes, ...], weights: tuple[float, ...], size: int, gone: int) -> array[int]:
    """The owner of each slot."""
    slots = []
    steps = []
    for name in names:
        digest = xxh3_128_intdigest(name)
        slots.append(digest % size)
        steps.append((digest >> 64) % (size - 1) + 1)
    # When each one's next turn is, and who goes first of those that come together. All begin: each gets a slot.
    order = sorted((place for place in range(len(names)) if not gone >> place & 1), key=names.__getitem__)
    if not order:
        return array("H", [0] * size)
    turns = [(0.0, rank) for rank in range(len(order))]
    intervals = [1 / weights[endpoint] for endpoint in order]
    table = [NO_ENDPOINT] * size
    for _ in range(size):
        turn, rank = turns[0]
        endpoint = order[rank]
        slot = slots[endpoint]
        step = steps[endpoint]
        while table[slot] >= 0:
            slot += step
            if slot >= size:
                slot -= size
        table[slot] = endpoint
        slots[endpoint] = slot
        heapreplace(turns, (turn + intervals[rank], rank))
    return array("H", table)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
