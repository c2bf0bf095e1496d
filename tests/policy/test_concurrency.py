from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from fastgw.policy.concurrency import ConcurrencyLimit, ConcurrencySettings

DEFAULTS = ConcurrencySettings()


# A backend with a few servers and one queue, requests that come at random, and service times that are random as well
# (an M/M/c queue), in simulated time.

SERVERS = 10
SERVICE_S = 0.01


@dataclass
class Second:
    answered: int = 0
    refused: int = 0
    latency_sum: float = 0.0
    limit: int = 0

    @property
    def latency(self) -> float:
        return self.latency_sum / max(1, self.answered)


class Simulation:
    def __init__(self, limit: ConcurrencyLimit, seed: int) -> None:
        self.limit = limit
        self.random = random.Random(seed)
        self.now = 0.0
        self.seconds: list[Second] = []
        self._free_at = [0.0] * SERVERS
        self._in_flight: list[tuple[float, float]] = []

    def run(self, until: float, rate: float, service_s: float) -> list[Second]:
        """Goes on until then, and gives what was in each second of it."""
        first = len(self.seconds)
        while self.now < until:
            self._end_until(self.now)
            if len(self.seconds) <= self.now:
                self.seconds.append(Second())
            second = self.seconds[-1]
            second.limit = self.limit.limit
            if self.limit.admits(len(self._in_flight)):
                served_at = max(self.now, heapq.heappop(self._free_at))
                ends = served_at + self.random.expovariate(1 / service_s)
                heapq.heappush(self._free_at, ends)
                heapq.heappush(self._in_flight, (ends, self.now))
            else:
                second.refused += 1
            self.now += self.random.expovariate(rate)
        return self.seconds[first:]

    def _end_until(self, now: float) -> None:
        while self._in_flight and self._in_flight[0][0] <= now:
            ended, started = self._in_flight[0]
            self.limit.sample(ended - started, len(self._in_flight), False, ended)
            heapq.heappop(self._in_flight)
            self.seconds[-1].answered += 1
            self.seconds[-1].latency_sum += ended - started


def mean_latency(seconds: list[Second]) -> float:
    return sum(second.latency_sum for second in seconds) / sum(second.answered for second in seconds)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_holds_latency_while_the_backend_is_slow_and_gives_the_room_back_afterwards(seed: int) -> None:
    simulation = Simulation(ConcurrencyLimit(DEFAULTS, 0.0), seed)
    # Four fifths of what the backend can do: hardly anybody waits, and next to nobody is refused.
    well = simulation.run(10.0, 800, SERVICE_S)
    assert sum(second.refused for second in well[2:]) < 10
    assert mean_latency(well) < 1.5 * SERVICE_S
    limit = well[-1].limit

    # Service takes three times as long, so more than twice as many come as can be served: without a limit, the
    # queue would be 14,000 long in the end, and the wait 42 s.
    slow = simulation.run(40.0, 800, 3 * SERVICE_S)
    assert max(second.limit for second in slow[3:]) < limit
    assert max(second.latency for second in slow[3:]) < 4 * 3 * SERVICE_S
    assert mean_latency(slow) < 2.5 * 3 * SERVICE_S
    # And it does not starve: once it has asked again what is usual, nearly all is served that can be.
    assert sum(second.answered for second in slow[15:]) > 0.9 * 15 * SERVERS / (3 * SERVICE_S)

    well_again = simulation.run(50.0, 800, SERVICE_S)
    assert sum(second.refused for second in well_again[3:]) < 10
    assert well_again[-1].limit > 0.8 * limit
    assert mean_latency(well_again[3:]) < 1.5 * SERVICE_S


def test_an_overload_that_lasts_does_not_become_usual() -> None:
    simulation = Simulation(ConcurrencyLimit(DEFAULTS, 0.0), 5)
    seconds = simulation.run(60.0, 2000, SERVICE_S)
    assert max(second.latency for second in seconds[20:]) < 4 * SERVICE_S
    assert mean_latency(seconds[50:]) < 2.5 * SERVICE_S
    assert sum(second.answered for second in seconds) > 0.9 * 60 * SERVERS / SERVICE_S


# Step by step.


def window(limit: ConcurrencyLimit, seconds: float, in_flight: int, now: float, dropped: int = 0) -> int:
    """A window's samples, and the limit that they make."""
    for _ in range(dropped):
        limit.sample(9.0, in_flight, True, now)
    for _ in range(10):
        limit.sample(seconds, in_flight, False, now)
    return limit.limit


def test_it_admits_as_many_as_its_limit() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=7), 0.0)
    assert [limit.admits(in_flight) for in_flight in (0, 6, 7, 8)] == [True, True, False, False]


def test_it_grows_by_a_part_of_its_root_while_latency_is_usual() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100), 0.0)
    # 100 + 0.2 * 10, and so on.
    assert [window(limit, 0.01, 60, 0.125 * step) for step in range(1, 4)] == [102, 104, 106]


def test_it_tolerates_latency_up_to_a_factor_and_falls_by_the_ratio_beyond_it() -> None:
    for latency, expected in ((0.015, 104), (0.02, 98), (0.03, 93), (9.0, 93)):
        limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100), 0.0)
        window(limit, 0.01, 60, 0.125)
        # What is usual rises by a 600th of the difference, which is seen for the slowest.
        assert window(limit, latency, 60, 0.25) == pytest.approx(expected, abs=1)


def test_it_stays_within_its_bounds() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=20, min_limit=8, max_limit=23), 0.0)
    now = 0.0
    for _ in range(50):
        now += 0.125
        window(limit, 0.01, limit.limit, now)
        assert limit.limit <= 23
    assert limit.limit == 23
    for _ in range(25):
        now += 0.125
        window(limit, 1.0, limit.limit, now)
    assert limit.limit == 8


def test_what_is_not_used_does_not_move_it() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100), 0.0)
    assert [window(limit, latency, 49, 0.125 * step) for step, latency in enumerate((0.01, 0.01, 5.0), 1)] == [100] * 3
    assert window(limit, 0.01, 50, 0.5) == 102


def test_nothing_is_judged_before_a_window_is_old_enough_and_has_enough_samples() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100), 0.0)
    for _ in range(1000):
        limit.sample(0.01, 90, False, 0.09)
    assert limit.limit == 100
    limit.sample(0.01, 90, False, 0.1)
    assert limit.limit == 102
    for _ in range(9):
        limit.sample(0.01, 90, False, 5.0)
    assert limit.limit == 102
    limit.sample(0.01, 90, False, 5.0)
    assert limit.limit == 104


def test_a_window_in_which_more_than_a_tenth_was_dropped_takes_a_tenth_once() -> None:
    for dropped, expected in ((1, 102), (2, 90), (500, 90)):
        limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100), 0.0)
        for _ in range(dropped):
            limit.sample(9.0, 90, True, 0.0625)
        assert window(limit, 0.01, 90, 0.125) == expected


def test_when_all_are_dropped_it_sinks_to_its_least() -> None:
    limit = ConcurrencyLimit(DEFAULTS, 0.0)
    for step in range(1, 400):
        limit.sample(9.0, 90, True, 0.125 * step)
    assert limit.limit == 4


def test_the_time_of_dropped_requests_does_not_count_as_latency() -> None:
    limit = ConcurrencyLimit(DEFAULTS, 0.0)
    window(limit, 0.01, 15, 0.125)
    window(limit, 0.01, 15, 0.25, dropped=1)
    window(limit, 0.01, 15, 0.375, dropped=5)
    assert limit.usual_s == pytest.approx(0.01)


def test_a_clock_too_coarse_to_see_any_time_pass_moves_nothing() -> None:
    limit = ConcurrencyLimit(DEFAULTS, 0.0)
    assert [window(limit, 0.0, 20, 0.125 * step) for step in range(1, 100)] == [20] * 99


def test_what_is_usual_sinks_fast_and_rises_slowly() -> None:
    limit = ConcurrencyLimit(DEFAULTS, 0.0)
    window(limit, 0.02, 2, 0.125)
    window(limit, 0.01, 2, 0.25)
    assert limit.usual_s == pytest.approx(0.019)
    window(limit, 0.079, 2, 0.375)
    assert limit.usual_s == pytest.approx(0.0191)


def test_it_does_not_rise_while_the_limit_keeps_requests_out() -> None:
    limit = ConcurrencyLimit(DEFAULTS, 0.0)
    window(limit, 0.02, 20, 0.125)
    for step in range(2, 70):
        window(limit, 1.0, limit.limit, 0.125 * step)
    assert limit.usual_s == pytest.approx(0.02)


def full(limit: ConcurrencyLimit, until: float, latency: float) -> float:
    """Windows in which the limit is reached; the time at the end."""
    now = 0.0
    while now < until:
        now += 0.125
        window(limit, latency, limit.limit, now)
    return now


def test_after_ten_seconds_of_keeping_requests_out_latency_is_measured_with_a_quarter_of_them() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100, max_limit=100), 0.0)
    now = full(limit, 10.0, 0.02)
    assert limit.limit == 25
    # Those that were in flight before go first, and the first window without them still has their latency.
    assert window(limit, 0.02, 60, now + 0.125) == 25
    assert window(limit, 0.05, 25, now + 0.25) == 25
    assert limit.usual_s == pytest.approx(0.02)
    assert window(limit, 0.03, 25, now + 0.375) == 100
    assert limit.usual_s == pytest.approx(0.03)


def test_a_measurement_that_can_not_begin_is_given_up() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100, max_limit=100), 0.0)
    now = full(limit, 10.0, 0.02)
    limits = [window(limit, 0.02, 60, now + 0.125 * step) for step in range(1, 11)]
    assert limits == [25] * 9 + [100]
    assert limit.usual_s == pytest.approx(0.02)


def test_a_limit_that_keeps_nobody_out_is_not_interrupted() -> None:
    limit = ConcurrencyLimit(ConcurrencySettings(initial_limit=100, max_limit=100), 0.0)
    assert [window(limit, 0.02, 99, 0.125 * step) for step in range(1, 400)] == [100] * 399
