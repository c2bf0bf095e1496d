"""An exchange whose upstream retries: what is sent again, and what is not."""

from __future__ import annotations

import pytest

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.policy.retry import CONNECT_FAILURE, EMPTY_ANSWER, RESET, STATUS, TIMEOUT
from tests.fakes import FakeConnection, FakePool, Line, response

UPSTREAM = '[upstreams.a]\nendpoints = ["b:1"]\n[[routes]]\npath = "/*"\nupstream = "a"\n'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2"
BAD = b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\nRetry-After: 7"
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket"
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
        self.seen: list[tuple[str, int]] = []

    def responded(self, endpoint: int, seconds: float, status: int) -> None:
        self.seen.append((f"responded {status}", endpoint))

    def succeeded(self, endpoint: int, seconds: float) -> None:
        self.seen.append(("succeeded", endpoint))

    def failed(self, endpoint: int) -> None:
        self.seen.append(("failed", endpoint))

    def timed_out(self, endpoint: int, seconds: float) -> None:
        self.seen.append(("timed out", endpoint))

    def outpaced(self, endpoint: int, seconds: float) -> None:
        self.seen.append(("outpaced", endpoint))


class Counting:
    def __init__(self) -> None:
        self.heard: list[bool | None] = []

    def concluded(self, is_failure: bool | None) -> None:
        self.heard.append(is_failure)


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
        assert (line.client.status, exchange.tries, exchange.retries) == (b"200 OK", 1, 1)
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
    assert retries.asked == [(STATUS, 503, None, 0b01)]
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


def test_a_connection_that_fails_leads_to_the_others_and_then_asks_for_a_retry() -> None:
    last = FakeConnection()
    retries = Told(0.02)
    line, pool = line_of(retries, None, None, last)
    exchange = line.get("/")
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    assert retries.asked == []
    exchange.not_connected(errors.CONNECT_FAILED, 1)
    assert retries.asked == [(CONNECT_FAILURE, 0, None, 0b11)]
    # The other one than the last.
    assert (exchange.tried, pool.waits) == (0b10, [0.02])
    exchange.try_again()
    last.answers(GOOD, b"ok")
    assert line.client.status == b"200 OK"


def test_an_endpoint_that_asks_for_time_is_given_it_when_it_is_the_only_one() -> None:
    first, second = FakeConnection(), FakeConnection()
    retries = Told(1.0)
    line, _ = line_of(retries, first, second, endpoints=1)
    line.get("/")
    first.answers(BAD, b"no")
    assert retries.asked == [(STATUS, 503, b"7", 0b1)]


def seen(pool: FakePool) -> list[tuple[str, int]]:
    assert isinstance(pool.observer, Watching)
    return pool.observer.seen


def test_what_becomes_of_requests_is_told() -> None:
    first, second = FakeConnection(), FakeConnection()
    line, pool = line_of(Told(0.0), None, first, second, endpoints=3)
    exchange = line.get("/")
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    exchange.upstream_failed(errors.RESPONSE_TIMEOUT, False, False)
    second.answers(GOOD, b"ok")
    assert seen(pool) == [("failed", 0), ("timed out", 1), ("responded 200", 2), ("succeeded", 2)]
    assert pool.vain == [(0, CONNECT_FAILURE), (1, TIMEOUT)]


def test_an_answer_that_breaks_off_is_a_failure_and_no_success() -> None:
    first = FakeConnection()
    line, pool = line_of(Told(), first)
    exchange = line.get("/")
    first.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    assert seen(pool) == [("responded 200", 0), ("failed", 0)]


def test_a_tunnel_that_begins_is_a_success() -> None:
    first = FakeConnection()
    line, pool = line_of(Told(), first)
    exchange = line.get("/")
    exchange.switched_protocols(response(SWITCHING), b"")
    assert seen(pool) == [("responded 101", 0), ("succeeded", 0)]


def test_an_endpoint_that_outlasts_the_route_s_time_was_too_slow() -> None:
    first = FakeConnection()
    line, pool = line_of(Told(), first)
    line.get("/").timed_out()
    assert seen(pool) == [("timed out", 0)]
    assert pool.vain == [(0, TIMEOUT)]


def test_a_client_that_leaves_says_nothing_of_the_endpoint() -> None:
    first = FakeConnection()
    line, pool = line_of(Told(), first)
    line.get("/").client_left(errors.CLIENT_LEFT)
    assert seen(pool) == []


@pytest.mark.parametrize(
    ("end", "heard"),
    [
        ("answered", False),
        ("answered badly", True),
        ("answered in the end", False),
        ("never answered", True),
        ("a tunnel", False),
        ("the client left", None),
        ("its time was over", True),
        ("it had no connection", None),
    ],
)
def test_of_a_request_only_what_became_of_it_in_the_end_is_concluded(end: str, heard: bool | None) -> None:
    first, second = FakeConnection(), FakeConnection()
    line, _ = line_of(Told(0.0) if end in ("answered in the end",) else Told(), first, second)
    counting = Counting()
    exchange = line.get("/")
    exchange.admission = counting
    if end == "answered":
        first.answers(GOOD, b"ok")
    elif end == "answered badly":
        first.answers(BAD, b"no")
    elif end == "answered in the end":
        first.answers(BAD, b"no")
        second.answers(GOOD, b"ok")
    elif end == "never answered":
        exchange.upstream_failed(errors.UPSTREAM_RESET, False, False)
    elif end == "a tunnel":
        exchange.switched_protocols(response(SWITCHING), b"")
        exchange.tunnel_ended()
    elif end == "the client left":
        exchange.client_left(errors.CLIENT_LEFT)
    elif end == "its time was over":
        exchange.timed_out()
    else:
        exchange.fail(errors.QUEUE_TIMEOUT)
    assert counting.heard == [heard]


def test_what_was_kept_of_a_body_is_let_go_when_the_answer_begins() -> None:
    first = FakeConnection()
    line, _ = line_of(Told(), first)
    exchange = line.request(POST, b"0123456789", complete=True)
    assert exchange.pending == b"0123456789"
    first.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    assert (exchange.pending, exchange.replayable) == (b"", False)
