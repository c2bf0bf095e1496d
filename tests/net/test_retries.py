from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from fastgw.net.retries import Retries
from fastgw.policy.retry import CONNECT_FAILURE, RESET, SLOW, STATUS, TIMEOUT, RetrySettings
from fastgw.snapshot import RetryPolicy, Route
from tests.fakes import Clock

ROUTE = Route("r", ("a",), (1,))
SETTINGS = RetrySettings(conditions=CONNECT_FAILURE | RESET | STATUS)


class Request:
    method = b"GET"


class FakeExchange:
    def __init__(self, route: Route | None = ROUTE, method: bytes = b"GET", retries: int = 0) -> None:
        self.route = route
        self.request = Request()
        self.request.method = method
        self.retries = retries
        self.replayable = True
        self.pending = b""


def wait(
    retries: Retries, exchange: FakeExchange, condition: int, status: int = 0, after: bytes | None = None
) -> float:
    return retries.wait_s(cast(Any, exchange), condition, status, after)


def may_hedge(retries: Retries, exchange: FakeExchange) -> bool:
    return retries.may_hedge(cast(Any, exchange))


@pytest.fixture
def retries() -> RetryPolicy:
    return Retries(RetryPolicy(SETTINGS), Clock(), lambda: 0.0, lambda: 0.5)


def test_each_wait_may_be_twice_as_long_as_the_one_before(retries: Retries) -> None:
    for condition in (CONNECT_FAILURE, RESET):
        assert wait(retries, FakeExchange(), condition) == pytest.approx(0.0125)
        assert wait(retries, FakeExchange(retries=1), condition) == pytest.approx(0.025)


def test_a_body_that_is_larger_than_what_is_kept_is_not_sent_again(retries: Retries) -> None:
    exchange = FakeExchange()
    exchange.pending = bytes(64 * 1024)
    assert wait(retries, exchange, RESET) >= 0
    exchange.pending += b"x"
    assert wait(retries, exchange, RESET) < 0


def test_what_was_not_asked_for_is_not_done(retries: Retries) -> None:
    assert wait(retries, FakeExchange(), TIMEOUT) < 0
    assert wait(retries, FakeExchange(), STATUS, 500) < 0
    assert wait(retries, FakeExchange(), STATUS, 503) >= 0


def test_an_endpoint_that_asks_for_time_gets_it_up_to_a_bound(retries: Retries) -> None:
    assert wait(retries, FakeExchange(), STATUS, 503, b"1") == pytest.approx(1.0125)
    assert wait(retries, FakeExchange(), STATUS, 503, b"2") < 0


def test_a_route_may_want_none_but_after_failed_connections(retries: Retries) -> None:
    exchange = FakeExchange(replace(ROUTE, retries=False))
    assert wait(retries, exchange, RESET) < 0
    assert wait(retries, exchange, CONNECT_FAILURE) >= 0


def test_a_route_may_allow_any_method(retries: Retries) -> None:
    assert wait(retries, FakeExchange(method=b"POST"), RESET) < 0
    assert wait(retries, FakeExchange(replace(ROUTE, retries_any_method=True), b"POST"), RESET) >= 0


def test_what_is_refused_for_its_retry_after_is_not_charged() -> None:
    retries = Retries(RetryPolicy(SETTINGS, budget_share=0.0, budget_floor=0.1), Clock(), lambda: 0.0, lambda: 0.5)
    assert wait(retries, FakeExchange(), STATUS, 503, b"9") < 0
    assert wait(retries, FakeExchange(), STATUS, 503) >= 0
    assert wait(retries, FakeExchange(), STATUS, 503) < 0


HEDGING = RetryPolicy(replace(SETTINGS, conditions=RESET | STATUS | SLOW), budget_share=0.0, budget_floor=0.2)


def test_a_second_try_is_a_retry_that_the_budget_pays_for() -> None:
    retries = Retries(HEDGING, Clock(), lambda: 0.0, lambda: 0.5)
    assert [may_hedge(retries, FakeExchange()) for _ in range(3)] == [True, True, False]
    assert wait(retries, FakeExchange(), RESET) < 0


def test_a_second_try_is_refused_where_a_retry_is() -> None:
    retries = Retries(HEDGING, Clock(), lambda: 0.0, lambda: 0.5)
    post, gone, large = FakeExchange(method=b"POST"), FakeExchange(), FakeExchange()
    gone.replayable = False
    large.pending = bytes(retries.max_body + 1)
    for exchange in (post, gone, large, FakeExchange(retries=3)):
        assert not may_hedge(retries, exchange)
    assert may_hedge(retries, FakeExchange(replace(ROUTE, retries_any_method=True), b"POST"))


def test_without_hedging_there_is_no_second_try(retries: Retries) -> None:
    assert not may_hedge(retries, FakeExchange())


def test_an_answer_is_worth_less_when_its_status_is_retried_after() -> None:
    retries = Retries(HEDGING, Clock(), lambda: 0.0, lambda: 0.5)
    for status, expected in ((503, True), (500, False), (404, False)):
        assert retries.names_status(cast(Any, FakeExchange()), status) == expected
    assert not retries.names_status(cast(Any, FakeExchange(replace(ROUTE, retries=False))), 503)
    without = Retries(RetryPolicy(RetrySettings()), Clock(), lambda: 0.0, lambda: 0.5)
    assert not without.names_status(cast(Any, FakeExchange()), 503)
