"""Which endpoint of an upstream gets the next request, and which upstream of a split.

A balancer keeps only the little that its own fairness needs. How many requests each endpoint has in flight,
and which endpoints may not be taken (tried before, unhealthy, kept in reserve), it is told; it is given chance, too.
Each worker has balancers of its own. All have one shape: `pick(active, capacity, excluded)`, an endpoint with fewer
than `capacity` requests in `active`, whose bit isn't set in `excluded`, or NO_ENDPOINT; and `set_weights`, for an
endpoint that warms up. Costs grow with the endpoints of one upstream, but not for equal weights in round-robin, and
for random and the power of two only when there is little to choose from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import fsum

# Every endpoint is at its capacity, or excluded.
NO_ENDPOINT = -1

# Draws until endpoints are looked at one by one. When half of them can't be taken, one pick in 16 comes to that.
_DRAWS_MAX = 4


class RoundRobin:
    """Smooth weighted round-robin: in sum(weights) picks, each endpoint gets its weight, well spread.

    The algorithm is nginx's (commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing", 2012):
    before each pick every candidate gains its weight; the richest one is picked, and pays what all gained.
    Weights 5, 1, 1 give a a b a c a a. With equal weights this comes to taking turns, which needs no look at
    the other endpoints.
    """

    __slots__ = ("_are_equal", "_count", "_credit", "_next", "weights")

    def __init__(self, weights: tuple[float, ...]) -> None:
        _check_weights(weights, len(weights))
        self.weights = weights
        self._count = len(weights)
        self._are_equal = min(weights) == max(weights)
        self._credit = [0.0] * len(weights)
        self._next = 0

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these. What each endpoint is ahead or behind by, in picks, stays as it is."""
        _check_weights(weights, self._count)
        if weights == self.weights:
            return
        are_equal = min(weights) == max(weights)
        if not are_equal:
            # A credit of sum(weights) is one pick.
            total = fsum(weights)
            if self._are_equal:
                turn = self._next / self._count
                self._credit = [
                    (turn - 1 if endpoint < self._next else turn) * total for endpoint in range(self._count)
                ]
            else:
                scale = total / fsum(self.weights)
                self._credit = [credit * scale for credit in self._credit]
        elif not self._are_equal:
            self._next = self._credit.index(max(self._credit))
        self.weights = weights
        self._are_equal = are_equal

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """An endpoint with fewer than `capacity` requests in `active`, whose bit isn't set in `excluded`.

        NO_ENDPOINT if there is none.
        """
        if self._count == 1:
            return 0 if active[0] < capacity and not excluded & 1 else NO_ENDPOINT
        if self._are_equal:
            return self._pick_in_turn(active, capacity, excluded)
        return self._pick_by_weight(active, capacity, excluded)

    def _pick_in_turn(self, active: list[int], capacity: int, excluded: int) -> int:
        endpoint = self._next
        for _ in self.weights:
            following = endpoint + 1 if endpoint + 1 < self._count else 0
            if active[endpoint] < capacity and not excluded >> endpoint & 1:
                self._next = following
                return endpoint
            endpoint = following
        return NO_ENDPOINT

    def _pick_by_weight(self, active: list[int], capacity: int, excluded: int) -> int:
        credit = self._credit
        gained = 0.0
        richest = NO_ENDPOINT
        for endpoint, weight in enumerate(self.weights):
            if active[endpoint] < capacity and not excluded >> endpoint & 1:
                credit[endpoint] += weight
                gained += weight
                if richest < 0 or credit[endpoint] > credit[richest]:
                    richest = endpoint
        if richest >= 0:
            credit[richest] -= gained
        return richest


class LeastRequests:
    """The endpoint that would have the fewest requests for its weight, with this one: least (active + 1) /
    weight.

    Endpoints that are equal in this take turns, or an idle upstream would send everything to its first
    endpoint.
    """

    __slots__ = ("_count", "_next", "weights")

    def __init__(self, weights: tuple[float, ...]) -> None:
        _check_weights(weights, len(weights))
        self.weights = weights
        self._count = len(weights)
        self._next = 0

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these."""
        _check_weights(weights, self._count)
        self.weights = weights

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        if self._count == 1:
            return 0 if active[0] < capacity and not excluded & 1 else NO_ENDPOINT
        weights = self.weights
        least = NO_ENDPOINT
        least_load = 0
        least_weight = 1.0
        endpoint = self._next
        for _ in weights:
            if active[endpoint] < capacity and not excluded >> endpoint & 1:
                load = active[endpoint] + 1
                # Fractions compared by cross-multiplication, so that equal ones are exactly equal.
                if least < 0 or load * least_weight < least_load * weights[endpoint]:
                    least = endpoint
                    least_load = load
                    least_weight = weights[endpoint]
            endpoint = endpoint + 1 if endpoint + 1 < self._count else 0
        if least >= 0:
            self._next = least + 1 if least + 1 < self._count else 0
        return least


class WeightedDraw:
    """Endpoints at random, each with the probability that its weight has among those that can be taken.

    `chance` gives numbers evenly spread in [0, 1).
    """

    __slots__ = ("_are_equal", "_chance", "_last", "_total", "_upper_bounds", "weights")

    def __init__(self, weights: tuple[float, ...], chance: Callable[[], float]) -> None:
        _check_weights(weights, len(weights))
        self._chance = chance
        self._last = len(weights) - 1
        self.set_weights(weights)

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these."""
        _check_weights(weights, self._last + 1)
        self.weights = weights
        self._are_equal = min(weights) == max(weights)
        self._upper_bounds = list(accumulate(weights))
        self._total = self._upper_bounds[-1]

    def two(self, active: list[int], capacity: int, excluded: int) -> tuple[int, int]:
        """Two different ones, each as from `one`; NO_ENDPOINT in place of one that there isn't."""
        last = self._last
        if self._are_equal and last:
            # What most upstreams are costs half as much like this, where nothing keeps a draw from being taken.
            chance = self._chance
            first = int(chance() * (last + 1))
            second = int(chance() * last)
            if second >= first:
                second += 1
            is_able = active[first] < capacity and active[second] < capacity
            if is_able and not excluded & (1 << first | 1 << second):
                return first, second
        first = self.one(active, capacity, excluded)
        return first, self._another(first, active, capacity, excluded) if first >= 0 else NO_ENDPOINT

    def one(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        for _ in range(_DRAWS_MAX):
            # The last one also takes what rounding puts beyond it.
            endpoint = bisect_right(self._upper_bounds, self._chance() * self._total, 0, self._last)
            if active[endpoint] < capacity and not excluded >> endpoint & 1:
                return endpoint
        return self._scan(active, capacity, excluded)

    def _another(self, first: int, active: list[int], capacity: int, excluded: int) -> int:
        """As `one`, but never `first`."""
        if self._last == 0:
            return NO_ENDPOINT
        # Some way round the circle of weights, from where the first one ends and at most to where it begins.
        place = self._upper_bounds[first] + self._chance() * (self._total - self.weights[first])
        if place >= self._total:
            place -= self._total
        endpoint = bisect_right(self._upper_bounds, place, 0, self._last)
        # Rounding may lead to the first one again.
        if endpoint != first and active[endpoint] < capacity and not excluded >> endpoint & 1:
            return endpoint
        return self._scan(active, capacity, excluded | 1 << first)

    def _scan(self, active: list[int], capacity: int, excluded: int) -> int:
        able = []
        total = 0.0
        for endpoint, weight in enumerate(self.weights):
            if active[endpoint] < capacity and not excluded >> endpoint & 1:
                able.append(endpoint)
                total += weight
        if not able:
            return NO_ENDPOINT
        place = self._chance() * total
        for endpoint in able:
            place -= self.weights[endpoint]
            if place < 0:
                return endpoint
        return able[-1]


class Random:
    """Any endpoint, by weight. It needs no knowledge, and so is never wrong in the same way as other workers are."""

    __slots__ = ("_draw",)

    def __init__(self, weights: tuple[float, ...], chance: Callable[[], float]) -> None:
        self._draw = WeightedDraw(weights, chance)

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these."""
        self._draw.set_weights(weights)

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        return self._draw.one(active, capacity, excluded)


class PowerOfTwo:
    """Of two endpoints at random, the one that would have fewer requests for its weight: less (active + 1) / weight.

    Of n requests on n endpoints, the busiest gets about log log n, and log n / log log n with one choice (Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", 2001). Workers that don't know of each other's requests
    don't all run to the same endpoint, as they would to the least busy one.

    The draws are by weight, too. Of two endpoints that are both idle, or are equal otherwise, the one drawn first is
    taken: so an upstream with little to do is shared by weight, where 1 / weight would leave it to the heaviest.
    """

    __slots__ = ("_draw",)

    def __init__(self, weights: tuple[float, ...], chance: Callable[[], float]) -> None:
        self._draw = WeightedDraw(weights, chance)

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these."""
        self._draw.set_weights(weights)

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        draw = self._draw
        first, second = draw.two(active, capacity, excluded)
        if second < 0 or not (active[first] or active[second]):
            return first
        weights = draw.weights
        is_less = (active[second] + 1) * weights[first] < (active[first] + 1) * weights[second]
        return second if is_less else first


class WeightedSplit:
    """One of several, at random, in proportion to their weights; a weight of 0 is never picked."""

    __slots__ = ("_total", "_upper_bounds", "weights")

    def __init__(self, weights: tuple[int, ...]) -> None:
        if not weights or min(weights) < 0 or max(weights) == 0:
            raise ValueError("a split needs weights of 0 or more, not all 0")
        self.weights = weights
        self._total = sum(weights)
        self._upper_bounds = list(accumulate(weights))

    def pick(self, random: float) -> int:
        """The place in `weights` that `random`, evenly spread in [0, 1), falls on."""
        return bisect_right(self._upper_bounds, random * self._total)


def _check_weights(weights: tuple[float, ...], count: int) -> None:
    if not weights or min(weights) <= 0:
        raise ValueError("a balancer needs at least one endpoint, and weights above 0")
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} endpoints")
