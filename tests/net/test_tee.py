"""What a tee passes on to the client, and what it keeps."""

from __future__ import annotations

from typing import Any, cast

from fastgw.exchange import Exchange
from fastgw.net.tee import KeptAnswer, Shadow, Tee
from tests.fakes import FakeClient, FakePool, Line

CONFIG = '[upstreams.a]\nendpoints = ["b:1"]\n[[routes]]\nupstream = "a"\n'


class Ended:
    def __init__(self) -> None:
        self.clients: list[list[str]] = []

    def primary_ended(self, tee: Tee, exchange: Exchange) -> None:
        client = cast(FakeClient, exchange.downstream)
        self.clients.append(list(client.events))


def a_tee(kept: KeptAnswer | None = None) -> tuple[Tee, FakeClient, Ended]:
    line = Line(CONFIG, FakePool("a", None))
    exchange = line.get("/")
    mirror = Ended()
    tee = Tee(cast(Any, mirror), exchange, 4, kept)
    return tee, line.client, mirror


def test_everything_goes_on_to_the_client_and_he_comes_first() -> None:
    tee, client, mirror = a_tee()
    tee.pause_reading()
    tee.resume_reading()
    tee.send_informational(b"HTTP/1.1 103 Early Hints", b"")
    tee.send_head(b"HTTP/1.1 200 OK", b"", 1, 4, b"ab", False)
    tee.send_body(b"cd")
    tee.end_body(b"")
    tee.exchange_ended()
    assert client.body == b"abcd"
    assert client.events == ["paused", "resumed", "informational 103", "head 200", "complete", "ended"]
    assert mirror.clients == [client.events]


def test_it_is_as_congested_as_its_client() -> None:
    tee, client, _ = a_tee()
    assert not tee.congested
    client.congested = True
    assert tee.congested
    assert (tee.client, tee.addresses()) == (client.client, client.addresses())


def test_an_answer_is_kept_up_to_its_limit() -> None:
    kept = KeptAnswer(4)
    tee, _, _ = a_tee(kept)
    tee.send_head(b"HTTP/1.1 404 Not Found", b"\r\nA: 1", 1, 4, b"ab", False)
    tee.send_body(b"cd")
    assert (kept.status, kept.lines, kept.body, kept.is_whole, kept.is_complete) == (
        404,
        b"\r\nA: 1",
        b"abcd",
        True,
        False,
    )
    tee.send_body(b"e")
    tee.end_body(b"")
    assert (kept.body, kept.is_whole, kept.is_complete) == (b"", False, True)


def test_an_answer_that_is_spliced_is_not_kept() -> None:
    kept = KeptAnswer(4)
    tee, _, _ = a_tee(kept)
    tee.send_head(b"HTTP/1.1 200 OK", b"", 1, 4, b"ab", False)
    tee.splice_end()
    assert (kept.body, kept.is_whole) == (b"", False)


def test_a_request_s_body_is_kept_up_to_its_limit() -> None:
    tee, _, _ = a_tee()
    tee.request_body(b"ab")
    tee.request_body(b"cd")
    assert (tee.body, tee.has_body) == (b"abcd", True)
    tee.request_body(b"e")
    tee.request_body(b"f")
    assert (tee.body, tee.has_body) == (b"", False)


def test_a_shadow_keeps_nothing_where_nothing_is_compared() -> None:
    tee, client, mirror = a_tee(KeptAnswer(4))
    shadow = Shadow(cast(Any, mirror), tee)
    shadow.send_head(b"HTTP/1.1 200 OK", b"", 1, 2, b"ab", True)
    # The primary's answer was not complete.
    assert (shadow.primary, shadow.kept) == (None, None)
    assert shadow.addresses() == client.addresses()
    assert shadow.splice_end() is None
