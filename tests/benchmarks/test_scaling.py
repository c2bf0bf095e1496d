"""The capacity of two workers."""

import os
from pathlib import Path

import pytest

from benchmarks.bench import Bench, on_all_cores
from benchmarks.results import CAPACITY, CPU_US, CPU_US_OF_ONE, CPU_US_OF_TWO, OTHERS_SHARE
from benchmarks.scaling import compared


def figures(cpu: float, others: float = 0.0) -> dict[str, float]:
    return {CPU_US: cpu, OTHERS_SHARE: others}


@pytest.mark.parametrize(("one", "two", "capacity"), [(20.0, 20.0, 2.0), (20.0, 40.0, 1.0), (18.5, 20.0, 1.85)])
def test_two_workers_are_worth_two_when_a_request_costs_them_no_more(one: float, two: float, capacity: float) -> None:
    found = compared(figures(one), figures(two))
    assert found[CAPACITY] == pytest.approx(capacity)
    assert (found[CPU_US_OF_ONE], found[CPU_US_OF_TWO]) == (one, two)


def test_strangers_are_those_of_the_more_disturbed_half() -> None:
    assert compared(figures(1.0, 0.3), figures(1.0, 0.1))[OTHERS_SHARE] == 0.3


def test_two_workers_share_all_cores_with_the_load_and_then_the_backend_goes_back(tmp_path: Path) -> None:
    usable = os.sched_getaffinity(0)
    cores = tuple(sorted(usable))
    bench = Bench(tmp_path, 0, os.getpid(), cores[:1], cores[-1:], 64, 1, 0)  # this process plays the backend
    try:
        with on_all_cores(bench) as placed:
            assert placed.peer_cores == placed.load_cores == tuple(sorted({cores[0], cores[-1]}))
            assert os.sched_getaffinity(0) == set(placed.load_cores)
        assert os.sched_getaffinity(0) == set(cores[-1:])
    finally:
        os.sched_setaffinity(0, usable)
