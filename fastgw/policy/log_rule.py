"""Which exchanges get a line in the access log: all that fail or take long, and a share of the others.

The share is drawn by a hash of the request's id, as nginx's split_clients does with $request_id, and not by lot: the
gateways of a chain that believe each other's ids keep the same requests, and whoever has an id can tell whether there
should be a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from fastgw.exchange import Exchange

_HASHES = 1 << 64
# From here on an answer is an error.
_ERROR = 400
# A tunnel is there to last.
_SWITCHED_PROTOCOLS = 101


@dataclass(frozen=True, slots=True)
class LogRule:
    """`share` of the exchanges that are well get a line, and all that take `slow_s` or longer; none is ever slow by
    default. `is_off`: none at all, errors included."""

    share: float = 1.0
    slow_s: float = float("inf")
    is_off: bool = False
    # Hashes below it are in the share.
    bound: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", int(self.share * _HASHES))


class LogRules:
    """Those of the routes, and one for all exchanges that have none of their own."""

    __slots__ = ("_default",)

    def __init__(self, default: LogRule) -> None:
        self._default = default

    def keeps(self, exchange: Exchange) -> bool:
        """Whether an ended exchange gets a line."""
        route = exchange.route
        rule = self._default if route is None or route.log is None else route.log
        if rule.is_off:
            return False
        if exchange.status >= _ERROR or exchange.reason or not exchange.status:
            return True
        if xxh3_64_intdigest(exchange.request_id) < rule.bound:
            return True
        return exchange.ended - exchange.started >= rule.slow_s and exchange.status != _SWITCHED_PROTOCOLS

    def is_slow(self, exchange: Exchange) -> bool:
        took = exchange.ended - exchange.started
        return took >= self._rule(exchange).slow_s and exchange.status != _SWITCHED_PROTOCOLS

    def share(self, exchange: Exchange) -> float:
        """Of an exchange that is kept: how many there are for each such line is one divided by it."""
        if exchange.status >= _ERROR or exchange.reason or not exchange.status or self.is_slow(exchange):
            return 1.0
        return self._rule(exchange).share

    def _rule(self, exchange: Exchange) -> LogRule:
        route = exchange.route
        return self._default if route is None or route.log is None else route.log
