"""What the rounds come to: medians per workload and peer, and ratios to a reference peer, round by round.

A ratio of two medians would compare a round in which the machine was faster with one in which it was slower.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

REFERENCE = "nginx"

REQUESTS_PER_SECOND = "requests_per_second"
P50_US = "p50_us"
P99_US = "p99_us"
CPU_US = "cpu_us_per_request"
OTHERS_SHARE = "others_share_of_core"
MEMORY_BYTES = "memory_bytes_per_connection"
MEMORY_BEFORE = "memory_bytes_before"
START_SECONDS = "start_seconds"  # from the start of the program to its first answer

# Of one worker and of two: see scaling.py.
CPU_US_OF_ONE = "cpu_us_per_request_of_one_worker"
CPU_US_OF_TWO = "cpu_us_per_request_of_two_workers"
CAPACITY = "capacity_of_two_workers_to_one"

# What the busiest of several workers has, to the mean: see balance.py.
CONNECTIONS_OF_64 = "connections_of_64_max_to_mean"
CONNECTIONS_OF_1000 = "connections_of_1000_max_to_mean"
REQUESTS_NEW = "requests_on_new_connections_max_to_mean"

# Of an endpoint that becomes slow: see tail.py.
HEALTHY_P50_US = "healthy_p50_us"
HEALTHY_P99_US = "healthy_p99_us"
HEALTHY_P999_US = "healthy_p999_us"
HEALTHY_ERRORS = "healthy_errors"
EJECTED_AFTER = "ejected_after_seconds"
FIRST_SECOND_P99_US = "first_second_p99_us"
SLOW_P50_US = "slow_p50_us"
SLOW_P99_US = "slow_p99_us"
SLOW_P999_US = "slow_p999_us"
SLOW_ERRORS = "slow_errors"
WORST_SECOND_P99_US = "worst_second_p99_us"
SLOW_TO_HEALTHY_P99 = "slow_p99_to_healthy"

# Of endpoints that fail and return: see recovery.py.
FIRST_SUCCESS = "first_success_intervals"
RECOVERED = "recovered_intervals"
FAILED_FOR = "failed_for_seconds"
RETRIES = "retries"
RETRIES_ALLOWED = "retries_allowed"
REQUESTS_ASKED = "requests_of_clients"
REQUESTS_SEEN = "requests_seen_by_endpoints"

# What the ratio of a workload is taken of: the first of these that was measured.
COMPARED = (CPU_US, MEMORY_BYTES, CAPACITY, CONNECTIONS_OF_1000, SLOW_TO_HEALTHY_P99, RECOVERED)


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one peer at one workload."""

    workload: str
    peer: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"valid": self.valid}


@dataclass(frozen=True, slots=True)
class Summary:
    """All turns of one peer at one workload."""

    workload: str
    peer: str
    rounds: int
    medians: dict[str, float]
    ranges: dict[str, tuple[float, float]]  # the least and the most of each figure
    least: float | None  # of `compared`: the round that the machine disturbed least
    ratio: float | None  # of `compared`, to the reference; below 1 is cheaper
    lowest_ratio: float | None
    highest_ratio: float | None
    compared: str
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"valid": self.valid}


def summarize(samples: Sequence[Sample], reference: str = REFERENCE) -> list[Summary]:
    """One summary per workload and peer, in the order in which they first ran."""
    pairs = dict.fromkeys((sample.workload, sample.peer) for sample in samples)
    # Peers change places from round to round; the report keeps the order of the first round.
    workloads = list(dict.fromkeys(workload for workload, _ in pairs))
    return [
        _summary(
            [sample for sample in samples if (sample.workload, sample.peer) == (workload, peer)],
            [sample for sample in samples if (sample.workload, sample.peer) == (workload, reference)],
        )
        for workload in workloads
        for peer in (peer for name, peer in pairs if name == workload)
    ]


def _summary(own: Sequence[Sample], reference: Sequence[Sample]) -> Summary:
    good = [sample for sample in own if sample.valid]
    names = dict.fromkeys(name for sample in good for name in sample.figures)
    measured = {name: [sample.figures[name] for sample in good if name in sample.figures] for name in names}
    # Also of spoiled rounds: an invalid row belongs beside the valid ones of its kind.
    compared = next((name for name in COMPARED if any(name in sample.figures for sample in own)), CPU_US)
    ratios = ratios_by_round(good, reference, compared)
    return Summary(
        workload=own[0].workload,
        peer=own[0].peer,
        rounds=len(own),
        least=min(measured.get(compared, ()), default=None),
        medians={name: median(found) for name, found in measured.items()},
        ranges={name: (min(found), max(found)) for name, found in measured.items()},
        ratio=median(ratios) if ratios else None,
        lowest_ratio=min(ratios, default=None),
        highest_ratio=max(ratios, default=None),
        compared=compared,
        problems=tuple(dict.fromkeys(f"round {s.round}: {text}" for s in own for text in s.problems)),
    )


def ratios_by_round(own: Iterable[Sample], reference: Iterable[Sample], figure: str) -> list[float]:
    """Own figure over the reference's of the same round, for the rounds in which both are valid."""
    base = {s.round: s.figures[figure] for s in reference if s.valid and s.figures.get(figure)}
    return [s.figures[figure] / base[s.round] for s in own if s.round in base and figure in s.figures]
