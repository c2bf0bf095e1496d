"""How much of its weight an endpoint has while it warms up: caches fill, code is compiled, connections are opened.

The formula is Envoy's ("Slow start mode"): within the window the weight is multiplied by
max(share_min, (max(seconds since up, 1) / window) ** (1 / aggression)). A balancer is told the weights that come of it,
in steps; who says that an endpoint is up, and how often weights step, is left to others.
"""

from __future__ import annotations

# Envoy's: less than a tenth is too little to warm anything up, and the jump at the end of a tenth is small.
SHARE_MIN = 0.1
# Envoy's: one share of the window, one share of the weight.
AGGRESSION = 1.0
# Envoy's: the first second is taken as a whole.
_SECONDS_MIN = 1.0
# Up for ever.
_WARM = float("-inf")


class SlowStart:
    """The way up. With an aggression above 1 most of the weight comes early, below 1 late."""

    __slots__ = ("_exponent", "_share_min", "window_s")

    def __init__(self, window_s: float, aggression: float = AGGRESSION, share_min: float = SHARE_MIN) -> None:
        if aggression <= 0 or not 0 < share_min <= 1:
            raise ValueError("slow start needs an aggression above 0, and a share above 0 and up to 1")
        self.window_s = window_s
        self._exponent = 1 / aggression
        self._share_min = share_min

    def factor(self, seconds_since_up: float) -> float:
        """From `share_min` to 1, which it is from the end of the window on."""
        seconds = max(seconds_since_up, _SECONDS_MIN)
        if seconds >= self.window_s:
            return 1.0
        share: float = (seconds / self.window_s) ** self._exponent
        return max(share, self._share_min)


class WarmingWeights:
    """The weights of an upstream's endpoints, less what those lack that came up not long ago.

    At first all are warm: who was there before the gateway has been at work already.
    """

    __slots__ = ("_slow_start", "_up_since", "weights")

    def __init__(self, slow_start: SlowStart, weights: tuple[float, ...]) -> None:
        self.weights = weights
        self._slow_start = slow_start
        self._up_since = [_WARM] * len(weights)

    def came_up(self, endpoint: int, now: float) -> None:
        """It is new, or healthy again: it starts from the bottom."""
        self._up_since[endpoint] = now

    def inherit(self, before: WarmingWeights, endpoints: int) -> None:
        """Takes over since when the endpoints are up whose bits are set."""
        for endpoint in range(len(self._up_since)):
            if endpoints >> endpoint & 1:
                self._up_since[endpoint] = before._up_since[endpoint]

    def are_warm(self, now: float) -> bool:
        """Whether all have their full weight, and will have it until one comes up."""
        return now - max(self._up_since) >= self._slow_start.window_s

    def effective(self, now: float) -> tuple[float, ...]:
        """What balancers are to go by: the very `weights` once all are warm."""
        if self.are_warm(now):
            return self.weights
        factor = self._slow_start.factor
        return tuple([weight * factor(now - since) for weight, since in zip(self.weights, self._up_since, strict=True)])
