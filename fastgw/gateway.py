"""What all the exchanges of one worker share: the snapshot in force, and the tables that outlive it."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableSequence

from fastgw.http1.parse import RequestParser
from fastgw.policy.arms import Arms
from fastgw.policy.balancer import WeightedSplit
from fastgw.policy.trace_context import names_of
from fastgw.ports import Failures, Log, Mirror, Pool, Traces
from fastgw.snapshot import Snapshot
from fastgw.tracing import NoTraces, Tracer

# What a trusted proxy may choose as a request's id: it goes into headers and log lines.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")


# Formatting a number costs 0.3 µs, a look-up a tenth of it.
_THREE_DIGITS = tuple(b"%03x" % number for number in range(0x1000))


class Gateway:
    """`now` tells the seconds of a monotonic clock, `chance` a number in [0, 1); `coarse_now` and `http_date` are kept
    up to date, to the tick, by whoever has a clock. `pools` holds the upstreams' connections, by name."""

    __slots__ = (
        "_id_prefix",
        "_id_start",
        "_ids",
        "chance",
        "coarse_now",
        "counters",
        "failed",
        "failures",
        "http_date",
        "log",
        "mirrors",
        "now",
        "parser",
        "pools",
        "route_arms",
        "route_pools",
        "route_splits",
        "snapshot",
        "tracer",
        "traces",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        pools: dict[str, Pool],
        log: Log,
        now: Callable[[], float],
        chance: Callable[[], float],
        id_prefix: bytes,
        failed: Callable[[], None],
        counters: MutableSequence[int] | memoryview,
    ) -> None:
        self.snapshot = snapshot
        self.pools = pools
        # By the names of their routes.
        self.mirrors: dict[str, Mirror] = {}
        self.log = log
        self.now = now
        self.chance = chance
        self.parser = RequestParser()
        self.coarse_now = now()
        self.http_date = b""
        # Told of an exception on the hot path, which is a bug, from inside its handler.
        self.failed = failed
        # See `counters`.
        self.counters = counters
        # None: nobody wants to know what has failed.
        self.failures: Failures | None = None
        # None: nothing is traced. What is recorded goes there, whatever is traced by then.
        self.tracer: Tracer | None = None
        self.traces: Traces = NoTraces()
        self.route_splits: list[WeightedSplit | None] = []
        self.route_arms: list[Arms | None] = []
        self.route_pools: list[Pool | None] = []
        self.bind_routes()
        self._id_prefix = id_prefix
        self._id_start = b""
        self._ids = 0

    def bind_routes(self) -> None:
        """Looks up each route's pool; to be called again when `pools` has changed. A split has none of its own."""
        routes = self.snapshot.routes
        self.route_splits = [WeightedSplit(one.weights) if len(one.upstreams) > 1 else None for one in routes]
        self.route_arms = [
            Arms(one.arms, one.upstreams, one.weights, f"split {one.name}") if one.arms is not None else None
            for one in routes
        ]
        self.route_pools = [self.pools.get(one.upstreams[0]) if len(one.upstreams) == 1 else None for one in routes]

    def set_tracer(self, tracer: Tracer | None) -> None:
        """From the next request on."""
        self.tracer = tracer
        self.parser = RequestParser(names_of(tracer.formats) if tracer is not None else ())

    def new_request_id(self) -> bytes:
        """32 hexadecimal digits: 16 random ones of this worker, and a count."""
        count = self._ids
        self._ids = count + 1
        if not count & 0xFFF:
            self._id_start = b"%b%013x" % (self._id_prefix, count >> 12)
        return self._id_start + _THREE_DIGITS[count & 0xFFF]
