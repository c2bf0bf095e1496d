"""Medians, and ratios taken round by round."""

import pytest

from benchmarks.results import CPU_US, MEMORY_BYTES, Sample, ratios_by_round, summarize


def sample(peer: str, number: int, cpu: float, *problems: str, workload: str = "json") -> Sample:
    return Sample(workload, peer, number, {CPU_US: cpu}, problems)


def test_a_ratio_is_of_two_figures_of_one_round() -> None:
    # The second round ran on a slower machine: a ratio of medians would be 1.5, every round says 1.0.
    samples = [sample("fastgw", 1, 20.0), sample("fastgw", 2, 40.0), sample("nginx", 1, 20.0)]
    assert ratios_by_round(samples[:2], samples[2:], CPU_US) == [1.0]
    fastgw, nginx = summarize([*samples, sample("nginx", 2, 40.0)])
    assert (fastgw.ratio, nginx.ratio) == (1.0, 1.0)


def test_the_ratio_is_the_median_of_the_rounds_with_its_extremes() -> None:
    samples = [sample("nginx", n, 10.0) for n in (1, 2, 3)]
    samples += [sample("fastgw", 1, 9.0), sample("fastgw", 2, 30.0), sample("fastgw", 3, 11.0)]
    fastgw = summarize(samples)[1]
    assert fastgw.ratio == pytest.approx(1.1)
    assert fastgw.lowest_ratio == pytest.approx(0.9)
    assert fastgw.highest_ratio == pytest.approx(3.0)
    assert (fastgw.medians[CPU_US], fastgw.least) == (11.0, 9.0)


def test_figures_have_ranges() -> None:
    (fastgw,) = summarize([sample("fastgw", n, cpu) for n, cpu in ((1, 9.0), (2, 30.0), (3, 11.0))])
    assert fastgw.ranges == {CPU_US: (9.0, 30.0)}


def test_a_round_with_problems_counts_for_nothing_and_spoils_the_row() -> None:
    samples = [sample("nginx", 1, 10.0), sample("nginx", 2, 10.0)]
    samples += [sample("fastgw", 1, 10.0), sample("fastgw", 2, 1.0, "3 read errors")]
    fastgw = summarize(samples)[1]
    assert fastgw.medians[CPU_US] == 10.0
    assert fastgw.ratio == 1.0
    assert not fastgw.valid
    assert fastgw.problems == ("round 2: 3 read errors",)


def test_without_the_reference_there_is_no_ratio() -> None:
    (fastgw,) = summarize([sample("fastgw", 1, 10.0)])
    assert fastgw.ratio is None
    assert fastgw.medians[CPU_US] == 10.0


def test_a_peer_that_never_ran_has_a_row_all_the_same() -> None:
    (nginx,) = summarize([Sample("json", "nginx", 1, {}, ("not ready within 15 s",))])
    assert nginx.medians == {}
    assert not nginx.valid


def test_idle_workloads_are_compared_by_memory() -> None:
    samples = [
        Sample("idle", "nginx", 1, {MEMORY_BYTES: 400.0}),
        Sample("idle", "fastgw", 1, {MEMORY_BYTES: 800.0}),
    ]
    assert [summary.ratio for summary in summarize(samples)] == [1.0, 2.0]


def test_workloads_keep_the_order_in_which_they_ran() -> None:
    samples = [sample("nginx", 1, 1.0, workload="b"), sample("nginx", 1, 1.0, workload="a")]
    assert [summary.workload for summary in summarize(samples)] == ["b", "a"]
