"""The endpoint that will be done soonest, by how long its answers have taken and by what it has to do.

Each endpoint has an average of its latencies that a higher one replaces at once (a peak is news), and that lower ones
bring down slowly: by exp(-t / tau) of the difference after t seconds, so that it doesn't matter how many answers came
in them. This is Finagle's "peak EWMA", which Linkerd has taken over. The cost is average * (active + 1) / weight; of
two endpoints drawn by weight, the cheaper one is taken. Not the cheapest of all: each worker knows what it
knew at its last answer, and all would run to the same endpoint until it answers late, and then to the next
(Mitzenmacher, "How Useful Is Old Information?", 2000).

An average goes on to decay while no answers come. So an endpoint that was slow once gets a request again: at ten
seconds against ten milliseconds, and tau of 10 s, after 69 s; a better answer then helps only as much time as has
passed, a bad one counts at once. An endpoint without an average (new, or not heard of for long) is taken to be as fast
as the one it is drawn with, so that what it has to do decides: it gets its share, and no more before it has answered.
Finagle sends a new one a request, and no other before it has answered; Linkerd assumes 30 ms, which is long for some
and short for others; ingress-nginx assumes the average of all, which favours none, as here.

What counts as an answer is the caller's to say. A refused connection is quicker than any answer, and a request that
timed out took at least its time-out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

from fastgw.policy.balancer import WeightedDraw

# ingress-nginx's, and Finagle's and Linkerd's: the last few seconds are what matters.
TAU_S = 10.0
# After that many tau an average is worth exp(-10), a twenty-thousandth: it is forgotten then, or in as much again.
_FORGOTTEN_TAUS = 10.0
# A latency of nothing would make any number of requests in flight free.
_LATENCY_MIN_S = 1e-6


class PeakEwma:
    """Of two endpoints at random, by weight, the one with less average latency * (active + 1) / weight.

    Costs are compared at one moment, and till then all averages have decayed by the same rate. So nothing has to decay
    when one is picked: averages are kept multiplied by growth = exp((time of last answer - epoch) / tau) instead
    (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, 2009), and the epoch is moved before that gets too large.
    """

    __slots__ = ("_draw", "_epoch", "_grown", "_growth", "_tau_s")

    def __init__(self, weights: tuple[float, ...], chance: Callable[[], float], tau_s: float = TAU_S) -> None:
        if tau_s <= 0:
            raise ValueError("tau must be above 0")
        self._draw = WeightedDraw(weights, chance)
        self._tau_s = tau_s
        self._epoch = 0.0
        # Of each endpoint: the growth at its last answer, or 0 if none is known, and its average then, times that.
        self._growth = [0.0] * len(weights)
        self._grown = [0.0] * len(weights)

    def set_weights(self, weights: tuple[float, ...]) -> None:
        """From now on these. What is known of latencies stays."""
        self._draw.set_weights(weights)

    def inherit(self, before: PeakEwma, endpoints: int) -> None:
        """Takes over what another one knows of the endpoints whose bits are set."""
        self._epoch = before._epoch
        for endpoint in range(len(self._growth)):
            if endpoints >> endpoint & 1:
                self._growth[endpoint] = before._growth[endpoint]
                self._grown[endpoint] = before._grown[endpoint]

    def observe(self, endpoint: int, seconds: float, now: float) -> None:
        """The endpoint has answered, and has taken that long."""
        elapsed_taus = (now - self._epoch) / self._tau_s
        if elapsed_taus > _FORGOTTEN_TAUS:
            self._move_epoch(now, elapsed_taus)
            elapsed_taus = 0.0
        growth = exp(elapsed_taus)
        before = self._growth[endpoint]
        latency = seconds if seconds > _LATENCY_MIN_S else _LATENCY_MIN_S
        if latency * before >= self._grown[endpoint]:
            self._grown[endpoint] = latency * growth
        else:
            # average * w + latency * (1 - w), where w = before / growth, and all of it times the growth.
            # A call of max() costs as much as the rest of this.
            if growth < before:  # noqa: PLR1730
                growth = before
            self._grown[endpoint] += latency * (growth - before)
        self._growth[endpoint] = growth

    def average(self, endpoint: int) -> float | None:
        """As of its last answer, in seconds; None if nothing is known."""
        growth = self._growth[endpoint]
        return self._grown[endpoint] / growth if growth else None

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        """As `RoundRobin.pick`."""
        draw = self._draw
        first, second = draw.two(active, capacity, excluded)
        if second < 0:
            return first
        weights, grown = draw.weights, self._grown
        first_cost = (active[first] + 1) * weights[second]
        second_cost = (active[second] + 1) * weights[first]
        # Nothing is known of whose average is nothing.
        if grown[first] and grown[second]:
            first_cost *= grown[first]
            second_cost *= grown[second]
        return second if second_cost < first_cost else first

    def _move_epoch(self, now: float, elapsed_taus: float) -> None:
        shrink = exp(-elapsed_taus)
        worth_keeping = exp(-_FORGOTTEN_TAUS)
        for endpoint, growth in enumerate(self._growth):
            is_kept = growth * shrink >= worth_keeping
            self._growth[endpoint] = growth * shrink if is_kept else 0.0
            self._grown[endpoint] = self._grown[endpoint] * shrink if is_kept else 0.0
        self._epoch = now
