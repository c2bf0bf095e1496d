"""An exchange whose upstream retries: what is sent again, and what is not."""

from __future__ import annotations

import pytest

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.policy.retry import CONNECT_FAILURE, EMPTY_ANSWER, RESET, STATUS, TIMEOUT
from tests.fakes import FakeConnection, FakePool, Line

UPSTREAM = '[upstreams.a]\nendpoints = ["b:1"]\n[[routes]]\npath = "/*"\nupstream = "a"\n'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2"
BAD = b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\nRetry-After: 7"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n"


class Told:
    """Retries as it is told to, and remembers what it was asked."""

    def __init__(self, *waits: float, max_body: int = 100) -> None:
        self.max_body = max_body
        self.waits = list(waits)
        self.asked: list[tuple[int, int, bytes | None, int]] = []

    def wait_s(self, exchange: Exchange, condition: int, status: int, retry_after: bytes | None) -> float:
        self.asked.append((condition, status, retry_after, exchange.tried))
        return self.waits.pop(0) if self.waits else -1.0


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, bool]] = []

    def answered(self, endpoint: int, is_failure: bool, seconds: float, has_answered: bool) -> None:
        self.seen.append((endpoint, is_failure, has_answered))


def line_of(
    retries: Told, *connections: FakeConnection | errors.Failure | None, endpoints: int = 2
) -> tuple[Line, FakePool]:
    pool = FakePool("a", *connections, endpoints=endpoints)
    pool.retries = retries
    pool.observer = Watching()
    for index, connection in enumerate(connections):
        if isinstance(connection, FakeConnection):
            connection.endpoint_index = index % endpoints
    return Line(UPSTREAM, pool), pool


@pytest.mark.parametrize(
    ("failure", "unanswered", "condition"),
    [
        (errors.UPSTREAM_RESET, False, RESET),
        (errors.UPSTREAM_RESET, True, EMPTY_ANSWER),
        (errors.RESPONSE_TIMEOUT, False, TIMEOUT),
    ],
)
def test_after_a_failure_it_is_sent_again_at_once_or_after_a_while(
    failure: errors.Failure, unanswered: bool, condition: int
) -> None:
    for wait in (0.0, 0.02):
        first, second = FakeConnection(), FakeConnection()
        retries = Told(wait)
        line, pool = line_of(retries, first, second)
        exchange = line.get("/")
        exchange.upstream_failed(failure, unanswered, False)
        assert retries.asked == [(condition, 0, None, 0b01)]
        assert pool.waits == ([wait] if wait else [])
        if wait:
            assert second.events == []
            exchange.try_again()
        second.answers(GOOD, b"ok")
        assert (line.client.status, exchange.tries) == (b"200 OK", 1)
        assert (second.target, second.fields) == (first.target, first.fields)


def test_what_is_no_condition_is_not_asked() -> None:
    first = FakeConnection()
    retries = Told(0.0)
    line, _ = line_of(retries, first)
    line.get("/").upstream_failed(errors.UPSTREAM_MALFORMED, False, False)
    assert retries.asked == []
    assert line.client.status.startswith(b"502 ")


@pytest.mark.parametrize("complete", [True, False])
def test_an_answer_that_is_retried_is_thrown_away(complete: bool) -> None:
    first, second = FakeConnection(), FakeConnection()
    retries = Told(0.0)
    line, _ = line_of(retries, first, second)
    line.get("/")
    first.answers(BAD, b"no" if complete else b"n", complete=complete)
    assert retries.asked == [(STATUS, 503, b"7", 0b01)]
    assert ("discarded" in first.events) == (not complete)
    second.answers(GOOD, b"ok")
    assert (line.client.status, line.client.body) == (b"200 OK", b"ok")


def test_an_answer_that_is_not_retried_goes_to_the_client() -> None:
    first = FakeConnection()
    line, _ = line_of(Told(), first)
    line.get("/")
    first.answers(BAD, b"no")
    assert (line.client.status, line.client.body) == (b"503 Oh", b"no")


def test_nothing_is_sent_again_once_the_answer_has_begun() -> None:
    first = FakeConnection()
    retries = Told(0.0)
    line, _ = line_of(retries, first)
    exchange = line.get("/")
    first.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    assert retries.asked == []
    assert line.client.events[-2:] == ["aborted", "ended"]


def test_a_client_that_leaves_during_the_wait_ends_it() -> None:
    first, second = FakeConnection(), FakeConnection()
    line, _ = line_of(Told(0.02), first, second)
    exchange = line.get("/")
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    exchange.client_left(errors.CLIENT_LEFT)
    exchange.try_again()
    assert second.events == []
    assert line.logged == [exchange]


def test_a_body_is_kept_and_sent_again_with_what_is_still_to_come() -> None:
    first, second = FakeConnection(), FakeConnection()
    line, _ = line_of(Told(0.02), first, second)
    exchange = line.request(POST, b"0123", complete=False)
    exchange.request_body(b"45")
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    assert "paused" in line.client.events
    exchange.request_body(b"67")
    exchange.try_again()
    exchange.request_body(b"89")
    assert second.body == b"0123456789"


def test_a_body_that_is_too_large_to_be_kept_is_not_replayable() -> None:
    first = FakeConnection()
    line, _ = line_of(Told(0.0, max_body=5), first)
    exchange = line.request(POST, b"0123", complete=False)
    exchange.request_body(b"4")
    assert (exchange.replayable, exchange.pending) == (True, b"01234")
    exchange.request_body(b"5")
    assert (exchange.replayable, exchange.pending) == (False, b"")
    assert first.body == b"012345"


def test_when_all_endpoints_were_tried_the_last_one_is_not_the_next() -> None:
    connections = [FakeConnection() for _ in range(3)]
    line, _ = line_of(Told(0.0, 0.0), *connections)
    exchange = line.get("/")
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    assert exchange.tried == 0b10


def test_a_connection_that_fails_asks_for_a_retry() -> None:
    second = FakeConnection()
    retries = Told(0.0)
    line, _ = line_of(retries, None, second)
    exchange = line.get("/")
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    assert retries.asked == [(CONNECT_FAILURE, 0, None, 0b01)]
    second.answers(GOOD, b"ok")
    assert line.client.status == b"200 OK"


def test_what_becomes_of_requests_is_told() -> None:
    first, second = FakeConnection(), FakeConnection()
    line, pool = line_of(Told(0.0, 0.0), None, first, second, endpoints=3)
    exchange = line.get("/")
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    exchange.upstream_failed(errors.RESPONSE_TIMEOUT, False, False)
    second.answers(GOOD, b"ok")
    watching = pool.observer
    assert isinstance(watching, Watching)
    assert watching.seen == [(0, True, False), (1, True, True), (2, False, True)]
