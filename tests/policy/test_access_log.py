from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.policy.access_log import FIELDS, PHASES, LineEncoder
from fastgw.policy.log_rule import LogRule
from fastgw.policy.redaction import RedactionSettings
from tests.fakes import FakeClient, FakeConnection, FakePool, Line, records

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
    encoded = LineEncoder("json", fields or FIELDS).encode(records(exchange), WALL)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    found = json.loads(encoded)
    assert tuple(found) == (fields or FIELDS)
    return dict(found)


def as_combined(exchange: Exchange) -> str:
    return LineEncoder("combined", ()).encode(records(exchange), WALL).decode()


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
        "duration_us": pytest.approx(251_500, abs=1),
        "upstream_us": pytest.approx(1500, abs=1),
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
        "sampled": 1,
        "answered_by": "upstream",
        "queue_us": 0,
        "connect_us": 0,
        "body_us": pytest.approx(250_000, abs=1),
        "earlier_us": 0,
        "gateway_us": 0,
        "trace_id": None,
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
        texts.append(json.loads(encoder.encode(records(exchange), wall))["time"][11:])
    assert texts == ["23:59:59.250Z", "23:59:59.250Z", "00:00:00.000Z", "22:59:59.250Z", "23:59:59.250Z"]


def test_a_batch_is_one_line_for_each_exchange_in_order() -> None:
    batch = [answered(START % path) for path in (b"/a", b"/b", b"/c")]
    lines = LineEncoder("json", ("path",)).encode(records(*batch), WALL).splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/a", "/b", "/c"]


def test_exchanges_of_several_kinds_and_times_share_a_batch() -> None:
    paths = (b"/a", b'/"', b'/b?"', b"/c?d", b"/e")
    batch = [answered(START % path) for path in paths] + [answered(b"nonsense")]
    for number, exchange in enumerate(batch):
        exchange.started += number / 2
        exchange.ended += number / 2 - (number / 100 if exchange.route is not None else 0.0)
    encoder = LineEncoder("json", ("time", "status", "path", "route"), rule=LogRule(slow_s=0.225))
    told = [json.loads(line) for line in encoder.encode(records(*batch), WALL).splitlines()]
    assert [one["path"] for one in told] == [*(path.decode() for path in paths), ""]
    assert [one["time"][17:23] for one in told] == ["59.250", "59.750", "00.250", "00.750", "01.250", "01.750"]
    assert [one["status"] for one in told] == [200] * 5 + [400]
    assert [one["route"] for one in told] == ["shop"] * 5 + [None]
    # 251.5 ms and 10 less for each; what can't be read has taken no time.
    assert [PHASES[0] in one for one in told] == [True, True, True, False, False, False]


# Fields that name what is looked up

NAMED = ("header:X-One", "response:X-Two", "query:q")


def test_headers_of_both_sides_and_query_parameters_are_fields() -> None:
    backend = FakeConnection("b:1")
    line = Line(CONFIG, FakePool("a", backend))
    exchange = line.get("/?p=1&q=a%22b+c&q=2", b"X-One: 1", b"x-one: \xff")
    backend.answers(b"HTTP/1.1 200 OK\r\nX-Two: 2\r\nx-two: three\r\nContent-Length: 0")
    assert as_json(exchange, *NAMED) == {"header:X-One": "1, \xff", "response:X-Two": "2, three", "query:q": 'a"b c'}
    assert as_json(answered(), *NAMED) == dict.fromkeys(NAMED)
    assert as_json(answered(b"nonsense"), *NAMED) == dict.fromkeys(NAMED)


def test_headers_of_an_answer_are_those_that_the_client_got() -> None:
    text = CONFIG + 'response.headers = { set = { X-Two = "ours" } }\n'
    backend = FakeConnection("b:1")
    exchange = Line(text, FakePool("a", backend)).get("/")
    backend.answers(b"HTTP/1.1 200 OK\r\nX-Two: 2\r\nContent-Length: 0")
    assert as_json(exchange, "response:X-Two") == {"response:X-Two": "ours"}
    told = as_json(answered(b"nonsense"), "response:Content-Type")
    assert told == {"response:Content-Type": "application/problem+json"}


def test_the_name_of_a_field_may_hold_anything() -> None:
    names = ('query:a"b', "query:`e.client`", "query:\\u00e9", "query:{}%s'")
    assert as_json(answered(START % b"/?a%22b=1"), *names) == {names[0]: "1"} | dict.fromkeys(names[1:])


# Credentials


def test_credentials_stand_in_no_line_whatever_is_asked_for() -> None:
    backend = FakeConnection("b:1")
    line = Line(CONFIG, FakePool("a", backend))
    exchange = line.get(
        "/x?a=1&%74oken=hunter2&PASSWORD=hunter2",
        *(b"Authorization: hunter2", b"Cookie: a=hunter2", b"Proxy-Authorization: hunter2", b"X-Api-Key: hunter2"),
        *(b"Referer: http://a.test/?token=hunter2&b=2", b"X-Url: /y?access_token=hunter2#c"),
    )
    backend.answers(
        b"HTTP/1.1 302 Found\r\nSet-Cookie: a=hunter2\r\nLocation: /#access_token=hunter2&c=3\r\nContent-Length: 0"
    )
    names = ("authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Referer", "X-Url")
    fields = (*FIELDS, *(f"header:{name}" for name in names), "response:Set-Cookie", "response:Location")
    told = as_json(exchange, *fields, "query:token", "query:PassWord", "query:a")
    assert "hunter2" not in json.dumps(told) + as_combined(exchange)
    assert told["path"] == "/x?a=1&%74oken=REDACTED&PASSWORD=REDACTED"
    assert told["referer"] == told["header:Referer"] == "http://a.test/?token=REDACTED&b=2"
    assert told["response:Location"] == "/#access_token=REDACTED&c=3"
    # That they were there may be known.
    assert (told["header:Cookie"], told["query:token"], told["query:a"]) == ("REDACTED", "REDACTED", "1")
    assert as_json(answered(), "header:Cookie") == {"header:Cookie": None}


def test_what_is_asked_for_in_clear_is_told_in_clear() -> None:
    clear = RedactionSettings(frozenset(), frozenset())
    exchange = answered(START % b"/?token=hunter2" + b"Cookie: hunter2")
    (line,) = LineEncoder("json", ("path", "header:Cookie"), clear).encode(records(exchange), WALL).splitlines()
    assert json.loads(line) == {"path": "/?token=hunter2", "header:Cookie": "hunter2"}


# Who has answered, and where the time has gone

LOCAL = """
[upstreams.a]
endpoints = ["b:1"]
[[routes]]
path = "/reply"
respond.body = "x"
[[routes]]
path = "/redirect"
redirect = { to = "/" }
[[routes]]
path = "/*"
upstream = "a"
"""


def test_it_is_told_who_has_made_the_answer() -> None:
    secure = FakeClient()
    secure.redirect_to_https, secure.needs_identifying = 443, True
    asked = {
        "respond": Line(LOCAL).get("/reply"),
        "redirect": Line(LOCAL).get("/redirect"),
        "https-redirect": Line(LOCAL, client=secure).get("/x"),
        "max-forwards": Line(LOCAL).get("/x", b"Max-Forwards: 0", method="OPTIONS"),
        "upstream": answered(),
        "failure": answered(b"nonsense"),
    }
    assert {name: as_json(exchange, "answered_by")["answered_by"] for name, exchange in asked.items()} == {
        name: name for name in asked
    }
    assert [exchange.reason for name, exchange in asked.items() if name != "failure"] == [""] * 5


@pytest.mark.parametrize("failure", [one for one in vars(errors).values() if isinstance(one, errors.Failure)])
def test_every_way_to_fail_is_told_by_its_reason(failure: errors.Failure) -> None:
    exchange = Line(CONFIG, FakePool("a", None)).get("/")
    exchange.fail(failure)
    told = as_json(exchange, "status", "reason", "answered_by")
    assert tuple(told.values()) == (failure.status, failure.reason, "failure")


def test_a_backend_that_was_waited_for_in_vain_is_told_with_the_time() -> None:
    line = Line(CONFIG, FakePool("a", FakeConnection("b:1")))
    exchange = line.get("/")
    line.clock.now += 2.5
    exchange.timed_out()
    told = as_json(exchange, "reason", "answered_by", "upstream_us", "body_us", "gateway_us")
    assert list(told.values()) == ["route-timeout", "failure", pytest.approx(2_500_000, abs=1), 0, 0]


def test_the_phases_make_up_the_whole_time() -> None:
    backend = FakeConnection("b:1")
    line = Line(CONFIG, FakePool("a", None))
    exchange = line.get("/")
    line.clock.now += 0.007
    exchange.queued_s, exchange.connect_s = 0.004, 0.002
    exchange.connected(backend)
    line.clock.now += 0.1
    backend.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1", complete=False)
    line.clock.now += 0.03
    exchange.response_body(b"x")
    exchange.response_end(b"")
    told = as_json(exchange, "duration_us", *PHASES)
    assert list(told.values()) == pytest.approx([137_000, 4000, 2000, 100_000, 30_000, 0, 1000], abs=1)
    exchange.tries = 2
    assert list(as_json(exchange, "earlier_us", "gateway_us").values()) == pytest.approx([1000, 0], abs=1)


# Sampled and slow ones


def with_rule(exchange: Exchange, rule: LogRule, *fields: str) -> dict[str, Any]:
    return dict(json.loads(LineEncoder("json", fields, rule=rule).encode(records(exchange), WALL)))


def test_a_line_tells_by_what_share_it_was_kept() -> None:
    rule = LogRule(0.01, slow_s=3600.0)
    assert with_rule(answered(), rule, "sampled") == {"sampled": 0.01}
    assert with_rule(answered(b"nonsense"), rule, "sampled") == {"sampled": 1}
    assert with_rule(answered(), LogRule(0.00001), "sampled") == {"sampled": 0.00001}


def test_a_slow_exchange_is_told_with_its_phases_and_another_is_not() -> None:
    exchange = answered()
    told = with_rule(exchange, LogRule(0.01, slow_s=0.25), "path", "upstream_us", "sampled")
    assert list(told) == ["path", "upstream_us", "sampled", *(name for name in PHASES if name != "upstream_us")]
    assert told["sampled"] == 1
    assert list(with_rule(exchange, LogRule(0.01, slow_s=0.26), "path", "sampled")) == ["path", "sampled"]


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
