"""Which endpoint of an upstream gets the next request, and which upstream of a split.

A balancer keeps only the little that its own fairness needs. How many requests each endpoint has in flight,
and which endpoints an exchange has tried before, it is told; health is expressed by the caller through these
two. Each worker has balancers of its own. Costs grow with the endpoints of one upstream, but not for equal
weights in round-robin.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

# Every endpoint is at its capacity, or has been tried by this exchange.
NO_ENDPOINT = -1


class RoundRobin:
    """Smooth weighted round-robin: in sum(weights) picks, each endpoint gets its weight, well spread.

    The algorithm is nginx's (commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing", 2012):
    before each pick every candidate gains its weight; the richest one is picked, and pays what all gained.
    Weights 5, 1, 1 give a a b a c a a. With equal weights this comes to taking turns, which needs no look at
    the other endpoints.
    """

    __slots__ = ("_are_equal", "_count", "_credit", "_next", "weights")

    def __init__(self, weights: tuple[int, ...]) -> None:
        _check_weights(weights)
        self.weights = weights
        self._count = len(weights)
        self._are_equal = min(weights) == max(weights)
        self._credit = [0] * len(weights)
        self._next = 0

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """An endpoint with fewer than `capacity` requests in `active`, whose bit isn't set in `excluded`.

        NO_ENDPOINT if there is none.
        """
        if self._count == 1:
            return 0 if active[0] < capacity and not excluded else NO_ENDPOINT
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
        gained = 0
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

    def __init__(self, weights: tuple[int, ...]) -> None:
        _check_weights(weights)
        self.weights = weights
        self._count = len(weights)
        self._next = 0

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        if self._count == 1:
            return 0 if active[0] < capacity and not excluded else NO_ENDPOINT
        weights = self.weights
        least = NO_ENDPOINT
        least_load = 0
        least_weight = 1
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


def _check_weights(weights: tuple[int, ...]) -> None:
    if not weights or min(weights) < 1:
        raise ValueError("a balancer needs at least one endpoint, and weights of 1 or more")
