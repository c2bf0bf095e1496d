"""A slow first try and a second one: who wins, who goes on, and what the endpoints are known for afterwards."""

from __future__ import annotations

import gc

import pytest

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.hedging import Hedge, SecondTry, is_hedged
from fastgw.policy.retry import HedgeDelay, HedgeSettings
from fastgw.policy.sticky_cookie import StickyCookie, StickySettings
from tests.fakes import FakeConnection, FakePool, Line, response

UPSTREAM = '[upstreams.a]\nendpoints = ["b:1"]\nretry = { hedge = true }\n[[routes]]\npath = "/*"\nupstream = "a"\n'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2"
BAD = b"HTTP/1.1 503 Oh\r\nContent-Length: 2"
NOT_FOUND = b"HTTP/1.1 404 Oh\r\nContent-Length: 2"
PUT = b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n"


class Told:
    """Retries as it is told to. A 503 is retried after, no other answer is."""

    max_body = 100

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.allows_hedges = True

    def wait_s(self, exchange: Exchange, condition: int, status: int, retry_after: bytes | None) -> float:
        return self.waits.pop(0) if self.waits and status in (0, 503) else -1.0

    def may_hedge(self, exchange: Exchange) -> bool:
        return self.allows_hedges

    def names_status(self, exchange: Exchange, status: int) -> bool:
        return status == 503


class Watching:
    """What endpoints are known for, as they are numbered."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def responded(self, endpoint: int, seconds: float, status: int) -> None:
        self.seen.append(f"{endpoint} responded {status} after {seconds:g} s")

    def succeeded(self, endpoint: int, seconds: float) -> None:
        self.seen.append(f"{endpoint} succeeded after {seconds:g} s")

    def failed(self, endpoint: int) -> None:
        self.seen.append(f"{endpoint} failed")

    def timed_out(self, endpoint: int, seconds: float) -> None:
        self.seen.append(f"{endpoint} timed out after {seconds:g} s")

    def outpaced(self, endpoint: int, seconds: float) -> None:
        self.seen.append(f"{endpoint} outpaced after {seconds:g} s")


class Delay(HedgeDelay):
    """Notes its samples; always 2 s."""

    def __init__(self) -> None:
        super().__init__(HedgeSettings())
        self.seconds = 2.0
        self.samples: list[float] = []

    def sample(self, seconds: float) -> None:
        self.samples.append(seconds)


class Hedges:
    """Watches over all first tries."""

    def __init__(self) -> None:
        self.delay = Delay()
        self.hedges: list[Hedge] = []

    def sent(self, exchange: Exchange, now: float) -> None:
        if not exchange.retries:
            hedge = Hedge(exchange, self.delay, now)
            exchange.hedge = hedge
            self.hedges.append(hedge)


class Scene:
    """One request to an upstream with three endpoints, each of which has a connection or, None, is being connected to;
    2 s later its hedge is due."""

    def __init__(self, *given: FakeConnection | errors.Failure | None) -> None:
        self.retries, self.watching, self.hedges = Told(), Watching(), Hedges()
        for index, connection in enumerate(given):
            if isinstance(connection, FakeConnection):
                connection.endpoint_index, connection.endpoint_name = index, f"b:{index}"
        self.pool = FakePool("a", *given, endpoints=3)
        self.pool.retries, self.pool.observer, self.pool.hedges = self.retries, self.watching, self.hedges
        self.line = Line(UPSTREAM, self.pool)
        self.client = self.line.client

    def request(self, head: bytes = b"GET / HTTP/1.1\r\nHost: a.test", body: bytes = b"") -> Exchange:
        exchange = self.line.request(head, body)
        # As the pool does.
        exchange.tries = exchange.tries or 1
        return exchange

    def after(self, seconds: float) -> None:
        self.line.clock.now += seconds

    def is_due(self) -> None:
        self.after(2)
        self.hedges.hedges[0].is_due()

    def slow_request(self) -> Exchange:
        exchange = self.request()
        self.is_due()
        self.after(1)
        return exchange

    @property
    def second(self) -> SecondTry:
        second = self.hedges.hedges[0].second
        assert second is not None
        return second


def pair() -> tuple[FakeConnection, FakeConnection]:
    return FakeConnection(), FakeConnection()


# Who is hedged.


@pytest.mark.parametrize(
    ("route", "head", "by_default", "expected"),
    [
        ("", b"GET / HTTP/1.1", True, True),
        ("", b"GET / HTTP/1.1", False, False),
        ("retry.hedge = true", b"GET / HTTP/1.1", False, True),
        ("retry.hedge = false", b"GET / HTTP/1.1", True, False),
        ("retry = false", b"GET / HTTP/1.1", True, False),
        ("", b"PUT / HTTP/1.1\r\nContent-Length: 0", True, True),
        ("", b"POST / HTTP/1.1\r\nContent-Length: 0", True, False),
        ("retry.any_method = true", b"POST / HTTP/1.1\r\nContent-Length: 0", True, True),
        ("", b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket", True, False),
    ],
)
def test_it_is_for_requests_that_may_be_sent_twice_on_routes_that_ask_for_it(
    route: str, head: bytes, by_default: bool, expected: bool
) -> None:
    line = Line(UPSTREAM + route, FakePool("a", FakeConnection()))
    assert is_hedged(line.request(head + b"\r\nHost: a.test"), by_default) == expected


def test_a_request_without_a_route_is_not() -> None:
    line = Line(UPSTREAM.replace("/*", "/x"))
    assert not is_hedged(line.get("/y"), True)


# The second try.


def test_a_first_try_that_is_quick_enough_is_the_only_one() -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.request()
    scene.after(0.5)
    first.answers(GOOD, b"ok")
    scene.is_due()
    assert (second.events, exchange.tries, exchange.hedge) == ([], 1, None)
    assert scene.hedges.delay.samples == [0.5]


def test_the_second_try_is_the_same_request_to_an_endpoint_that_was_not_tried() -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.request(PUT, b"0123456789")
    scene.is_due()
    assert (second.target, second.host, second.fields) == (first.target, first.host, first.fields)
    assert (second.body, second.trailers) == (b"0123456789", b"")
    assert (scene.second.tried, exchange.tries, exchange.retries) == (0b001, 2, 1)
    assert scene.client.events == []


def test_a_body_that_came_bit_by_bit_is_sent_whole_and_the_time_counts_from_its_end() -> None:
    first, second = pair()
    scene = Scene(first, second)
    head = b"PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked"
    exchange = scene.line.request(head, b"0123", complete=False)
    assert exchange.hedge is None
    scene.after(7)
    exchange.request_body(b"4567")
    exchange.request_end(b"\r\nX-Sum: 1")
    scene.is_due()
    assert (second.body, second.trailers) == (b"01234567", b"\r\nX-Sum: 1")
    first.answers(GOOD, b"ok")
    assert scene.hedges.delay.samples == [2.0]


def test_a_body_that_ends_after_its_answer_has_begun_is_not_watched() -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.line.request(PUT, b"0123", complete=False)
    first.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    exchange.request_body(b"456789")
    exchange.request_end(b"")
    assert (exchange.hedge, scene.hedges.hedges) == (None, [])


@pytest.mark.parametrize("why", ["retries do not allow it", "no other endpoint is there"])
def test_there_is_none_when(why: str) -> None:
    first, second = pair()
    scene = Scene(first, second)
    if why == "retries do not allow it":
        scene.retries.allows_hedges = False
    else:
        scene.pool.all_endpoints = 0b001
    exchange = scene.slow_request()
    assert (second.events, exchange.tries) == ([], 1)
    first.answers(GOOD, b"ok")
    assert (scene.client.status, scene.hedges.delay.samples) == (b"200 OK", [3.0])


def test_without_another_endpoint_nothing_is_charged() -> None:
    scene = Scene(*pair())
    scene.pool.all_endpoints = 0b001
    scene.retries.may_hedge = pytest.fail  # type: ignore[method-assign, assignment]
    scene.slow_request()


# Who wins.


@pytest.mark.parametrize("complete", [True, False])
def test_the_second_try_wins_and_the_exchange_is_as_if_it_had_had_no_other(complete: bool) -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.slow_request()
    second.answers(GOOD, b"ok" if complete else b"o", complete)
    assert (scene.client.status, scene.client.body) == (b"200 OK", b"ok" if complete else b"o")
    assert first.events == ["request", "discarded"]
    assert (exchange.endpoint, exchange.endpoint_index, exchange.tries) == ("b:1", 1, 2)
    # From its own start; what is learned is after how long a second one was needed.
    assert (exchange.upstream_s, scene.hedges.delay.samples) == (1.0, [2.0])
    if not complete:
        assert (exchange.connection, second.exchange) == (second, exchange)
        exchange.response_body(b"k")
        exchange.response_end(b"")
    assert (scene.client.body, exchange.connection, exchange.hedge) == (b"ok", None, None)
    assert scene.watching.seen == [
        "0 outpaced after 3 s",
        "1 responded 200 after 1 s",
        "1 succeeded after 1 s",
    ]
    assert scene.line.logged == [exchange]


@pytest.mark.parametrize("complete", [True, False])
def test_the_first_try_wins_and_nothing_is_known_of_the_other(complete: bool) -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.slow_request()
    first.answers(GOOD, b"ok" if complete else b"o", complete)
    assert (second.events, exchange.endpoint, exchange.tries) == (["request", "discarded"], "b:0", 2)
    assert scene.hedges.delay.samples == [3.0]
    if not complete:
        exchange.response_body(b"k")
        exchange.response_end(b"")
    assert scene.watching.seen == ["0 responded 200 after 3 s", "0 succeeded after 3 s"]


def test_the_first_try_wins_while_the_second_has_no_connection_yet() -> None:
    first, second = pair()
    scene = Scene(first, None)
    scene.slow_request()
    waiting = scene.second
    assert waiting.is_waiting()
    first.answers(GOOD, b"ok")
    assert not waiting.is_waiting()
    assert scene.pool.forgotten == [waiting]
    # Whatever the pool may still say.
    waiting.connected(second)
    waiting.not_connected(errors.CONNECT_FAILED, 1)
    waiting.crashed()
    assert (second.events, scene.client.events) == ([], ["head 200", "complete", "ended"])


def test_an_answer_that_is_no_reason_to_retry_wins_whatever_its_status() -> None:
    for from_second in (True, False):
        first, second = pair()
        scene = Scene(first, second)
        scene.slow_request()
        (second if from_second else first).answers(NOT_FOUND, b"no")
        assert scene.client.status == b"404 Oh"


def test_the_cookie_names_the_endpoint_that_has_answered() -> None:
    settings = StickySettings(b"s", (b"0123456789abcdef",), b"")
    for from_second in (True, False):
        first, second = pair()
        scene = Scene(first, second)
        scene.pool.sticky = sticky = StickyCookie(settings, ("b:0", "b:1", "b:2"), "upstream a")
        scene.slow_request()
        (second if from_second else first).answers(GOOD, b"ok")
        assert sticky.line(int(from_second), None) in scene.client.fields


def test_an_informational_answer_to_the_second_try_is_not_passed_on() -> None:
    first, second = pair()
    scene = Scene(first, second)
    scene.slow_request()
    scene.second.response_informational(response(b"HTTP/1.1 103 Early Hints"))
    assert scene.client.events == []


# One of the two comes to nothing.


@pytest.mark.parametrize(
    ("failure", "unanswered", "known"),
    [
        (errors.UPSTREAM_RESET, True, "failed"),
        (errors.UPSTREAM_RESET, False, "failed"),
        (errors.UPSTREAM_MALFORMED, False, "failed"),
        (errors.RESPONSE_TIMEOUT, False, "timed out after"),
    ],
)
def test_when_one_fails_the_other_goes_on_and_nobody_is_answered_yet(
    failure: errors.Failure, unanswered: bool, known: str
) -> None:
    for number in (0, 1):
        connections = pair()
        scene = Scene(*connections)
        exchange = scene.slow_request()
        connections[number].breaks(failure, unanswered)
        assert scene.client.events == []
        assert scene.watching.seen[0].startswith(f"{number} {known}")
        assert exchange.tried == 1 << number
        other = connections[1 - number]
        assert (exchange.connection, other.exchange) == (other, exchange)
        scene.after(1)
        other.answers(GOOD, b"ok")
        assert (scene.client.status, exchange.endpoint) == (b"200 OK", f"b:{1 - number}")
        # Of the second try it was its time alone.
        assert exchange.upstream_s == (2.0 if number == 0 else 4.0)


@pytest.mark.parametrize("complete", [True, False])
def test_an_answer_to_retry_after_is_thrown_away_while_the_other_is_awaited(complete: bool) -> None:
    for number in (0, 1):
        connections = pair()
        scene = Scene(*connections)
        exchange = scene.slow_request()
        connections[number].answers(BAD, b"no" if complete else b"n", complete)
        assert scene.client.events == []
        assert ("discarded" in connections[number].events) == (not complete)
        connections[1 - number].answers(GOOD, b"ok")
        assert (scene.client.status, exchange.endpoint) == (b"200 OK", f"b:{1 - number}")
        assert f"{number} responded 503 after {1 if number else 3} s" in scene.watching.seen


def test_after_both_have_failed_it_goes_the_usual_way() -> None:
    third = FakeConnection()
    for waits, status in (([], b"502 "), ([0.0], b"200 ")):
        first, second = pair()
        scene = Scene(first, second, third)
        scene.retries.waits = list(waits)
        exchange = scene.slow_request()
        second.breaks(errors.UPSTREAM_RESET)
        first.breaks(errors.UPSTREAM_RESET)
        assert exchange.tried == 0b011
        if waits:
            # No second hedge: what is sent now is no first try.
            assert (exchange.hedge, exchange.retries) == (None, 2)
            third.answers(GOOD, b"ok")
        assert scene.client.status.startswith(status)


def test_of_two_bad_answers_the_client_gets_the_second() -> None:
    first, second = pair()
    scene = Scene(first, second)
    scene.slow_request()
    first.answers(BAD, b"1")
    second.answers(BAD, b"2")
    assert (scene.client.status, scene.client.body) == (b"503 Oh", b"2")


def test_a_first_try_that_fails_before_the_delay_is_over_is_retried_as_ever() -> None:
    first, second = pair()
    scene = Scene(first, second)
    scene.retries.waits = [0.0]
    exchange = scene.request()
    first.breaks(errors.UPSTREAM_RESET)
    scene.is_due()
    second.answers(GOOD, b"ok")
    assert (exchange.tries, exchange.hedge, scene.hedges.delay.samples) == (2, None, [])


def test_a_first_try_on_a_connection_that_was_closed_already_begins_anew_and_is_watched_again() -> None:
    first, fresh = pair()
    scene = Scene(first, fresh)
    exchange = scene.request()
    scene.after(1)
    first.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    scene.after(0.5)
    fresh.answers(GOOD, b"ok")
    assert (exchange.status, scene.pool.asked, scene.hedges.delay.samples) == (200, [False, True], [0.5])


def test_a_first_try_on_a_connection_that_was_closed_already_leaves_it_to_the_second() -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.slow_request()
    first.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert (scene.pool.asked, exchange.connection, scene.watching.seen) == ([False, False], second, [])


def test_a_second_try_on_a_connection_that_was_closed_already_takes_a_fresh_one() -> None:
    first, second = pair()
    third = FakeConnection()
    scene = Scene(first, second, third)
    scene.slow_request()
    second.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert (scene.pool.asked, scene.watching.seen) == ([False, False, True], [])
    third.answers(GOOD, b"ok")
    assert scene.client.status == b"200 OK"


# The second one's connection.


def test_the_second_try_looks_for_an_endpoint_that_takes_connections() -> None:
    first, third = pair()
    scene = Scene(first, None, third)
    exchange = scene.slow_request()
    scene.second.not_connected(errors.CONNECT_FAILED, 1)
    assert (scene.watching.seen, exchange.tries) == (["1 failed"], 3)
    third.answers(GOOD, b"ok")
    assert (scene.client.status, exchange.endpoint) == (b"200 OK", "b:2")


def test_when_none_takes_connections_the_first_try_goes_on() -> None:
    first, _ = pair()
    scene = Scene(first, None)
    scene.pool.all_endpoints = 0b011
    exchange = scene.slow_request()
    scene.second.not_connected(errors.CONNECT_FAILED, 1)
    assert scene.client.events == []
    first.answers(GOOD, b"ok")
    assert (exchange.status, scene.hedges.delay.samples) == (200, [3.0])


@pytest.mark.parametrize("how", ["connected", "not connected"])
def test_when_the_first_try_fails_the_exchange_waits_for_the_second_one_s_connection(how: str) -> None:
    first, second = pair()
    scene = Scene(first, None)
    exchange = scene.slow_request()
    waiting = scene.second
    first.breaks(errors.UPSTREAM_RESET)
    assert (scene.client.events, waiting.is_waiting()) == ([], True)
    if how == "connected":
        waiting.connected(second)
        second.answers(GOOD, b"ok")
        assert scene.client.status == b"200 OK"
    else:
        scene.pool.all_endpoints = 0b011
        waiting.not_connected(errors.CONNECT_FAILED, 1)
        assert (scene.client.status[:3], scene.watching.seen) == (b"502", ["0 failed", "1 failed"])
    assert (exchange.hedge, waiting.is_waiting()) == (None, False)


# Ends.


@pytest.mark.parametrize("how", ["the client left", "the route's time is over", "a bug"])
@pytest.mark.parametrize("state", ["both", "no second connection", "second alone"])
def test_when_nobody_waits_any_more_both_are_let_go(how: str, state: str) -> None:
    first, second = pair()
    scene = Scene(first, second if state == "both" else None)
    exchange = scene.slow_request()
    waiting = scene.second
    if state == "second alone":
        first.breaks(errors.UPSTREAM_RESET)
    if how == "the client left":
        exchange.client_left(errors.CLIENT_LEFT)
    elif how == "a bug":
        waiting.crashed()
    else:
        exchange.timed_out()
        assert ("0 timed out after 3 s" in scene.watching.seen) == (state != "second alone")
    assert (first.events[-1] == "discarded") == (state != "second alone")
    assert (second.events == ["request", "discarded"]) == (state == "both")
    assert (waiting in scene.pool.forgotten) == (state != "both")
    assert (waiting.is_waiting(), exchange.hedge, scene.line.logged) == (False, None, [exchange])
    assert not any("1 " in seen for seen in scene.watching.seen)


def test_a_bug_in_the_winner_s_answer_still_answers_the_client() -> None:
    first, second = pair()
    scene = Scene(first, second)
    exchange = scene.slow_request()
    told = scene.second

    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    scene.client.send_head = breaks  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        second.answers(GOOD, b"o", complete=False)
    del scene.client.send_head
    told.crashed()
    assert (exchange.answer, scene.client.events) == (2, ["aborted", "ended"])


def alive() -> int:
    return sum(isinstance(one, (Exchange, Hedge, SecondTry)) for one in gc.get_objects())


@pytest.mark.parametrize("winner", ["first", "second", "nobody"])
def test_all_of_it_is_freed_by_reference_count(winner: str) -> None:
    gc.collect()
    gc.disable()
    try:
        before = alive()
        first, second = pair()
        scene = Scene(first, second)
        exchange = scene.slow_request()
        if winner == "nobody":
            exchange.client_left(errors.CLIENT_LEFT)
        else:
            (first if winner == "first" else second).answers(GOOD, b"ok")
        first.exchange = second.exchange = None
        for kept in (scene.line.logged, scene.hedges.hedges, scene.pool.forgotten):
            kept.clear()
        del exchange
        assert alive() == before
    finally:
        gc.enable()
