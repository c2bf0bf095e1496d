"""What a pick costs, and how it grows with the endpoints of an upstream: `python -m benchmarks.micro_balancer`.

Rounds are interleaved, so that whatever else the machine does falls on all cases alike; the medians are
printed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import cycle
from statistics import median
from timeit import default_timer as seconds_now

from fastgw.policy.balancer import LeastRequests, PowerOfTwo, Random, RoundRobin
from fastgw.policy.maglev import Maglev, hash_of
from fastgw.policy.peak_ewma import PeakEwma

SIZES = (1, 3, 10, 100)
ROUNDS = 15
PICKS_PER_ROUND = 4_000
CAPACITY = 256

Pick = Callable[[list[int], int, int], int]


class ByKey:
    """Maglev for one key after another, hashed as they come."""

    def __init__(self, maglev: Maglev) -> None:
        self._maglev = maglev
        self._keys = cycle([b"203.0.113.%d" % number for number in range(256)])

    def pick(self, active: list[int], capacity: int, excluded: int) -> int:
        return self._maglev.pick_for(hash_of(next(self._keys)), active, capacity, excluded)


def build_picks(size: int) -> dict[str, Pick]:
    """Each algorithm for that many endpoints, under the name that is printed."""
    equal = (1,) * size
    mixed = tuple(range(1, size + 1))
    chance = random.Random(size).random
    peak_ewma = PeakEwma(mixed, chance)
    for endpoint in range(size):
        peak_ewma.observe(endpoint, chance(), endpoint / size)
    names = tuple([f"10.0.0.{endpoint}:80" for endpoint in range(size)])
    started = seconds_now()
    maglev = Maglev(names, mixed)
    print(f"a Maglev table for {size} endpoints filled in {seconds_now() - started:.3f} s")
    return {
        "round-robin": RoundRobin(equal).pick,
        "by weight": RoundRobin(mixed).pick,
        "least": LeastRequests(mixed).pick,
        "random": Random(mixed, chance).pick,
        "two choices": PowerOfTwo(mixed, chance).pick,
        "peak EWMA": peak_ewma.pick,
        "maglev": ByKey(maglev).pick,
    }


def microseconds_per_pick(pick: Pick, active: list[int], excluded: int) -> float:
    rounds = range(PICKS_PER_ROUND)
    started = seconds_now()
    for _ in rounds:
        pick(active, CAPACITY, excluded)
    return (seconds_now() - started) * 1e6 / PICKS_PER_ROUND


def main() -> None:
    cases = {}
    for size in SIZES:
        chooser = random.Random(size)
        active = [chooser.randrange(8) for _ in range(size)]
        picks = build_picks(size)
        # None that can't be taken, and one in ten, but at least one.
        for excluded in (0, sum(1 << place for place in range(0, size, 10))):
            for name, pick in picks.items():
                cases[size, excluded, name] = (pick, active)
    measured: dict[tuple[int, int, str], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case, (pick, active) in cases.items():
            measured[case].append(microseconds_per_pick(pick, active, case[1]))
    names = list(dict.fromkeys(name for _, _, name in cases))
    print(f"{'µs per pick':>26}" + "".join([f"{name:>13}" for name in names]))
    for size, excluded in dict.fromkeys((size, excluded) for size, excluded, _ in cases):
        left_out = f", {excluded.bit_count()} excluded" if excluded else ""
        figures = [f"{median(measured[size, excluded, name]):>13.2f}" for name in names]
        print(f"{f'{size} endpoints{left_out}':>26}" + "".join(figures))


if __name__ == "__main__":
    main()
