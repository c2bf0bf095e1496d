"""What a match costs, and that it doesn't grow with the number of routes: `python -m
benchmarks.micro_router`.

Rounds are interleaved, so that whatever else the machine does falls on all cases alike; the medians are
printed.
"""

from __future__ import annotations

import random
from statistics import median
from timeit import default_timer as seconds_now

from fastgw.policy.router import NOT_FOUND, Router, Rule

SIZES = (10, 1_000, 100_000)
ROUNDS = 15
MATCHES_PER_ROUND = 20_000
# Different requests, but few enough to fit in the processor's caches as their routes would under real
# traffic.
REQUESTS = 100

KINDS = ("literal", "one parameter", "wildcard", "miss")
HOST = b"shop.example.com"


class NoFacts:
    """A request without anything that a condition could ask for."""

    def header(self, name: bytes) -> bytes | None:
        return None

    def query_value(self, name: bytes) -> bytes | None:
        return None

    def cookie(self, name: bytes) -> bytes | None:
        return None


def build_router(size: int) -> Router:
    """A third each of literal, one-parameter and wildcard routes, all of three segments."""
    patterns = (b"/api/list%d/all", b"/api/item%d/{id}", b"/api/files%d/*")
    return Router([Rule((HOST,), patterns[place % 3] % (place // 3), (b"GET",)) for place in range(size)])


def build_paths(size: int) -> dict[str, list[bytes]]:
    chooser = random.Random(size)
    numbers = [chooser.randrange(size // 3) for _ in range(REQUESTS)]
    return {
        "literal": [b"/api/list%d/all" % number for number in numbers],
        "one parameter": [b"/api/item%d/7f3a" % number for number in numbers],
        "wildcard": [b"/api/files%d/a.png" % number for number in numbers],
        "miss": [b"/api/other%d/all" % number for number in numbers],
    }


def microseconds_per_match(router: Router, paths: list[bytes]) -> float:
    facts = NoFacts()
    match = router.match
    started = seconds_now()
    for _ in range(MATCHES_PER_ROUND // len(paths)):
        for path in paths:
            match(HOST, path, b"GET", facts)
    return (seconds_now() - started) * 1e6 / MATCHES_PER_ROUND


def main() -> None:
    routers = {}
    for size in SIZES:
        started = seconds_now()
        routers[size] = build_router(size)
        print(f"{size:>7,} routes built in {seconds_now() - started:.3f} s")
    paths = {size: build_paths(size) for size in SIZES}
    for size in SIZES:
        for kind in KINDS:
            found = routers[size].match(HOST, paths[size][kind][0], b"GET", NoFacts())[0] != NOT_FOUND
            assert found == (kind != "miss"), (size, kind)
    measured: dict[tuple[int, str], list[float]] = {(size, kind): [] for size in SIZES for kind in KINDS}
    for _ in range(ROUNDS):
        for (size, kind), samples in measured.items():
            samples.append(microseconds_per_match(routers[size], paths[size][kind]))
    print(f"\n{'µs per match':>15}" + "".join([f"{kind:>16}" for kind in KINDS]))
    for size in SIZES:
        print(f"{size:>8,} routes" + "".join([f"{median(measured[size, kind]):>16.2f}" for kind in KINDS]))


if __name__ == "__main__":
    main()
