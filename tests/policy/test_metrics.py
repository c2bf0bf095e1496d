from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fastgw import counters, errors
from fastgw.counters import BUCKETS, ENDPOINT, HISTOGRAM, LISTENER, ROUTE
from fastgw.policy.metrics import ExchangeCounts
from fastgw.rows import Rows
from tests.fakes import Bugs, records


def exchange(**differences: Any) -> Any:
    usual = {
        "route": SimpleNamespace(name="r"),
        "request": SimpleNamespace(method=b"GET"),
        "downstream": SimpleNamespace(listener_name="in"),
        "pool": SimpleNamespace(name="u"),
        "endpoint": "e:1",
        "status": 200,
        "reason": "",
        "started": 100.0,
        "ended": 100.001,
        "upstream_s": 0.0008,
        "bytes_in": 0,
        "bytes_out": 5,
        "retries": 0,
        "tries": 1,
        "in_pieces": False,
        "queued_s": 0.0,
        "connect_s": 0.0,
    }
    return SimpleNamespace(**{**usual, **differences})


def counted(*exchanges: Any) -> Rows:
    rows = Rows()
    counts = ExchangeCounts(rows, Bugs())
    counts.take(records(*exchanges))
    counts.add_to_rows()
    return rows


def nonzero(row: list[int], begin: int, count: int) -> dict[int, int]:
    return {number: value for number, value in enumerate(row[begin : begin + count]) if value}


def test_an_exchange_counts_for_its_route_its_listener_and_its_endpoint() -> None:
    rows = counted(exchange(), exchange(status=503, request=SimpleNamespace(method=b"POST"), bytes_in=7))
    row = rows.route("r")
    post = counters.METHODS.index(b"POST") * counters.CLASSES
    assert nonzero(row, counters.ANSWERS, counters.REFUSED) == {2: 1, post + 5: 1}
    assert (row[counters.ROUTE_BYTES_IN], row[counters.ROUTE_BYTES_OUT]) == (7, 10)
    assert nonzero(rows.row(LISTENER, "in"), 0, counters.CLASSES) == {2: 1, 5: 1}
    assert nonzero(rows.row(ENDPOINT, "e:1", "u"), 0, counters.CLASSES) == {2: 1, 5: 1}


def test_durations_fall_into_buckets_and_are_summed_up() -> None:
    rows = counted(exchange(), exchange(ended=100.0009))
    route, endpoint = rows.route("r"), rows.row(ENDPOINT, "e:1", "u")
    # 1,000 and 900 µs are below 1,024, 800 as well; what is left for the gateway, 200 and 100, below 256 and 128.
    took, own = route[counters.DURATION :][:HISTOGRAM], route[counters.OWN :][:HISTOGRAM]
    assert nonzero(took, 0, BUCKETS) == {6: 2}
    assert nonzero(own, 0, BUCKETS) == {4: 1, 3: 1}
    assert nonzero(endpoint[counters.HEAD :], 0, BUCKETS) == {6: 2}
    assert took[BUCKETS] == pytest.approx(1900, abs=2)
    assert own[BUCKETS] == pytest.approx(300, abs=3)
    assert endpoint[counters.HEAD + BUCKETS] == pytest.approx(1600, abs=2)


def test_waits_for_connections_streams_and_tries_before_are_not_the_gateway_s_own() -> None:
    row = counted(exchange(queued_s=0.0001, connect_s=0.00005)).route("r")
    assert row[counters.OWN + BUCKETS] == pytest.approx(50, abs=2)
    for others in ({"in_pieces": True}, {"tries": 2}):
        assert not any(counted(exchange(**others)).route("r")[counters.OWN :][:HISTOGRAM])


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (15e-6, 0), (16.5e-6, 1), (0.5, 15), (67.2, BUCKETS - 1), (1e6, BUCKETS - 1)],
)
def test_the_shortest_and_the_longest_have_a_bucket_too(seconds: float, bucket: int) -> None:
    row = counted(exchange(started=0.0, ended=seconds, upstream_s=0.0)).route("r")
    assert nonzero(row[counters.DURATION :], 0, BUCKETS) == {bucket: 1}


def test_what_no_route_has_matched_is_counted_without_a_name() -> None:
    row = counted(exchange(route=None, pool=None, status=404, reason="no-route", upstream_s=0.0)).route("")
    assert row[counters.ANSWERS + 4] == 1
    assert row[counters.REFUSED + counters.REASONS.index("no-route")] == 1


def test_each_reason_there_is_has_a_place() -> None:
    reasons = sorted({one.reason for one in vars(errors).values() if isinstance(one, errors.Failure)})
    row = counted(*(exchange(reason=reason) for reason in reasons)).route("r")
    assert row[counters.REFUSED : counters.REFUSED + len(reasons)] == [1] * len(reasons)


def test_a_method_that_is_none_of_the_usual_ones_is_counted_with_all_of_its_like() -> None:
    row = counted(*(exchange(request=SimpleNamespace(method=method)) for method in (b"PROPFIND", b""))).route("r")
    assert row[counters.ANSWERS + len(counters.METHODS) * counters.CLASSES + 2] == 2


def test_retries_are_counted() -> None:
    assert counted(exchange(retries=2), exchange(retries=1)).route("r")[counters.ROUTE_RETRIES] == 3


def test_an_exchange_that_can_t_be_counted_is_a_bug_and_takes_nobody_along() -> None:
    rows, bugs = Rows(), Bugs()
    bugs.expected = True
    counts = ExchangeCounts(rows, bugs)
    counts.take(records(exchange(status=None)))
    counts.take(records(exchange()))
    counts.add_to_rows()
    assert rows.route("r")[counters.ANSWERS + 2] == 1


def test_rows_are_looked_up_anew_when_there_are_others() -> None:
    rows = Rows()
    counts = ExchangeCounts(rows, Bugs())
    counts.take(records(exchange()))
    before = rows.route("r")
    counts.look_up_again()
    rows.adopt({}, memoryview(b"").cast("Q"), 0)
    counts.take(records(exchange()))
    counts.add_to_rows()
    assert (before[counters.ANSWERS + 2], rows.route("r")[counters.ANSWERS + 2]) == (1, 1)


def test_counts_reach_the_rows_once() -> None:
    rows = Rows()
    counts = ExchangeCounts(rows, Bugs())
    counts.take(records(exchange(), exchange(bytes_in=3)))
    counts.add_to_rows()
    counts.add_to_rows()
    counts.take(records(exchange()))
    counts.add_to_rows()
    row = rows.route("r")
    assert (row[counters.ANSWERS + 2], row[counters.ROUTE_BYTES_IN], row[counters.ROUTE_BYTES_OUT]) == (3, 3, 15)
    assert rows.row(LISTENER, "in")[2] == rows.row(ENDPOINT, "e:1", "u")[2] == 3


def test_kinds_of_exchanges_without_end_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.policy.metrics._TALLIES_MAX", 3)
    rows = counted(*(exchange(status=status) for status in range(200, 300)))
    assert rows.route("r")[counters.ANSWERS + 2] == 100


def test_when_there_are_too_many_only_the_longest_counted_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.policy.metrics._TALLIES_MAX", 3)
    rows = Rows()
    counts = ExchangeCounts(rows, Bugs())
    found = records(*(exchange(status=status) for status in (200, 300, 400, 500)))
    counts.take(found)
    assert nonzero(rows.route("r"), counters.ANSWERS, counters.CLASSES) == {2: 1}
    assert [kind.tally is None for _, kind, _, _ in found] == [True, False, False, False]
    counts.take(found[:1])
    counts.add_to_rows()
    assert nonzero(rows.route("r"), counters.ANSWERS, counters.CLASSES) == {2: 2, 3: 1, 4: 1, 5: 1}


def test_routes_are_counted_where_the_supervisor_reads_and_nothing_is_copied() -> None:
    size = counters.SIZES[ROUTE]
    memory = memoryview(bytearray(8 * size)).cast("Q")
    rows = Rows()
    counts = ExchangeCounts(rows, Bugs())
    counts.take(records(exchange()))
    counts.look_up_again()
    rows.adopt({(ROUTE, "", "r"): 0}, memory, 0)
    assert memory[counters.ANSWERS + 2] == 1
    counts.take(records(exchange(), exchange()))
    counts.add_to_rows()
    assert memory[counters.ANSWERS + 2] == memory[counters.DURATION + 6] == 3
