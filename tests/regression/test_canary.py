"""Defects of reloads that one worker tries first."""

from __future__ import annotations

import pytest

from fastgw.policy.canary import Seen, departure


def seen(requests: int, bucket: int, failed: int = 0, refused: int = 0) -> Seen:
    """Requests that all end in one bucket."""
    buckets = [0] * 24
    buckets[bucket] = requests
    return Seen(requests, failed, refused, tuple(buckets))


@pytest.mark.parametrize("usual", [seen(1000, 2, failed=1000), seen(1000, 2, refused=1000)])
def test_who_ended_an_outage_was_taken_back_since_answers_take_longer_than_failures(usual: Seen) -> None:
    assert departure({"a": seen(1000, 10)}, {"a": usual}) == ""


def test_who_is_slower_than_those_that_fail_now_and_then_is_taken_back_all_the_same() -> None:
    words = departure({"a": seen(1000, 10)}, {"a": seen(1000, 2, failed=100, refused=100)})
    assert words == "on route a 100 % of the requests were slow, 0 % elsewhere"
