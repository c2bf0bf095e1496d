from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.health import PANIC_THRESHOLD, HealthChecks, HealthSettings, out_mask

DEFAULTS = HealthSettings()


def middle() -> float:
    return 0.5


def states(results: str, wanted: HealthSettings = DEFAULTS) -> str:
    """What each of the results (+ and -) makes of an endpoint: U(p) or d(own)."""
    checks = HealthChecks(1, wanted, 0.0)
    seen = ""
    for result in results:
        before = checks.unhealthy
        assert checks.result(0, result == "+", 0.0, middle) == (checks.unhealthy != before)
        seen += "d" if checks.unhealthy else "U"
    return seen


# Rise and fall.


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        # The first decides at once, both ways.
        *(("+", "U"), ("-", "d")),
        # Three bad ones in a row take it out, two good ones bring it back.
        *(("+---", "UUUd"), ("+--+--+", "UUUUUUU"), ("---++", "ddddU"), ("-+-+-++", "ddddddU")),
        ("+---+---++---", "UUUdddddd" + "UUUd"),
    ],
)
def test_results_in_a_row_change_the_state(results: str, expected: str) -> None:
    assert states(results) == expected


def test_with_thresholds_of_one_each_result_decides() -> None:
    assert states("+-+-", HealthSettings(rise=1, fall=1)) == "UdUd"


@settings(max_examples=100, deadline=None)
@given(st.text("+-", min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_the_state_is_what_the_last_row_long_enough_says(results: str, rise: int, fall: int) -> None:
    expected = ""
    for end in range(1, len(results) + 1):
        seen = results[:end]
        state = "U" if seen[0] == "+" else "d"
        for at in range(1, end):
            if state == "d" and seen[1 : at + 1].endswith("+" * rise):
                state = "U"
            elif state == "U" and seen[: at + 1].endswith("-" * fall):
                state = "d"
        expected += state
    assert states(results, HealthSettings(rise=rise, fall=fall)) == expected


def test_one_that_was_never_checked_is_healthy() -> None:
    checks = HealthChecks(3, DEFAULTS, 0.0)
    assert checks.unhealthy == 0
    checks.result(2, False, 0.0, middle)
    assert checks.unhealthy == 0b100


# When.


def test_all_are_checked_at_once_at_the_beginning_and_then_spread_over_an_interval() -> None:
    checks = HealthChecks(2, DEFAULTS, 7.0)
    assert (checks.due(0), checks.due(1)) == (7.0, 7.0)
    checks.result(0, True, 7.0, lambda: 0.0)
    checks.result(1, True, 7.0, lambda: 0.75)
    assert (checks.due(0), checks.due(1)) == (7.0, 7.0 + 3.75)


def test_intervals_differ_by_a_tenth_at_random() -> None:
    for chance, interval in ((0.0, 4.5), (0.5, 5.0), (0.75, 5.25)):
        checks = HealthChecks(1, DEFAULTS, 0.0)
        checks.result(0, True, 0.0, middle)
        checks.result(0, True, 10.0, lambda chance=chance: chance)  # type: ignore[misc]
        assert checks.due(0) == pytest.approx(10.0 + interval)


def test_a_result_that_contradicts_the_state_is_checked_sooner() -> None:
    checks = HealthChecks(1, DEFAULTS, 0.0)
    intervals = []
    for ok in (True, True, False, False, False, False, True, True, True):
        checks.result(0, ok, 0.0, middle)
        intervals.append(checks.due(0))
    assert intervals == [2.5, 5.0, 1.0, 1.0, 5.0, 5.0, 1.0, 5.0, 5.0]


# Who is out.


@pytest.mark.parametrize(
    ("backups", "unhealthy", "ejected", "draining", "out"),
    [
        # Nothing speaks against anybody.
        (0b0000, 0b0000, 0b0000, 0b0000, 0b0000),
        # Each reason counts for itself, and together with the others.
        (0b0000, 0b0001, 0b0000, 0b0000, 0b0001),
        (0b0000, 0b0000, 0b0010, 0b0000, 0b0010),
        (0b0000, 0b0000, 0b0000, 0b0100, 0b0100),
        (0b0000, 0b0001, 0b0011, 0b0100, 0b0111),
        # Backups stand by as long as one primary is available.
        (0b1000, 0b0000, 0b0000, 0b0000, 0b1000),
        (0b1100, 0b0001, 0b0000, 0b0000, 0b1101),
        (0b1100, 0b0001, 0b0010, 0b0000, 0b0011),
        (0b1100, 0b0101, 0b0010, 0b0000, 0b0111),
        (0b1100, 0b0000, 0b0000, 0b0011, 0b0011),
        # Nobody is available: all are used, backups as well, but for what drains.
        (0b0000, 0b1111, 0b0000, 0b0000, 0b0000),
        (0b1000, 0b1100, 0b0011, 0b0000, 0b0000),
        (0b1000, 0b1010, 0b0100, 0b0001, 0b0001),
        (0b0000, 0b0000, 0b0000, 0b1111, 0b1111),
        # Only backups.
        (0b1111, 0b0001, 0b0000, 0b0000, 0b0001),
    ],
)
def test_who_must_not_be_picked(backups: int, unhealthy: int, ejected: int, draining: int, out: int) -> None:
    assert out_mask(0b1111, backups, unhealthy, ejected, draining) == out


def test_without_panic_nobody_is_used_when_nobody_is_available() -> None:
    assert out_mask(0b111, 0b100, 0b111, 0, 0, 0.0) == 0b111
    assert out_mask(0b111, 0b100, 0b011, 0, 0, 0.0) == 0b011


@pytest.mark.parametrize(
    ("count", "available", "threshold", "panics"),
    [
        *((2, 1, 0.5, False), (3, 1, 0.5, True), (4, 2, 0.5, False), (4, 1, 0.5, True)),
        # The default: up to ten endpoints, one is enough.
        *((3, 1, PANIC_THRESHOLD, False), (10, 1, PANIC_THRESHOLD, False), (11, 1, PANIC_THRESHOLD, True)),
        *((20, 2, PANIC_THRESHOLD, False), (20, 1, PANIC_THRESHOLD, True)),
    ],
)
def test_below_the_panic_threshold_all_primaries_are_used(
    count: int, available: int, threshold: float, panics: bool
) -> None:
    primaries = (1 << count) - 1
    unhealthy = primaries & ~((1 << available) - 1)
    assert out_mask(primaries, 0, unhealthy, 0, 0, threshold) == (0 if panics else unhealthy)
    # Where there are backups, they help those that are left.
    backup = 1 << count
    assert out_mask(primaries | backup, backup, unhealthy, 0, 0, threshold) == unhealthy | (0 if panics else backup)


def test_what_drains_does_not_count_for_the_threshold() -> None:
    # One of two that are wanted, not one of four.
    assert out_mask(0b1111, 0, 0b0010, 0, 0b1100, 0.5) == 0b1110


MASKS = st.integers(0, 0b111111)


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS, MASKS, MASKS, MASKS, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_the_mask_keeps_its_promises(
    everyone: int, backups: int, unhealthy: int, ejected: int, draining: int, threshold: float
) -> None:
    out = out_mask(everyone, backups, unhealthy, ejected, draining, threshold)
    left = everyone & ~out
    good = everyone & ~(unhealthy | ejected | draining)
    assert out & ~everyone == 0
    assert left & draining == 0
    if good & ~backups:
        # Whoever is available and first in turn is never kept out, and backups help only where too few are.
        assert good & ~backups & out == 0
        wanted = everyone & ~draining & ~backups
        are_enough = (good & ~backups).bit_count() >= threshold * wanted.bit_count()
        assert left & backups == (0 if are_enough else good & backups)
    elif good:
        assert good & out == 0
        assert left & ~backups == 0
    else:
        assert left == (everyone & ~draining if threshold else 0)
    if not threshold:
        assert left & (unhealthy | ejected) == 0
