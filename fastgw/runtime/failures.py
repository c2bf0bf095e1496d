"""The exchanges that have failed last, each with the sentence that says why: the one that the client got, too."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fastgw import errors

if TYPE_CHECKING:
    from fastgw.net.failure_record import FailureRecord

# How many are remembered, of clients' own and of all others.
_LAST = 100

_SENTENCES = {one.reason: one.detail for one in vars(errors).values() if isinstance(one, errors.Failure)}


class Failures:
    """Of all workers. `left_out` counts those that they had too many of in a second to tell them."""

    def __init__(self) -> None:
        # By whether they are a client's: one who tries names must not hide what has failed here.
        self._last: dict[bool, deque[dict[str, Any]]] = {clients: deque(maxlen=_LAST) for clients in (False, True)}
        self._count = 0
        self.left_out = 0

    def add(self, worker: int, records: Iterable[FailureRecord], left_out: int) -> None:
        self.left_out += left_out
        for record in records:
            self._count += 1
            self._last[record.is_clients].append({"number": self._count, **_plain(worker, record)})

    def last(self, route: str | None = None) -> list[dict[str, Any]]:
        """Plain data for JSON, the newest first. `route` as for `policy.log_filter.LogFilter`."""
        both = sorted(chain(*self._last.values()), key=itemgetter("number"), reverse=True)
        return [one for one in both if route is None or one["route"] == route]


def _plain(worker: int, record: FailureRecord) -> dict[str, Any]:
    milliseconds = int(record.at * 1000)
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    fields = dataclasses.asdict(record)
    fields.update(at=f"{at}.{milliseconds % 1000:03}Z", worker=worker, explanation=explanation(record))
    return fields


def explanation(record: FailureRecord) -> str:
    """Why an exchange has failed, for people."""
    if record.reason:
        return _SENTENCES.get(record.reason, record.reason)
    if record.endpoint:
        return f"The backend has answered with {record.status}, and the gateway has passed that on."
    return f"The route's own reply is {record.status}."
