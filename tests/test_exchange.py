from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from fastgw import errors
from fastgw.exchange import AWAITED, ENDED, Exchange
from fastgw.http1.fields import values
from fastgw.http1.message import LENGTH, NO_BODY
from fastgw.policy.forwarded import lines_before_host
from fastgw.policy.tls_session import CertificateNames, TlsSession
from tests.fakes import DATE, FakeClient, FakeConnection, FakePool, Line, response

UPSTREAM = '[upstreams.a]\nendpoints = ["b:1"]\n'
TO_A = UPSTREAM + '[[routes]]\nname = "all"\nupstream = "a"\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5"


def a_line(config: str = TO_A, client: FakeClient | None = None) -> tuple[Line, FakeConnection]:
    """A line whose upstream `a` has one open connection, and that connection."""
    connection = FakeConnection()
    return Line(config, FakePool("a", connection), client=client), connection


def route(text: str) -> str:
    return f'{UPSTREAM}[[routes]]\nname = "r"\n{text}\n'


def sent(connection: FakeConnection, name: bytes) -> list[bytes]:
    return values(connection.fields, name)


# Routes


def test_a_request_is_forwarded_and_its_answer_passed_back() -> None:
    line, backend = a_line()
    exchange = line.get("/x?y", b"Accept: a", b"X-B: c")
    assert (backend.target, backend.host) == (b"/x?y", b"a.test")
    assert backend.fields == (
        b"\r\nAccept: a\r\nX-B: c\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http"
        b'\r\nForwarded: for=192.0.2.7;proto=http;host="a.test"\r\nX-Forwarded-Host: a.test'
        b"\r\nVia: 1.1 fastgw\r\nX-Request-Id: " + exchange.request_id
    )
    line.clock.now += 0.25
    backend.answers(OK + b"\r\nETag: 1", b"ok")
    assert line.client.status == b"200 OK"
    assert line.client.fields == (
        b"\r\nETag: 1\r\nVia: 1.1 fastgw\r\nX-Request-Id: " + exchange.request_id + b"\r\nDate: " + DATE
    )
    assert (line.client.kind, line.client.length, line.client.body) == (LENGTH, 2, b"ok")
    assert line.client.events == ["head 200", "complete", "ended"]
    assert (exchange.upstream_s, exchange.endpoint, exchange.reason) == (0.25, "b:1", "")
    assert backend.events == ["request"]


def test_a_request_that_no_route_takes_gets_404() -> None:
    line, backend = a_line(route('path = "/x"\nupstream = "a"'))
    exchange = line.get("/y")
    assert line.client.status == b"404 Not Found"
    assert json.loads(line.client.body)["reason"] == "no-route"
    assert values(line.client.fields, b"proxy-status") == [b"fastgw; error=destination_not_found"]
    assert (exchange.reason, exchange.route, backend.events) == ("no-route", None, [])


def test_a_method_that_no_route_takes_gets_405_with_those_that_are_taken() -> None:
    line, _ = a_line(route('path = "/x"\nmethods = ["PUT", "DELETE"]\nupstream = "a"'))
    line.get("/x")
    assert line.client.status == b"405 Method Not Allowed"
    (allow,) = values(line.client.fields, b"allow")
    assert set(allow.split(b", ")) == {b"PUT", b"DELETE"}


def test_a_refused_head_is_answered_and_logged() -> None:
    line, _ = a_line()
    exchange = line.request(b"GET / HTTP/1.1")
    assert line.client.status == b"400 Bad Request"
    assert not exchange.request.keep_alive
    assert line.logged == [exchange]


def test_a_split_goes_by_chance() -> None:
    config = UPSTREAM + UPSTREAM.replace("a]", "b]")
    config += '[[routes]]\nupstream = [{ upstream = "a", weight = 3 }, { upstream = "b", weight = 1 }]\n'
    for chance, chosen in ((0.0, "a"), (0.74, "a"), (0.76, "b"), (0.999, "b")):
        line = Line(config, FakePool("a", None), FakePool("b", None), chance=chance)
        exchange = line.get("/")
        assert exchange.pool is not None
        assert (chance, exchange.pool.name) == (chance, chosen)


# Answers of the gateway's own


def test_a_fixed_answer_is_given_with_its_headers() -> None:
    line, _ = a_line(route('respond = { status = 503, body = "later", headers = { Retry-After = "9" } }'))
    exchange = line.get("/")
    assert (line.client.status, line.client.body) == (b"503 Service Unavailable", b"later")
    assert values(line.client.fields, b"retry-after") == [b"9"]
    assert values(line.client.fields, b"date") == [DATE]
    assert values(line.client.fields, b"x-request-id") == [exchange.request_id]
    assert (exchange.reason, exchange.status) == ("", 503)


@pytest.mark.parametrize(("status", "length"), [(200, 5), (204, -1), (304, -1)])
def test_a_fixed_answer_to_head_and_one_without_content_have_no_body(status: int, length: int) -> None:
    body = "" if status in (204, 304) else ', body = "hello"'
    line, _ = a_line(route(f"respond = {{ status = {status}{body} }}"))
    line.get("/", method="HEAD")
    assert (line.client.kind, line.client.length, line.client.body) == (NO_BODY, length, b"")


def test_a_failure_s_answer_to_head_has_no_body_but_its_length() -> None:
    line, _ = a_line(route('path = "/x"\nupstream = "a"'))
    line.get("/", method="HEAD")
    assert (line.client.kind, line.client.body) == (NO_BODY, b"")
    assert line.client.length > 0


@pytest.mark.parametrize(("keep", "location"), [("true", b"https://b.test/7?x=1"), ("false", b"https://b.test/7")])
def test_a_redirect_takes_what_was_captured_and_the_query_when_told_to(keep: str, location: bytes) -> None:
    redirect = f'path = "/a/{{id}}"\nredirect = {{ to = "https://b.test/{{id}}", status = 308, keep_query = {keep} }}'
    line, _ = a_line(route(redirect))
    line.get("/a/7?x=1")
    assert line.client.status == b"308 Permanent Redirect"
    assert values(line.client.fields, b"location") == [location]


# Edits


def test_the_path_is_rewritten_by_a_template() -> None:
    line, backend = a_line(route('path = "/a/{x}/{y*}"\nrewrite.path = "/v2/{y}/of/{x}"\nupstream = "a"'))
    line.get("/a/1/2/3?q")
    assert backend.target == b"/v2/2/3/of/1?q"


@pytest.mark.parametrize(("asked", "target"), [("/a/b?q", b"/b?q"), ("/a/", b"/"), ("/a//b", b"/b")])
def test_a_prefix_is_stripped(asked: str, target: bytes) -> None:
    line, backend = a_line(route('path = "/a/*"\nrewrite.strip_prefix = "/a"\nupstream = "a"'))
    line.get(asked)
    assert backend.target == target


def test_the_host_is_rewritten_and_the_upstream_is_told_what_it_was() -> None:
    line, backend = a_line(route('rewrite.host = "inner.test"\nupstream = "a"'))
    line.get("/")
    assert backend.host == b"inner.test"
    assert sent(backend, b"x-forwarded-host") == [b"a.test"]


def test_a_request_without_host_gets_the_upstream_s() -> None:
    line, backend = a_line()
    line.request(b"GET / HTTP/1.0")
    assert backend.host == b"backend.test"
    assert sent(backend, b"via") == [b"1.0 fastgw"]


def test_headers_of_the_request_are_set_added_and_removed() -> None:
    edits = 'request.headers = { set = { X-Set = "new" }, add = { X-Add = "more" }, remove = ["X-Gone"] }'
    line, backend = a_line(route(f'upstream = "a"\n{edits}'))
    line.get("/", b"x-set: old", b"X-SET: older", b"X-Add: one", b"X-gone: 1", b"X-Gone-Not: 1")
    assert sent(backend, b"x-set") == [b"new"]
    assert sent(backend, b"x-add") == [b"one", b"more"]
    assert sent(backend, b"x-gone") == []
    assert sent(backend, b"x-gone-not") == [b"1"]


@pytest.mark.parametrize("answer", ["upstream", "failure"])
def test_headers_of_the_answer_are_edited_whoever_gives_it(answer: str) -> None:
    edits = 'response.headers = { set = { X-Set = "new" }, remove = ["Server"] }'
    line, backend = a_line(route(f'upstream = "a"\n{edits}'))
    line.get("/")
    if answer == "upstream":
        backend.answers(OK + b"\r\nServer: x\r\nx-set: old", b"ok")
    else:
        backend.breaks(errors.UPSTREAM_RESET)
    assert values(line.client.fields, b"x-set") == [b"new"]
    assert values(line.client.fields, b"server") == []


def test_an_answer_that_has_its_date_keeps_it() -> None:
    line, backend = a_line()
    line.get("/")
    backend.answers(OK + b"\r\nDate: then", b"ok")
    assert values(line.client.fields, b"date") == [b"then"]


# Answers in pieces


def test_an_answer_passes_as_it_comes_with_its_trailers() -> None:
    line, backend = a_line()
    exchange = line.get("/")
    backend.answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"a", complete=False)
    assert (line.client.events, line.client.body, line.logged) == (["head 200"], b"a", [])
    exchange.response_body(b"bc")
    exchange.response_end(b"\r\nX-T: 1")
    assert (line.client.body, line.client.trailers) == (b"abc", b"\r\nX-T: 1")
    assert (line.client.events, exchange.bytes_out) == (["head 200", "complete", "ended"], 3)


def test_an_answer_to_head_tells_the_length_of_what_is_not_sent() -> None:
    line, backend = a_line()
    line.get("/", method="HEAD")
    backend.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 99")
    assert (line.client.kind, line.client.length) == (NO_BODY, 99)


def test_answers_before_the_answer_pass_but_not_to_http_1_0() -> None:
    for version, events in ((b"1.1", ["informational 103"]), (b"1.0", [])):
        line, _ = a_line()
        exchange = line.request(b"GET / HTTP/" + version + b"\r\nHost: a.test")
        exchange.response_informational(response(b"HTTP/1.1 103 Early Hints\r\nLink: x"))
        assert line.client.events == events
        assert exchange.answer == AWAITED


def test_a_tunnel_is_begun_and_logged_when_it_ends() -> None:
    line, backend = a_line()
    exchange = line.get("/", b"Connection: upgrade", b"Upgrade: websocket")
    exchange.switched_protocols(
        response(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket"), b"first"
    )
    assert line.client.tunnel is backend
    assert (line.client.status, line.client.body) == (b"101 Switching", b"first")
    assert values(line.client.fields, b"upgrade") == [b"websocket"]
    assert line.logged == []
    exchange.tunnel_ended()
    assert (line.logged, exchange.status) == ([exchange], 101)


def test_an_answer_to_a_client_that_has_not_read_the_one_before_is_not_read_ahead() -> None:
    line, backend = a_line()
    line.client.congested = True
    line.get("/")
    backend.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    assert backend.events == ["request", "paused"]


# Bodies of requests


def test_a_body_goes_to_the_connection_as_it_comes() -> None:
    line, backend = a_line()
    exchange = line.request(POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"), b"he", complete=False)
    exchange.request_body(b"llo")
    exchange.request_end(b"\r\nX-T: 1")
    assert (backend.body, backend.trailers, exchange.bytes_in) == (b"hello", b"\r\nX-T: 1", 5)


def test_a_client_is_not_read_while_its_request_waits_for_a_connection() -> None:
    line = Line(TO_A, FakePool("a", None))
    exchange = line.request(POST, b"he", complete=False)
    assert line.client.events == ["paused"]
    exchange.request_body(b"l")
    backend = FakeConnection()
    exchange.connected(backend)
    assert line.client.events == ["paused", "resumed"]
    exchange.request_body(b"lo")
    exchange.request_end(b"")
    assert (backend.body, backend.trailers) == (b"hello", b"")


def test_a_body_that_is_complete_before_there_is_a_connection_is_sent_whole() -> None:
    line = Line(TO_A, FakePool("a", None))
    exchange = line.request(POST, b"he", complete=False)
    exchange.request_body(b"llo")
    exchange.request_end(b"\r\nX-T: 1")
    backend = FakeConnection()
    exchange.connected(backend)
    assert (backend.body, backend.trailers) == (b"hello", b"\r\nX-T: 1")


# Retries


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_what_may_be_sent_twice_is_sent_again_once_on_a_fresh_connection(method: str) -> None:
    old, new = FakeConnection("b:1"), FakeConnection("b:2")
    pool = FakePool("a", old, new)
    line = Line(TO_A, pool)
    line.get("/x", b"X-A: 1", method=method)
    old.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert pool.asked == [False, True]
    assert (new.target, new.fields) == (old.target, old.fields)
    new.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=False)
    assert line.client.status == b"502 Bad Gateway"
    assert line.logged[0].endpoint == "b:2"


@pytest.mark.parametrize(
    ("method", "unanswered", "reused"),
    [("POST", True, True), ("PATCH", True, True), ("GET", False, True), ("GET", True, False)],
)
def test_what_may_have_been_done_is_not_sent_again(method: str, unanswered: bool, reused: bool) -> None:
    line, backend = a_line()
    line.get("/", method=method)
    backend.breaks(errors.UPSTREAM_RESET, unanswered, reused)
    assert line.client.status == b"502 Bad Gateway"
    assert json.loads(line.client.body or b'{"reason":"upstream-reset"}')["reason"] == "upstream-reset"


def test_a_body_that_was_held_whole_is_sent_again() -> None:
    old, new = FakeConnection(), FakeConnection()
    line = Line(TO_A, FakePool("a", old, new))
    line.request(POST.replace(b"POST", b"PUT"), b"hello", complete=True)
    old.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert (new.body, new.trailers) == (b"hello", b"")


@pytest.mark.parametrize("way", ["as data", "past the exchange"])
def test_a_body_that_was_streamed_can_not_be_sent_again(way: str) -> None:
    line, backend = a_line()
    exchange = line.request(POST.replace(b"POST", b"PUT"), b"he", complete=False)
    if way == "as data":
        exchange.request_body(b"llo")
    else:
        exchange.body_leaves()
    backend.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert line.client.status == b"502 Bad Gateway"


def test_the_rest_of_a_body_follows_its_request_to_the_fresh_connection() -> None:
    old, new = FakeConnection(), FakeConnection()
    line = Line(TO_A, FakePool("a", old, None))
    exchange = line.request(POST.replace(b"POST", b"PUT"), b"he", complete=False)
    old.breaks(errors.UPSTREAM_RESET, unanswered=True, reused=True)
    assert line.client.events == ["paused"]
    exchange.connected(new)
    exchange.request_body(b"llo")
    exchange.request_end(b"")
    assert (new.body, new.trailers, line.client.events) == (b"hello", b"", ["paused", "resumed"])


def test_each_endpoint_is_tried_once_when_no_connection_can_be_made() -> None:
    pool = FakePool("a", None, None, None, endpoints=3)
    line = Line(TO_A, pool)
    exchange = line.get("/")
    exchange.not_connected(errors.CONNECT_FAILED, 1)
    assert (exchange.tried, len(pool.asked)) == (0b010, 2)
    exchange.not_connected(errors.CONNECT_TIMEOUT, 0)
    assert (exchange.tried, len(pool.asked)) == (0b011, 3)
    assert line.client.events == []
    exchange.not_connected(errors.CONNECT_TIMEOUT, 2)
    assert len(pool.asked) == 3
    assert line.client.status == b"504 Gateway Timeout"
    assert exchange.reason == "connect-timeout"


def test_another_endpoint_s_connection_serves_at_once() -> None:
    backend = FakeConnection("b:2")
    line = Line(TO_A, FakePool("a", None, backend, endpoints=2))
    exchange = line.request(POST, b"hello")
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    backend.answers(OK, b"ok")
    assert (backend.body, line.client.status, exchange.endpoint) == (b"hello", b"200 OK", "b:2")


def test_a_full_queue_is_answered_at_once_and_the_client_is_not_paused() -> None:
    line = Line(TO_A, FakePool("a", errors.QUEUE_FULL))
    line.request(POST, b"he", complete=False)
    assert line.client.status == b"503 Service Unavailable"
    assert values(line.client.fields, b"retry-after") == [b"1"]
    assert "paused" not in line.client.events


# Failures and ends


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.UPSTREAM_RESET, b"502 Bad Gateway"),
        (errors.UPSTREAM_MALFORMED, b"502 Bad Gateway"),
        (errors.RESPONSE_TIMEOUT, b"504 Gateway Timeout"),
    ],
)
def test_a_failure_before_the_head_is_answered(failure: errors.Failure, status: bytes) -> None:
    line, backend = a_line()
    exchange = line.get("/")
    backend.breaks(failure)
    assert (line.client.status, exchange.reason, exchange.request.keep_alive) == (status, failure.reason, True)
    assert line.client.events == [f"head {failure.status}", "complete", "ended"]


def test_a_failure_after_the_head_breaks_the_answer_off() -> None:
    line, backend = a_line()
    exchange = line.get("/")
    backend.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    backend.breaks(errors.UPSTREAM_STALLED)
    assert line.client.events == ["head 200", "aborted", "ended"]
    assert (exchange.status, exchange.reason) == (200, "upstream-stalled")


def _waiting(line: Line) -> tuple[Exchange, FakeConnection | None]:
    return line.get("/wait"), None


def _asked(line: Line) -> tuple[Exchange, FakeConnection | None]:
    exchange = line.get("/")
    assert isinstance(exchange.connection, FakeConnection)
    return exchange, exchange.connection


def _sending(line: Line) -> tuple[Exchange, FakeConnection | None]:
    exchange = line.request(POST, b"he", complete=False)
    assert isinstance(exchange.connection, FakeConnection)
    return exchange, exchange.connection


def _answered(line: Line) -> tuple[Exchange, FakeConnection | None]:
    exchange, connection = _asked(line)
    assert connection is not None
    connection.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"ok", complete=False)
    return exchange, connection


TWO = UPSTREAM + '[upstreams.wait]\nendpoints = ["c:1"]\n[[routes]]\npath = "/wait"\nupstream = "wait"\n'
TWO += '[[routes]]\npath = "/*"\nupstream = "a"\n'
PHASES = [_waiting, _asked, _sending, _answered]
Phase = Callable[[Line], tuple[Exchange, FakeConnection | None]]


def two_upstreams() -> Line:
    return Line(TWO, FakePool("a", FakeConnection()), FakePool("wait", None))


ENDS: list[tuple[str, Callable[[Exchange], None]]] = [
    ("client leaves", lambda exchange: exchange.client_left(errors.CLIENT_LEFT)),
    ("client does not read", lambda exchange: exchange.client_left(errors.WRITE_TIMEOUT)),
    ("time is over", lambda exchange: exchange.timed_out()),
    ("body too slow", lambda exchange: exchange.fail(errors.BODY_TIMEOUT)),
    ("bug", lambda exchange: exchange.crashed()),
]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("end", [end for _, end in ENDS], ids=[name for name, _ in ENDS])
def test_every_end_in_every_phase_is_logged_once_and_lets_the_connection_go(
    phase: Phase, end: Callable[[Exchange], None]
) -> None:
    line = two_upstreams()
    exchange, connection = phase(line)
    end(exchange)
    assert line.logged == [exchange]
    assert exchange.answer == ENDED
    assert exchange.reason != ""
    assert line.client.events.count("ended") == 1
    if connection is not None:
        assert connection.events == ["request", "discarded"]
    else:
        pool = line.gateway.pools["wait"]
        assert isinstance(pool, FakePool)
        assert pool.forgotten == [exchange]
    # Whatever comes late changes nothing.
    for _, again in ENDS:
        again(exchange)
    assert (line.logged, line.client.events.count("ended")) == ([exchange], 1)


@pytest.mark.parametrize(("phase", "status"), [(_waiting, 499), (_asked, 499), (_sending, 499), (_answered, 200)])
def test_a_client_that_left_is_logged_as_such_and_sent_nothing_more(phase: Phase, status: int) -> None:
    line = two_upstreams()
    exchange, _ = phase(line)
    before = [event for event in line.client.events if event != "ended"]
    exchange.client_left(errors.CLIENT_LEFT)
    assert (exchange.status, exchange.reason) == (status, "client-left")
    assert [event for event in line.client.events if event != "ended"] == before


@pytest.mark.parametrize("phase", [_waiting, _asked, _sending])
def test_a_route_s_time_is_over_before_the_answer_504(phase: Phase) -> None:
    line = two_upstreams()
    exchange, _ = phase(line)
    exchange.timed_out()
    assert (line.client.status, exchange.reason) == (b"504 Gateway Timeout", "route-timeout")


def test_a_route_s_time_is_over_within_the_answer_and_it_is_broken_off() -> None:
    line = two_upstreams()
    exchange, _ = _answered(line)
    exchange.timed_out()
    assert line.client.events == ["head 200", "aborted", "ended"]


def test_a_route_s_time_runs_from_the_start_of_its_exchange() -> None:
    line, _ = a_line(route('timeout = "2s"\nupstream = "a"'))
    assert line.get("/").deadline == line.clock.now + 2.0


def test_a_bug_is_answered_with_500_and_the_connection_is_not_kept() -> None:
    line, _ = a_line()
    exchange = line.get("/")
    exchange.crashed()
    assert (line.client.status, exchange.reason) == (b"500 Internal Server Error", "internal-error")
    assert not exchange.request.keep_alive
    assert b"Traceback" not in line.client.body


@pytest.mark.parametrize(
    ("config", "target"),
    [
        (route('path = "/x"\nupstream = "a"'), "/none"),
        (route('path = "/x"\nmethods = ["PUT"]\nupstream = "a"'), "/x"),
        (route('respond.body = "x"'), "/"),
        (route('path = "/x"\nredirect.to = "/y"'), "/x"),
    ],
)
def test_every_answer_of_the_gateway_s_own_is_logged_once(config: str, target: str) -> None:
    line, _ = a_line(config)
    exchange = line.get(target)
    assert line.logged == [exchange]
    assert exchange.status == int(line.client.status[:3])


@pytest.mark.parametrize("pieces", [True, False])
def test_every_answer_of_an_upstream_is_logged_once_with_its_times(pieces: bool) -> None:
    line, backend = a_line()
    exchange = line.get("/")
    line.clock.now += 1.0
    backend.answers(OK, b"" if pieces else b"ok", complete=not pieces)
    if pieces:
        assert line.logged == []
        line.clock.now += 2.0
        exchange.response_body(b"ok")
        exchange.response_end(b"")
    assert line.logged == [exchange]
    assert (exchange.upstream_s, exchange.ended - exchange.started) == (1.0, 3.0 if pieces else 1.0)


# Trusted proxies

TRUSTING = '[server]\ntrusted_proxies = ["10.0.0.0/8"]\n'
SAID = (b"X-Forwarded-For: 203.0.113.9, 10.1.1.1", b"X-Request-Id: abc-1", b"X-Forwarded-Proto: https")


def test_a_trusted_proxy_says_whose_request_it_is_and_its_id() -> None:
    line, backend = a_line(TRUSTING + TO_A, FakeClient(b"10.0.0.1", trusted=True))
    exchange = line.get("/", *SAID)
    assert (exchange.client, exchange.request_id) == (b"203.0.113.9", b"abc-1")
    assert sent(backend, b"x-forwarded-for") == [b"203.0.113.9, 10.1.1.1, 10.0.0.1"]
    assert sent(backend, b"x-forwarded-proto") == [b"https"]
    assert sent(backend, b"x-request-id") == [b"abc-1"]
    assert sent(backend, b"x-forwarded-host") == [b"a.test"]


def test_anybody_else_is_not_believed() -> None:
    line, backend = a_line(TRUSTING + TO_A, FakeClient(b"192.0.2.7", trusted=False))
    exchange = line.get("/", *SAID)
    assert (exchange.client, exchange.request_id == b"abc-1") == (b"192.0.2.7", False)
    assert sent(backend, b"x-forwarded-for") == [b"192.0.2.7"]
    assert sent(backend, b"x-forwarded-proto") == [b"http"]
    assert sent(backend, b"x-request-id") == [exchange.request_id]


@pytest.mark.parametrize("bad", [b"", b"a b", b'a"b', b"a\xff", b"a" * 129])
def test_an_id_that_could_forge_a_line_is_replaced(bad: bytes) -> None:
    line, _ = a_line(TRUSTING + TO_A, FakeClient(b"10.0.0.1", trusted=True))
    assert line.get("/", b"X-Request-Id: " + bad).request_id != bad


def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    line, backend = a_line(TRUSTING + TO_A, FakeClient(b"10.0.0.1", trusted=True))
    assert line.get("/").client == b"10.0.0.1"
    assert sent(backend, b"x-forwarded-for") == [b"10.0.0.1"]


# What goes no further


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_max_forwards_is_counted_down_and_ends_at_zero(method: str) -> None:
    line, backend = a_line()
    line.get("/", b"Max-Forwards: 5", method=method)
    assert sent(backend, b"max-forwards") == [b"4"]
    line, backend = a_line()
    line.get("/", b"Max-Forwards: 0", method=method)
    assert (line.client.status, backend.events) == (b"200 OK", [])


def test_max_forwards_means_nothing_to_other_methods() -> None:
    line, backend = a_line()
    line.get("/", b"Max-Forwards: 0")
    assert sent(backend, b"max-forwards") == [b"0"]


def test_a_request_for_https_that_came_in_plain_text_is_for_somebody_else() -> None:
    line, backend = a_line()
    line.get("https://a.test/")
    assert (line.client.status, backend.events) == (b"421 Misdirected Request", [])
    line, backend = a_line()
    line.get("http://a.test/")
    assert backend.events == ["request"]


# What a TLS session says of a request


def tls_client(server_name: bytes = b"a.test", lines: bytes = b"", trusted: bool = False) -> FakeClient:
    client = FakeClient(b"10.0.0.1" if trusted else b"192.0.2.7", trusted)
    names = CertificateNames({b"a.test": 0, b"other.test": 1}, {})
    group = names.group(server_name)
    client.session = TlsSession("TLSv1.3", server_name, group, names, None, lines)
    client.scheme = b"https"
    client.forwarded = lines + lines_before_host(client.client, b"https")
    client.needs_identifying = True
    return client


@pytest.mark.parametrize(("server_name", "status"), [(b"other.test", b"421"), (b"a.test", b"200"), (b"", b"200")])
def test_a_request_for_another_certificate_s_host_is_misdirected(server_name: bytes, status: bytes) -> None:
    line, backend = a_line(client=tls_client(server_name))
    line.get("/")
    if status == b"200":
        backend.answers(OK, b"ok")
    assert line.client.status.startswith(status)
    assert [exchange.reason for exchange in line.logged] == (["misdirected-host"] if status == b"421" else [""])


def test_an_absolute_https_target_has_come_to_the_right_place() -> None:
    line, backend = a_line(client=tls_client())
    line.get("https://a.test/x")
    assert (backend.target, backend.events) == (b"/x", ["request"])


@pytest.mark.parametrize("trusted", [False, True])
def test_the_upstream_is_told_of_the_client_s_certificate_whoever_forwards(trusted: bool) -> None:
    config = '[server]\ntrusted_proxies = ["10.0.0.0/8"]\n' + TO_A
    line, backend = a_line(config, tls_client(lines=b"\r\nX-Client-Cert-Verify: NONE", trusted=trusted))
    line.get("/", b"X-Forwarded-For: 9.9.9.9")
    assert sent(backend, b"x-client-cert-verify") == [b"NONE"]
    assert sent(backend, b"x-forwarded-for") == [b"9.9.9.9, 10.0.0.1" if trusted else b"192.0.2.7"]


def test_nobody_else_tells_of_client_certificates_where_a_listener_does() -> None:
    client = FakeClient()
    line, backend = a_line(client=client)
    line.gateway.snapshot = replace(line.gateway.snapshot, has_client_cert_headers=True)
    client.needs_identifying = True
    line.get("/", b"X-Client_Cert-Subject: CN=admin", b"client-cert: :AA==:", b"X-Client-Certificate: mine")
    assert b"admin" not in backend.fields
    assert b"AA==" not in backend.fields
    assert sent(backend, b"x-client-certificate") == [b"mine"]
