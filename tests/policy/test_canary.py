from __future__ import annotations

import random

import pytest

from fastgw.policy.canary import Handshakes, Seen, departure, handshakes_departure, together

BUCKETS = 10


def seen(requests: int, failed: int = 0, refused: int = 0, slow: int = 0) -> Seen:
    """Requests that end in bucket 3, but for those that are slow, which take eight times as long."""
    buckets = [0] * BUCKETS
    buckets[3], buckets[6] = requests - slow, slow
    return Seen(requests, failed, refused, tuple(buckets))


WELL = {"a": seen(1000), "b": seen(1000, failed=10, refused=100, slow=10)}


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        ({"a": seen(100)}, ""),
        ({"a": seen(100, failed=50)}, "on route a 50 % of the requests have failed, 0 % elsewhere"),
        ({"a": seen(100, refused=50)}, "on route a 50 % of the requests got 4xx, 0 % elsewhere"),
        ({"a": seen(100, slow=60)}, "on route a 60 % of the requests were slow, 0 % elsewhere"),
        # As elsewhere, or within what is allowed.
        ({"b": seen(100, failed=1, refused=10, slow=1)}, ""),
        ({"b": seen(1000, failed=20, refused=200, slow=100)}, ""),
        # Too few to say anything.
        ({"a": seen(10, failed=10)}, ""),
        # One route among many that are well.
        ({"a": seen(10_000), "b": seen(100, failed=30)}, "on route b 30 % of the requests have failed, 1 % elsewhere"),
        # A new one.
        ({"new": seen(100, failed=50)}, "on route new 50 % of the requests have failed, 0.5 % elsewhere"),
        ({"new": seen(100)}, ""),
        # One that is gone.
        ({"b": seen(100), "": seen(100, refused=100)}, "no route has matched 50 % of the requests, 0 % elsewhere"),
    ],
)
def test_what_is_worse_is_told(tried: dict[str, Seen], words: str) -> None:
    assert departure(tried, WELL) == words


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        (Handshakes(0, 0), ""),
        (Handshakes(100, 1), ""),
        # Too few to say anything, and as elsewhere.
        (Handshakes(10, 10), ""),
        (Handshakes(500, 12), ""),
        (Handshakes(100, 100), "100 % of the TLS handshakes have failed, 1 % elsewhere"),
        (Handshakes(50, 50), "100 % of the TLS handshakes have failed, 1 % elsewhere"),
        (Handshakes(500, 30), "6 % of the TLS handshakes have failed, 1 % elsewhere"),
    ],
)
def test_more_failed_handshakes_than_elsewhere_are_told(tried: Handshakes, words: str) -> None:
    assert handshakes_departure(tried, Handshakes(1000, 10)) == words
    assert handshakes_departure(tried, Handshakes(0, 0)) == ""


def test_without_anything_to_hold_it_against_nothing_is_worse() -> None:
    assert departure({"a": seen(100, failed=100)}, {}) == ""
    assert departure({"a": seen(100, failed=100)}, {"a": seen(10)}) == ""
    assert departure({}, WELL) == ""


def test_where_all_fail_everywhere_nothing_is_worse() -> None:
    assert departure({"a": seen(100, failed=100)}, {"a": seen(100, failed=100)}) == ""


def test_what_is_better_is_not_worse() -> None:
    assert departure({"b": seen(1000)}, {"b": seen(1000, failed=900, slow=900)}) == ""


def test_chance_alone_takes_nothing_back() -> None:
    """A thousand tries of one that is as all others: 30 % of its requests fail, in small numbers."""
    draw = random.Random(1)
    bad = 0
    for _ in range(1000):
        failed = [sum(draw.random() < 0.3 for _ in range(60)) for _ in range(2)]
        bad += bool(departure({"a": seen(60, failed=failed[0])}, {"a": seen(60, failed=failed[1])}))
    assert bad == 0


def test_a_twentieth_that_fails_is_found_among_a_few_hundred() -> None:
    draw = random.Random(2)
    found = 0
    for _ in range(200):
        failed = sum(draw.random() < 0.05 for _ in range(500))
        found += bool(departure({"a": seen(500, failed=failed)}, {"a": seen(500)}))
    assert found > 150


def test_routes_are_taken_together() -> None:
    assert together([seen(5, 1, 2, 3), seen(7)]) == Seen(12, 1, 2, (0, 0, 0, 9, 0, 0, 3, 0, 0, 0))
