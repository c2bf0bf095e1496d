"""Whether a worker that tries a new configuration does worse than those that go on with the old one.

Shares are compared by the two-proportion z-test, since a few failures may be chance; and by a margin, since with many
requests a difference that is sure may still be none worth a rollback. Requests of one client are not independent, so
the bar is high: by chance alone it is passed once in 30,000 looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

# One-sided, 3.2e-5.
_SURE_Z = 4.0
# Less says nothing.
_REQUESTS_MIN = 20
# By how much the share of requests may be larger that fail by the gateway or the backend (5xx, or no answer), that
# fail by the client (4xx), and that are slow. Of TLS handshakes, that fail.
_FAILURE_MARGIN = 0.02
_REFUSAL_MARGIN = 0.2
_SLOW_MARGIN = 0.25
# Slow is what takes longer than nine of ten of the others' requests do, by more than one bucket, a factor of two.
_USUAL_SHARE = 0.9
_BUCKETS_AWAY = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """Requests of one route: how many, of them with 5xx or no answer and with 4xx, and how long, in buckets."""

    requests: int
    failed: int
    refused: int
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Of TLS with clients: how many have ended, and how many of them by failing."""

    ended: int
    failed: int


def together(some: Sequence[Seen]) -> Seen:
    """Of several routes, or workers."""
    buckets = tuple(sum(cells) for cells in zip(*(one.buckets for one in some), strict=True))
    return Seen(
        sum(one.requests for one in some), sum(one.failed for one in some), sum(one.refused for one in some), buckets
    )


def departure(tried: Mapping[str, Seen], others: Mapping[str, Seen], changed: Collection[str] = ()) -> str:
    """In words, what is worse where the new configuration is tried, by route; empty: nothing is. "" is the name for
    what no route has matched. Of routes that the others don't have, or that have `changed` what they take or do, only
    failures are compared: those of new ones with all that the others do."""
    if not others:
        return ""
    all_others, all_tried = together(list(others.values())), together(list(tried.values()))
    unrouted = (tried.get("", _nothing()).requests, all_tried.requests)
    usually = (others.get("", _nothing()).requests, all_others.requests)
    if _is_more(*unrouted, *usually, _FAILURE_MARGIN):
        return f"no route has matched {_percent(*unrouted)} of the requests, {_percent(*usually)} elsewhere"
    for name, seen in tried.items():
        if name:
            is_known = name in others and name not in changed
            words = _worse(seen, others.get(name, all_others), is_known)
            if words:
                return f"on route {name} {words}"
    return ""


def handshakes_departure(tried: Handshakes, others: Handshakes) -> str:
    """The same of handshakes: where they fail, no request comes that could."""
    failed, usually = (tried.failed, tried.ended), (others.failed, others.ended)
    if _is_more(*failed, *usually, _FAILURE_MARGIN):
        return f"{_percent(*failed)} of the TLS handshakes have failed, {_percent(*usually)} elsewhere"
    return ""


def _worse(seen: Seen, usual: Seen, is_known: bool) -> str:
    failed, usually = (seen.failed, seen.requests), (usual.failed, usual.requests)
    if _is_more(*failed, *usually, _FAILURE_MARGIN):
        return f"{_percent(*failed)} of the requests have failed, {_percent(*usually)} elsewhere"
    if not is_known:
        return ""
    refused, usually = (seen.refused, seen.requests), (usual.refused, usual.requests)
    if _is_more(*refused, *usually, _REFUSAL_MARGIN):
        return f"{_percent(*refused)} of the requests got 4xx, {_percent(*usually)} elsewhere"
    took, usual_times = _of_good_answers(seen), _of_good_answers(usual)
    begin = _usual_bucket(usual_times) + _BUCKETS_AWAY
    slow, usually = (sum(took[begin:]), sum(took)), (sum(usual_times[begin:]), sum(usual_times))
    if _is_more(*slow, *usually, _SLOW_MARGIN):
        return f"{_percent(*slow)} of the requests were slow, {_percent(*usually)} elsewhere"
    return ""


def _of_good_answers(seen: Seen) -> list[int]:
    """The buckets without failures and 4xx. What is refused is soon over, so these are taken for the fastest: else who
    fails less would be slower."""
    left, times = seen.failed + seen.refused, []
    for count in seen.buckets:
        taken = min(count, left)
        left -= taken
        times.append(count - taken)
    return times


def _usual_bucket(buckets: Sequence[int]) -> int:
    """In which nine of ten have ended."""
    wanted, so_far = _USUAL_SHARE * sum(buckets), 0
    for number, count in enumerate(buckets):
        so_far += count
        if so_far >= wanted:
            return number
    return len(buckets)


def _is_more(count: int, total: int, other_count: int, other_total: int, margin: float) -> bool:
    """Whether the first share is larger than the other one, surely and by more than the margin."""
    if total < _REQUESTS_MIN or other_total < _REQUESTS_MIN:
        return False
    share, other = count / total, other_count / other_total
    if share - other <= margin:
        return False
    pooled = (count + other_count) / (total + other_total)
    deviation = sqrt(pooled * (1 - pooled) * (1 / total + 1 / other_total))
    # Without one, all of both have failed, or none.
    return deviation > 0 and (share - other) / deviation > _SURE_Z


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.3g} %" if total else "none"


def _nothing() -> Seen:
    return Seen(0, 0, 0, ())
