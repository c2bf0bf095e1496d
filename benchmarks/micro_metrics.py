"""What metrics cost: `python -m benchmarks.micro_metrics`. To a worker, to count an exchange, in batches as it does,
and to put what it has counted of many routes where the supervisor reads; and to the supervisor, to answer a scrape of a
thousand routes and four workers.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from statistics import median
from time import thread_time
from types import SimpleNamespace
from typing import Any, cast

from fastgw.config.load import load_text
from fastgw.counters import COLUMN_SIZE, ENDPOINT, ROUTE
from fastgw.policy.kind import Kinds
from fastgw.policy.metrics import ExchangeCounts
from fastgw.rows import Rows
from fastgw.runtime.events import Events
from fastgw.runtime.exposition import exposed
from fastgw.runtime.metrics import Collector, WorkerFacts
from fastgw.runtime.row_layout import LayoutKeeper, keys_of
from fastgw.runtime.traces import TraceKeeper

ROUNDS = 15
BATCH = 32
ROUTES = 1000
WORKERS = 4


def microseconds_to_count(rounds: int, batches: int) -> float:
    """Of one exchange that an endpoint has answered, its kind looked up; the median of the rounds."""
    counts, kinds = ExchangeCounts(Rows(), _bug), Kinds()
    exchanges = [_exchange() for _ in range(BATCH)]
    found = []
    for _ in range(rounds):
        began = thread_time()
        for _ in range(batches):
            counts.take(kinds.records(exchanges))
        found.append((thread_time() - began) * 1e6 / (batches * BATCH))
    return median(found)


def worker_with(routes: int, rounds: int) -> tuple[float, float]:
    """Where exchanges are of so many routes, all about as often: µs to count one, its kind looked up, and ms to put ten
    of each where the supervisor reads; medians."""
    layout = LayoutKeeper(1)
    layout.adopt([(ROUTE, "", f"r{number}") for number in range(routes)], 0.0)
    rows = Rows()
    rows.adopt(layout.layout.places, layout.memory.cells, 0)
    counts, kinds = ExchangeCounts(rows, _bug), Kinds()
    asked = [SimpleNamespace(name=f"r{number % routes}") for number in range(10 * routes)]
    random.Random(1).shuffle(asked)
    exchanges = [_exchange() for _ in range(BATCH)]
    found = []
    for _ in range(rounds):
        seconds = 0.0
        for at in range(0, len(asked), BATCH):
            for exchange, route in zip(exchanges, asked[at : at + BATCH], strict=False):
                exchange.route = route
            began = thread_time()
            counts.take(kinds.records(exchanges))
            seconds += thread_time() - began
        began = thread_time()
        counts.add_to_rows()
        rows.flush()
        found.append((seconds * 1e6 / len(asked), (thread_time() - began) * 1e3))
    to_count, to_put = zip(*found, strict=True)
    return median(to_count), median(to_put)


class _Ended:
    """As an exchange, to whoever looks at what has become of it."""

    __slots__ = (
        *("route", "request", "downstream", "pool", "endpoint", "status", "reason", "started", "ended", "upstream_s"),
        *("bytes_in", "bytes_out", "retries", "tries", "in_pieces", "queued_s", "connect_s"),
    )

    def __init__(self, **what: Any) -> None:
        for name, value in what.items():
            setattr(self, name, value)


def _exchange() -> Any:
    return _Ended(
        route=SimpleNamespace(name="products"),
        request=SimpleNamespace(method=b"GET"),
        downstream=SimpleNamespace(listener_name="public"),
        pool=SimpleNamespace(name="backend"),
        endpoint="127.0.0.1:9001",
        status=200,
        reason="",
        started=1000.0,
        ended=1000.00123,
        upstream_s=0.0011,
        bytes_in=0,
        bytes_out=125,
        retries=0,
        tries=1,
        in_pieces=False,
        queued_s=0.0,
        connect_s=0.0,
    )


def _bug() -> None:
    raise AssertionError("an exchange could not be counted")


def scraped(routes: int, workers: int) -> tuple[float, int]:
    """Seconds of the supervisor for a scrape where all has been used, and how many lines that has."""
    text = '[admin]\naddress = "127.0.0.1:1"\n[[listeners]]\naddress = "127.0.0.1:0"\n'
    text += '[upstreams.a]\nendpoints = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]\n'
    text += "".join(f'[[routes]]\nname = "r{n}"\npath = "/{n}"\nupstream = "a"\n' for n in range(routes))
    layout = LayoutKeeper(workers)
    layout.adopt(keys_of(load_text(text).snapshot), 0.0)
    for number in range(workers):
        rows = Rows()
        rows.adopt(layout.layout.places, layout.memory.cells, number)
        for kind, of, name in layout.layout.places:
            row = rows.route(name) if kind == ROUTE else rows.row(kind, name, of)
            if kind in (ROUTE, ENDPOINT):
                for cell in range(len(row)):
                    row[cell] = cell + 1
        rows.flush()
    facts = [WorkerFacts(number, 1, [0] * COLUMN_SIZE) for number in range(workers)]
    traces = cast(TraceKeeper, SimpleNamespace(exported=0, lost=0))
    collector = Collector(layout.counted(), cast(Events, SimpleNamespace(counts={})), traces)
    began = thread_time()
    body = exposed(collector.families(facts, {}, ()), openmetrics=True)
    return thread_time() - began, body.count(b"\n")


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro_metrics", description="what metrics cost")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the medians are of as many (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=1000, help="in a round (default: %(default)s)")
    parser.add_argument("--routes", type=int, default=ROUTES, help="of a scrape (default: %(default)s)")
    options = parser.parse_args(given)
    print(f"{microseconds_to_count(options.rounds, options.batches):.2f} µs to count an exchange")
    for routes in (options.routes, 5 * options.routes):
        to_count, to_put = worker_with(routes, max(1, options.rounds // 3))
        print(
            f"{to_count:.2f} µs where there are {routes:,} routes, and then {to_put:.1f} ms for ten exchanges of each"
        )
    seconds, lines = zip(*(scraped(options.routes, WORKERS) for _ in range(max(1, options.rounds // 3))), strict=True)
    print(
        f"{1e3 * median(seconds):.0f} ms for a scrape of {options.routes} routes and {WORKERS} workers, "
        f"{lines[0]:,} lines, every counter of every route in use"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
