from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.policy.access_log import FIELDS, LineEncoder
from tests.fakes import FakeClient, FakeConnection, FakePool, Line

CONFIG = """
[upstreams.a]
endpoints = ["b:1"]
[[routes]]
name = "shop"
path = "/*"
upstream = "a"
"""
START = b"GET %b HTTP/1.1\r\nHost: a.test\r\n"
# 2024-02-29T23:59:59.25Z, when the exchanges' clock shows 1000.
WALL = 1_709_251_199.25 - 1000.0


def answered(
    head: bytes = START % b"/x?y" + b"User-Agent: u\r\nReferer: r", client: FakeClient | None = None
) -> Exchange:
    backend = FakeConnection("b:1")
    line = Line(CONFIG, FakePool("a", backend), client=client)
    exchange = line.request(head)
    if backend.exchange is not None:
        line.clock.now += 0.0015
        backend.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5", b"he", complete=False)
        line.clock.now += 0.25
        exchange.response_body(b"llo")
        exchange.response_end(b"")
    return exchange


def as_json(exchange: Exchange, *fields: str) -> dict[str, Any]:
    encoded = LineEncoder("json", fields or FIELDS).encode([exchange], WALL)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    found = json.loads(encoded)
    assert tuple(found) == (fields or FIELDS)
    return dict(found)


def as_combined(exchange: Exchange) -> str:
    return LineEncoder("combined", ()).encode([exchange], WALL).decode()


def test_every_field_of_an_exchange_is_told() -> None:
    exchange = answered()
    assert as_json(exchange) == {
        "time": "2024-02-29T23:59:59.250Z",
        "client": "192.0.2.7",
        "method": "GET",
        "host": "a.test",
        "path": "/x?y",
        "status": 200,
        "bytes": 5,
        "duration_ms": pytest.approx(251.5, abs=0.01),
        "upstream_ms": pytest.approx(1.5, abs=0.01),
        "route": "shop",
        "endpoint": "b:1",
        "consumer": None,
        "cache": None,
        "reason": None,
        "request_id": exchange.request_id.decode(),
        "listener": "in",
        "bytes_in": 0,
        "upstream": "a",
        "protocol": "HTTP/1.1",
        "user_agent": "u",
        "referer": "r",
        # The pool of a test counts none.
        "attempts": 0,
    }


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_may_stand_alone(field: str) -> None:
    as_json(answered(), field)
    as_json(answered(b"nonsense"), field)


def test_what_is_not_there_is_null() -> None:
    told = as_json(answered(START % b"/"))
    assert (told["user_agent"], told["referer"], told["reason"]) == (None, None, None)


def test_a_request_that_could_not_be_read_is_told_with_its_reason() -> None:
    told = as_json(answered(b"nonsense"))
    assert (told["status"], told["reason"]) == (400, "malformed-request")
    assert (told["route"], told["endpoint"], told["upstream"]) == (None, None, None)
    assert (told["method"], told["path"], told["host"]) == ("", "", "")


def test_the_combined_format_is_that_of_apache() -> None:
    assert as_combined(answered()) == '192.0.2.7 - - [29/Feb/2024:23:59:59 +0000] "GET /x?y HTTP/1.1" 200 5 "r" "u"\n'
    bare = as_combined(answered(START % b"/"))
    assert bare.endswith(' "GET / HTTP/1.1" 200 5 "-" "-"\n')
    assert ' "-" 400 ' in as_combined(answered(b"nonsense"))


def test_the_combined_format_escapes_what_would_end_a_field_or_a_line() -> None:
    exchange = answered(START % b"/" + b'User-Agent: a"b\\c\t\xff\r\nReferer: "')
    assert as_combined(exchange).endswith('"\\x22" "a\\x22b\\x5Cc\\x09\\xFF"\n')


def test_times_are_cut_to_the_millisecond_and_follow_the_wall_clock() -> None:
    encoder = LineEncoder("json", ("time",))
    exchange = answered()
    texts = []
    for wall in (WALL, WALL + 0.0009, WALL + 0.75, WALL - 3600.0, WALL):
        texts.append(json.loads(encoder.encode([exchange], wall))["time"][11:])
    assert texts == ["23:59:59.250Z", "23:59:59.250Z", "00:00:00.000Z", "22:59:59.250Z", "23:59:59.250Z"]


def test_a_batch_is_one_line_for_each_exchange_in_order() -> None:
    batch = [answered(START % path) for path in (b"/a", b"/b", b"/c")]
    lines = LineEncoder("json", ("path",)).encode(batch, WALL).splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/a", "/b", "/c"]


# Hostile clients

_FORGERIES = [
    b'","status":200,"x":"',
    b'"}\n{"status":200}',
    b"\\",
    b'\\"',
    b"\x7f",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"%n%d%s",
]
TEXTS = st.one_of(st.sampled_from(_FORGERIES), st.binary(max_size=12))
_COMBINED = re.compile(
    r'[0-9A-Za-z._:\[\]-]+ - - \[[^\]]+\] "[^"\x00-\x1f\x7f-\uffff]*" \d+ \d+'
    r' "[^"\x00-\x1f\x7f-\uffff]*" "[^"\x00-\x1f\x7f-\uffff]*"\n'
)


def check(exchange: Exchange) -> dict[str, Any]:
    assert _COMBINED.fullmatch(as_combined(exchange))
    told = as_json(exchange)
    assert told["status"] == exchange.status
    return told


@settings(max_examples=120, deadline=None)
@given(TEXTS, TEXTS, TEXTS, TEXTS, st.booleans())
def test_no_bytes_of_a_client_forge_a_line_or_a_field(
    target: bytes, agent: bytes, forwarded: bytes, request_id: bytes, trusted: bool
) -> None:
    client = FakeClient(b"10.0.0.1", trusted)
    lines = b"User-Agent: %b\r\nX-Forwarded-For: %b\r\nX-Request-Id: %b" % (agent, forwarded, request_id)
    exchange = answered(START % (b"/" + target) + lines, client)
    told = check(exchange)
    if exchange.status == 200:
        assert told["path"].encode("latin-1") == exchange.request.path + exchange.request.query
        assert told["user_agent"].encode("latin-1") == (exchange.request.header(b"user-agent") or b"")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_no_head_at_all_forges_a_line_or_a_field(head: bytes) -> None:
    check(answered(head.partition(b"\r\n\r\n")[0]))


@pytest.mark.parametrize("failure", [errors.CLIENT_LEFT, errors.WRITE_TIMEOUT])
def test_a_client_that_left_is_told_as_such(failure: errors.Failure) -> None:
    line = Line(CONFIG, FakePool("a", None))
    exchange = line.get("/")
    exchange.client_left(failure)
    told = check(exchange)
    assert (told["status"], told["reason"], told["endpoint"], told["upstream"]) == (499, failure.reason, None, "a")
