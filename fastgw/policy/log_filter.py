"""Which exchanges somebody wants to see who looks at the log as it is made: those of a route, or of some statuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgw.exchange import Exchange

_STATUSES = re.compile(r"([1-5])(xx|[0-9][0-9])")
_HIGHEST = 999


@dataclass(frozen=True, slots=True)
class LogFilter:
    """`route` is a name, "" for exchanges that no route has matched, None for all. Statuses are from `lowest` to
    `highest`; an exchange without one has 0."""

    route: str | None = None
    lowest: int = 0
    highest: int = _HIGHEST

    def takes(self, exchange: Exchange) -> bool:
        if not self.lowest <= exchange.status <= self.highest:
            return False
        wanted = self.route
        if wanted is None:
            return True
        return wanted == ("" if exchange.route is None else exchange.route.name)


def log_filter(route: str | None, statuses: str | None) -> LogFilter:
    """`statuses` is written as "404" or "5xx"; None: any. Raises ValueError for what is neither."""
    if statuses is None:
        return LogFilter(route)
    found = _STATUSES.fullmatch(statuses)
    if found is None:
        raise ValueError(f'"{statuses}" is no status: write one, such as 404, or a class of them, such as 5xx')
    hundreds, rest = found.groups()
    if rest == "xx":
        return LogFilter(route, int(hundreds) * 100, int(hundreds) * 100 + 99)
    return LogFilter(route, int(statuses), int(statuses))
