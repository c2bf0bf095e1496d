"""What scrapes do to requests: `python -m benchmarks.scraping [--rounds N] [--seconds N]`.

A gateway of one worker with a thousand routes, all of which have been used, in front of a backend that takes 5 ms. Each
round has a phase in which nobody asks for metrics, and one in which somebody does twice a second, thirty times as often
as Prometheus by default. Clients, backend and supervisor share the cores that the worker does not have.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import monotonic

import uvloop

from benchmarks.clients import Clients, Outcome, errors, percentile
from benchmarks.guarded import gateway_before
from benchmarks.processes import free_port
from benchmarks.troubled import started

CONNECTIONS = 16
_BETWEEN_S = 0.5
# Until what was counted is where it is read.
_COUNTED_S = 1.0
_QUIET, _SCRAPED = "nobody asks for metrics", "scraped twice a second"


def _settings(routes: int, admin_port: int) -> str:
    """Beside the upstream's own."""
    route = '[[routes]]\nname = "r{number}"\npath = "/r{number}"\nrespond.body = ""\n'
    others = "".join([route.format(number=number) for number in range(routes)])
    return f'[admin]\naddress = "127.0.0.1:{admin_port}"\n{others}'


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        body: bytes = answer.read()
        return body


def _use_all(port: int, routes: int) -> None:
    for number in range(routes):
        _get(port, f"/r{number}")


async def measure(rounds: int, seconds: float, routes: int) -> tuple[dict[str, list[list[Outcome]]], list[float], int]:
    """What clients saw of each phase, round by round; seconds of each scrape, and how many lines it has."""
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    admin_port = free_port()
    found: dict[str, list[list[Outcome]]] = {_QUIET: [], _SCRAPED: []}
    scrapes: list[float] = []
    lines = 0
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as directory,
        started(others, 1) as endpoints,
        gateway_before(endpoints, _settings(routes, admin_port), cores, Path(directory)) as gateway,
    ):
        await asyncio.to_thread(_use_all, gateway.port, routes)
        clients = Clients(gateway.port)
        await clients.start(CONNECTIONS)
        await asyncio.sleep(_COUNTED_S)
        for _ in range(rounds):
            began = monotonic()
            await asyncio.sleep(seconds)
            changed = monotonic()
            while monotonic() < changed + seconds:
                asked = monotonic()
                lines = (await asyncio.to_thread(_get, admin_port, "/metrics")).count(b"\n")
                scrapes.append(monotonic() - asked)
                await asyncio.sleep(_BETWEEN_S)
            found[_QUIET].append(clients.since(began, changed))
            found[_SCRAPED].append(clients.since(changed, monotonic()))
        await clients.stop()
    return found, scrapes, lines


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scraping", description="what scrapes do to requests")
    parser.add_argument("--rounds", type=int, default=5, help="the medians are of as many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a phase (default: %(default)s)")
    parser.add_argument("--routes", type=int, default=1000, help="all of them in use (default: %(default)s)")
    options = parser.parse_args(given)
    found, scrapes, lines = uvloop.run(measure(options.rounds, options.seconds, options.routes))
    for phase, rounds in found.items():
        p50, p99, p999 = (median([percentile(one, share) for one in rounds]) * 1e3 for share in (0.5, 0.99, 0.999))
        failed = sum([errors(one) for one in rounds])
        print(f"{phase:24} p50 {p50:.2f}  p99 {p99:.2f}  p99.9 {p999:.2f} ms  {failed} errors")
    took = f"{median(scrapes) * 1e3:.0f} ms each, {max(scrapes) * 1e3:.0f} at most"
    print(f"{len(scrapes)} scrapes of {lines:,} lines, {took}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
