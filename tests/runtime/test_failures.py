from __future__ import annotations

import dataclasses

import pytest

from fastgw import errors
from fastgw.net.failure_record import FailureRecord
from fastgw.runtime.failures import Failures, explanation

RECORD = FailureRecord(
    at=1e9 + 0.5,
    listener="in",
    client="192.0.2.7",
    scheme="http",
    method="GET",
    host="a.test",
    path="/x",
    route="r",
    upstream="a",
    endpoint="h:1",
    status=502,
    reason="upstream-reset",
    is_clients=False,
    attempts=2,
    duration_ms=1.5,
    request_id="id",
    trace_id="",
)


def changed(**changes: object) -> FailureRecord:
    return dataclasses.replace(RECORD, **changes)  # type: ignore[arg-type]


def test_each_is_told_with_its_worker_its_time_and_why() -> None:
    failures = Failures()
    failures.add(1, [RECORD], 0)
    [told] = failures.last()
    assert told == {
        **dataclasses.asdict(RECORD),
        "number": 1,
        "worker": 1,
        "at": "2001-09-09T01:46:40.500Z",
        "explanation": errors.UPSTREAM_RESET.detail,
    }


def test_the_newest_come_first_and_only_so_many_are_remembered() -> None:
    failures = Failures()
    for number in range(30):
        failures.add(0, [changed(path=f"/{number}/{each}") for each in range(10)], 2)
    told = failures.last()
    assert [one["path"] for one in told] == [
        f"/{number}/{each}" for number in range(29, 19, -1) for each in range(9, -1, -1)
    ]
    assert [one["number"] for one in told] == list(range(300, 200, -1))
    assert failures.left_out == 60


def test_clients_own_hide_no_others() -> None:
    failures = Failures()
    failures.add(0, [RECORD], 0)
    failures.add(0, [changed(status=404, reason="no-route", is_clients=True)] * 200, 0)
    failures.add(0, [changed(status=500)], 0)
    assert [one["number"] for one in failures.last()] == [202, *range(201, 101, -1), 1]


def test_those_of_one_route_are_told_alone() -> None:
    failures = Failures()
    failures.add(0, [changed(route=route) for route in ("r", "s", "", "r")], 0)
    assert [len(failures.last(route)) for route in (None, "r", "s", "", "t")] == [4, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (changed(reason="breaker-open", endpoint=""), errors.BREAKER_OPEN.detail),
        (changed(status=200, reason="client-left"), errors.CLIENT_LEFT.detail),
        (changed(status=503, reason=""), "The backend has answered with 503, and the gateway has passed that on."),
        (changed(status=503, reason="", endpoint=""), "The route's own reply is 503."),
        # Of a worker that knows more than we do.
        (changed(reason="unheard-of"), "unheard-of"),
    ],
)
def test_the_sentence_is_that_of_the_reason_or_says_who_has_answered(record: FailureRecord, words: str) -> None:
    assert explanation(record) == words
