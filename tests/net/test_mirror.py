"""What is copied to a mirror, within which bounds, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from fastgw import errors
from fastgw.exchange import ENDED, Exchange
from fastgw.net.mirror import RouteMirror, copies_gateway
from fastgw.policy.sticky_cookie import StickyCookie, StickySettings
from tests.fakes import Bugs, FakeClient, FakeConnection, FakePool, Line

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9"
GET = b"GET /items HTTP/1.1\r\nHost: a.test"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked"


class FakeSweep:
    def __init__(self) -> None:
        self.each_tick: list[Callable[[float], None]] = []


class Mirrored:
    """A line whose route `r` is mirrored; both upstreams have connections enough."""

    def __init__(self, settings: str = "", more: str = "", copies: int = 9, chance: float = 0.0) -> None:
        config = f"""
            [upstreams.a]
            endpoints = ["b:1"]
            [upstreams.shadow]
            endpoints = ["s:1"]
            [[routes]]
            name = "r"
            upstream = "a"
            mirror = {{ upstream = "shadow"{", " if settings else ""}{settings} }}
            {more}
        """
        self.backend, self.shadow = FakeConnection(), FakeConnection()
        self.pool = FakePool("shadow", *[self.shadow] * copies)
        self.line = Line(config, FakePool("a", *[self.backend] * 9), self.pool, chance=chance)
        gateway = self.line.gateway
        self.told: list[str] = []
        self.sweep = FakeSweep()
        route_mirror = gateway.snapshot.routes[0].mirror
        assert route_mirror is not None
        self.mirror = RouteMirror(
            "r", route_mirror, self.pool, copies_gateway(gateway), cast(Any, self.sweep), self.told.append
        )
        gateway.mirrors = {"r": self.mirror}

    def request(self, head: bytes = GET, body: bytes = b"", complete: bool = True) -> Exchange:
        self.line.client = FakeClient()
        return self.line.request(head, body, complete)

    def exchanged(self, answer: bytes = OK, body: bytes = b"ok") -> Exchange:
        exchange = self.request()
        self.backend.answers(answer, body)
        return exchange

    def tick(self, seconds: float) -> None:
        self.line.clock.now += seconds
        for call in tuple(self.sweep.each_tick):
            call(self.line.clock.now)


def test_the_copy_is_sent_as_the_upstream_got_it_after_the_client_has_his_answer() -> None:
    made = Mirrored(more='rewrite.path = "/v2"\nrequest.headers.set = { X-Key = "k" }')
    exchange = made.request()
    assert made.shadow.events == []
    made.backend.answers(OK, b"ok")
    assert made.line.client.events == ["head 200", "complete", "ended"]
    assert made.shadow.events == ["request"]
    shadow, backend = made.shadow, made.backend
    assert (shadow.target, shadow.host, shadow.fields) == (backend.target, backend.host, backend.fields)
    assert shadow.target == b"/v2"
    assert b"X-Request-Id: " + exchange.request_id in shadow.fields
    made.shadow.answers(OK, b"no")
    assert made.line.client.body == b"ok"
    # Nothing of it is logged or counted as a client's, and nothing is left of it.
    assert made.line.logged == [exchange]
    assert sum(made.line.gateway.counters) == 1
    assert (made.mirror.counts, made.mirror.open) == ({"sent": 1}, 0)
    assert exchange.tee is None
    assert exchange.downstream is made.line.client


def test_only_a_sample_is_copied() -> None:
    made = Mirrored('sample = "10%"', chance=0.1)
    made.exchanged()
    assert made.shadow.events == []
    made = Mirrored('sample = "10%"', chance=0.09)
    made.exchanged()
    assert made.shadow.events == ["request"]


@pytest.mark.parametrize("head", [POST, CHUNKED])
def test_a_body_is_copied_whole(head: bytes) -> None:
    made = Mirrored()
    exchange = made.request(head, b"he", False)
    exchange.request_body(b"l")
    exchange.request_body(b"lo")
    exchange.request_end(b"\r\nX-T: 1" if head == CHUNKED else b"")
    made.backend.answers(OK, b"ok")
    assert made.shadow.body == b"hello"
    assert made.shadow.trailers == (b"\r\nX-T: 1" if head == CHUNKED else b"")


def test_a_body_that_is_too_large_is_not_copied_and_goes_to_its_upstream() -> None:
    made = Mirrored('max_body = "4B"')
    made.request(POST, b"hello")
    made.backend.answers(OK, b"ok")
    exchange = made.request(CHUNKED, b"he", False)
    exchange.request_body(b"llo")
    exchange.request_end(b"")
    made.backend.answers(OK, b"ok")
    assert made.backend.body == b"hellohello"
    assert made.shadow.events == []
    assert (made.mirror.counts, made.mirror.open) == ({"body too large": 2}, 0)


def test_a_body_that_leaves_by_splicing_is_not_copied() -> None:
    made = Mirrored()
    exchange = made.request(CHUNKED, b"he", False)
    exchange.body_leaves()
    exchange.request_end(b"")
    made.backend.answers(OK, b"ok")
    assert (made.shadow.events, made.mirror.counts) == ([], {"body too large": 1})


def test_what_did_not_come_whole_or_was_not_sent_is_not_copied() -> None:
    made = Mirrored()
    exchange = made.request(POST, b"he", False)
    made.backend.answers(OK, b"ok")
    assert exchange.answer == ENDED
    made.line.gateway.pools["a"].given = [errors.NO_ENDPOINT]  # type: ignore[attr-defined]
    made.request()
    assert made.line.client.status == b"503 Service Unavailable"
    assert (made.shadow.events, made.mirror.counts) == ([], {"request not sent whole": 2})


def test_what_asks_for_another_protocol_is_not_copied() -> None:
    made = Mirrored()
    made.request(GET + b"\r\nConnection: upgrade\r\nUpgrade: websocket")
    assert (made.line.client.events, made.mirror.open) == ([], 0)


def test_there_are_no_more_at_once_than_allowed() -> None:
    made = Mirrored("max_in_flight = 2", copies=3)
    for _ in range(3):
        made.exchanged()
    assert (made.shadow.events, made.mirror.counts) == (["request"] * 2, {"sent": 2, "too many at once": 1})
    made.shadow.answers(OK, b"ok")
    made.exchanged()
    assert made.shadow.events == ["request"] * 3


def test_a_copy_without_an_answer_ends_in_time() -> None:
    made = Mirrored('timeout = "2s"')
    made.exchanged()
    made.tick(1.9)
    assert made.shadow.events == ["request"]
    made.tick(0.2)
    assert made.shadow.events == ["request", "discarded"]
    assert (made.mirror.counts, made.mirror.open) == ({"sent": 1, "failed": 1}, 0)


def test_a_mirror_that_can_not_be_reached_is_nobody_s_trouble() -> None:
    made = Mirrored("compare = true", copies=0)
    made.pool.given = [errors.NO_ENDPOINT]
    made.exchanged()
    assert made.line.client.body == b"ok"
    assert (made.mirror.counts, made.mirror.open) == ({"sent": 1, "failed": 1}, 0)


def test_a_bug_in_the_mirror_is_told_and_the_client_does_not_see_it() -> None:
    made = Mirrored(copies=0)
    bugs = cast(Bugs, made.line.gateway.failed)
    bugs.expected = True
    made.exchanged()
    assert made.line.client.events == ["head 200", "complete", "ended"]
    assert bugs.count == 1


def test_a_client_who_leaves_is_no_reason_not_to_copy_but_nothing_is_compared() -> None:
    made = Mirrored("compare = true")
    made.request().client_left(errors.CLIENT_LEFT)
    made.shadow.answers(OK, b"ok")
    assert made.mirror.counts == {"sent": 1}


def test_equal_answers_are_counted_and_not_told() -> None:
    made = Mirrored("compare = true", more='response.headers.set = { Cache-Control = "no-store" }')
    made.exchanged(JSON, b'{"a":1 } ')
    made.shadow.answers(JSON, b'{ "a":1 }')
    assert (made.mirror.counts, made.told) == ({"sent": 1, "compared": 1}, [])


def test_differences_are_counted_and_now_and_then_one_is_told() -> None:
    made = Mirrored('compare = { headers = ["X-A"], ignore = ["$.time"] }')
    for _ in range(2):
        made.exchanged(JSON + b"\r\nX-A: 1", b'{"b":[1]}')
        made.shadow.answers(JSON.replace(b"200 OK", b"203 OK") + b"\r\nX-A: 2", b'{"b":[2]}')
    said = (
        "mirror of route r: GET /items: status: 200, mirror: 203; header x-a: 1, mirror: 2; body $.b[0]: 1, mirror: 2"
    )
    assert made.told == [said]
    counted = {"sent": 2, "compared": 2, "different": 2, "status": 2, "header": 2, "body": 2}
    assert made.mirror.counts == counted
    made.tick(60)
    assert made.told[1] == ("mirror of route r: 2 body, 2 compared, 2 different, 2 header, 2 sent, 2 status")
    # Nothing new.
    made.tick(60)
    assert len(made.told) == 2


def test_of_bodies_that_are_not_kept_whole_only_the_heads_are_compared() -> None:
    made = Mirrored("compare = true")
    exchange = made.request()
    made.backend.answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"x", False)
    exchange.response_body(b"y" * 65536)
    exchange.response_end(b"")
    made.shadow.answers(OK, b"ok")
    assert made.mirror.counts == {"sent": 1, "compared": 1}
    assert len(made.line.client.body) == 65537


def test_only_a_sample_is_compared() -> None:
    made = Mirrored('compare = { sample = "5%" }', chance=0.05)
    made.exchanged()
    made.shadow.answers(OK, b"no")
    assert made.mirror.counts == {"sent": 1}


def test_one_that_is_retired_ends_with_its_last_copy() -> None:
    made = Mirrored()
    made.exchanged()
    made.mirror.retire()
    made.tick(1)
    assert len(made.sweep.each_tick) == 1
    made.shadow.answers(OK, b"ok")
    made.tick(1)
    assert made.sweep.each_tick == []
    assert made.told == ["mirror of route r: 1 sent"]


def test_a_cookie_that_the_gateway_sets_is_no_difference() -> None:
    made = Mirrored("compare = true")
    settings = StickySettings(b"s", (b"0123456789abcdef",), b"")
    made.line.gateway.pools["a"].sticky = StickyCookie(settings, ("b:1",), "upstream a")
    made.exchanged()
    assert b"Cache-Control: private" in made.line.client.fields
    made.shadow.answers(OK, b"ok")
    assert made.mirror.counts == {"sent": 1, "compared": 1}
