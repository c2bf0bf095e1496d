from __future__ import annotations

import contextlib
from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from fastgw.http1.parse import RequestParser
from fastgw.http1.parse_response import parse_response, parse_response_again
from tests.http1.heads import ANY_REQUEST, ANY_RESPONSE, GOOD_REQUESTS, one_head

PLAIN = b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nAccept: */*"
HOST = b"Host: a.test"

# What a next hop must not get, however it is spelled: `_` for `-` is the same field to a CGI or WSGI backend.
OF_THIS_HOP = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding content-length upgrade te host expect"
    b" proxy-authorization".split()
)
FORWARDING = frozenset(
    b"forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-server"
    b" x-forwarded-prefix x-forwarded-ssl x-forwarded-scheme x-real-ip x-request-id".split()
)


def parse(head: bytes, parser: RequestParser | None = None) -> RequestHead | Failure:
    return (parser or RequestParser()).parse(head, 8192, 100)


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((line, *lines))


def accepted(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> RequestHead:
    request = parse(head(*(lines if b"Host" in b"".join(lines) else (HOST, *lines)), line=line))
    assert isinstance(request, RequestHead), request
    return request


def facts(parsed: RequestHead | ResponseHead | Failure) -> dict[str, Any] | Failure:
    """All that a parsed head says, to compare."""
    if isinstance(parsed, Failure):
        return parsed
    return {name: getattr(parsed, name) for name in type(parsed).__slots__}


def lines_of(fields: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines, each begun by CRLF, as (name, value)."""
    assert fields == b"" or fields.startswith(b"\r\n")
    out = []
    for line in fields.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        assert colon, line
        out.append((name, value.strip(b" \t")))
    return out


# Randomized


class Headers:
    """All header lines of a head, by llhttp."""

    def __init__(self, data: bytes, parser: type[httptools.HttpRequestParser | httptools.HttpResponseParser]) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser(self).feed_data(data + b"\r\n\r\n")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value.strip(b" \t")))

    def named_by_connection(self) -> set[bytes]:
        values = [value for name, value in self.lines if name.lower() == b"connection"]
        return {option.strip(b" \t").lower() for value in values for option in value.split(b",")}


@settings(max_examples=200, deadline=None)
@given(ANY_REQUEST)
@example(b"")
@example(b" / HTTP/1.1")
@example(b"GET  HTTP/1.1")
@example(b"\nGET / HTTP/1.1\r\nHost: a")
def test_a_request_is_read_or_refused_and_leaves_nothing_behind_for_the_next_connection(data: bytes) -> None:
    shared = RequestParser()
    first = parse(data, shared)
    assert isinstance(first, RequestHead | Failure)
    assert facts(parse(PLAIN, shared)) == facts(parse(PLAIN))
    # The second time as the first.
    assert facts(parse(data, shared)) == facts(first)


@pytest.mark.parametrize("name", [b"Connection", b"Proxy-Connection", b"proxy-connection", b"Keep-Alive"])
@pytest.mark.parametrize(
    "value", [b"close", b"Close", b"x, close", b"close, x", b"upgrade", b"keep-alive", b"\tclose "]
)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_connection_that_closes_does_not_end_the_others(name: bytes, value: bytes, version: bytes) -> None:
    shared = RequestParser()
    parse(head(HOST, name + b": " + value, b"Upgrade: x", line=b"GET / " + version), shared)
    assert isinstance(parse(PLAIN, shared), RequestHead)


@settings(max_examples=200, deadline=None)
@given(st.one_of(GOOD_REQUESTS, GOOD_REQUESTS, ANY_REQUEST))
@example(head(HOST, b"Connection: x-a", b"X-A: 1", b"x-A:2", b"X-B: 3"))
@example(head(HOST, b"connection:X-Forwarded_For", b"x-forwarded_for: 1"))
@example(head(HOST, b"X_Forwarded-For: 1", b"CONTENT_length: 5", b"Te: a", b"tea: b"))
def test_what_is_forwarded_is_what_came_but_for_this_hop_and_the_forwarding(data: bytes) -> None:
    request = parse(data)
    if isinstance(request, Failure):
        return
    came = Headers(data, httptools.HttpRequestParser)
    goes = OF_THIS_HOP | FORWARDING
    named = came.named_by_connection()
    kept = [
        (name, value)
        for name, value in came.lines
        if name.lower().replace(b"_", b"-") not in goes and name.lower() not in named
    ]
    assert lines_of(request.fields) == kept


@settings(max_examples=150, deadline=None)
@given(ANY_RESPONSE, st.booleans())
def test_an_answer_is_read_or_refused_and_nothing_of_this_hop_passes(data: bytes, to_head: bool) -> None:
    response = parse_response(data, to_head)
    assert facts(parse_response_again(data, to_head)) == facts(response)
    if isinstance(response, Failure):
        assert response is errors.UPSTREAM_MALFORMED
        return
    came = Headers(data, httptools.HttpResponseParser)
    goes = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"content-length", b"upgrade")
    named = came.named_by_connection()
    kept = [
        (name, value)
        for name, value in came.lines
        if name.lower().replace(b"_", b"-") not in (*goes, b"x-request-id") and name.lower() not in named
    ]
    assert lines_of(response.fields) == kept
    assert b"\r" not in response.line
    assert b"\n" not in response.line


# Requests, by hand


def with_another_line(data: bytes, line: bytes, of_the_first: bool) -> bytes:
    """A head with the header lines of `data`, and with its method if `of_the_first`."""
    method, _, _ = data.partition(b" ")
    _, _, rest = line.partition(b" ")
    return (method + b" " + rest if of_the_first else line) + data[len(data.partition(b"\r\n")[0]) :]


@given(
    st.one_of(GOOD_REQUESTS, ANY_REQUEST),
    st.one_of(
        ANY_REQUEST.map(lambda data: data.partition(b"\r\n")[0]),
        st.binary(max_size=12).map(lambda path: b"GET /" + path + b" HTTP/1.1"),
        st.text("ab/.?#%25\\ \t", max_size=9).map(lambda path: b"GET /" + path.encode() + b" HTTP/1.1"),
    ),
    st.booleans(),
    st.integers(8, 40),
)
@settings(max_examples=400)
@example(PLAIN, b"GET /b HTTP/1.1\r\nX: y", False, 40)
@example(PLAIN, b"GET /a?b=c HTTP/1.0", True, 40)
@example(PLAIN, b"POST /a HTTP/1.1", False, 40)
@example(b"GET http://b.test/ HTTP/1.1\r\nHost: a.test", b"GET /a HTTP/1.1", True, 40)
def test_a_request_that_repeats_an_earlier_one_s_lines_is_read_as_if_it_were_the_first(
    data: bytes, line: bytes, of_the_first: bool, target_size: int
) -> None:
    again = one_head(with_another_line(data, line, of_the_first))
    parser = RequestParser()
    earlier = parser.parse(data, target_size, 100)
    if not isinstance(earlier, RequestHead) or not earlier.lines:
        return
    alone, repeated = (facts(parser.parse(again, target_size, 100, known)) for known in (None, earlier))
    if isinstance(repeated, dict) and isinstance(alone, dict):
        # Only whoever has not been made from another is one to make others from.
        assert repeated.pop("lines") in (b"", alone.pop("lines"))
    assert repeated == alone


def test_a_large_head_is_not_kept_for_the_next_request() -> None:
    small, large = (accepted(b"X-A: " + b"a" * size) for size in (1000, 2048))
    assert (small.lines != b"", large.lines) == (True, b"")


def test_a_repeated_request_costs_no_second_look_at_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = RequestParser()
    earlier = parser.parse(PLAIN, 8192, 100)
    assert isinstance(earlier, RequestHead)
    monkeypatch.setattr(httptools, "HttpRequestParser", None)
    monkeypatch.setattr(parser, "_llhttp", None)
    again = parser.parse(PLAIN.replace(b"/a?b=c", b"/%62//c"), 8192, 100, earlier)
    assert isinstance(again, RequestHead)
    assert (again.path, again.query, again.fields) == (b"/b/c", b"", b"\r\nAccept: */*")


def test_a_plain_request_is_read_without_touching_its_lines() -> None:
    request = parse(PLAIN)
    assert isinstance(request, RequestHead)
    assert (request.method, request.path, request.query, request.minor) == (b"GET", b"/a", b"?b=c", 1)
    assert (request.host, request.host_name, request.fields) == (b"a.test", b"a.test", b"\r\nAccept: */*")
    assert (request.body, request.keep_alive, request.upgrade) == (NO_BODY, True, b"")


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (head(HOST, line=b"GET /"), errors.MALFORMED),
        (head(HOST, line=b"GET / HTTP/1.1 "), errors.MALFORMED),
        (head(HOST, line=b"GET  / HTTP/1.1"), errors.MALFORMED),
        (head(HOST, line=b"GET\t/ HTTP/1.1"), errors.MALFORMED),
        (head(HOST, line=b"\nGET / HTTP/1.1"), errors.MALFORMED),
        (head(HOST, b"A : b"), errors.MALFORMED),
        (head(HOST, b"A: b", b" c"), errors.MALFORMED),
        (head(HOST, b"A: b\nC: d"), errors.MALFORMED),
        (head(HOST, b"A: b\rC: d"), errors.MALFORMED),
        (head(HOST, b"A: b\x00"), errors.MALFORMED),
        (head(HOST, b"no colon"), errors.MALFORMED),
        (head(HOST, line=b"BREW / HTTP/1.1"), errors.METHOD_UNKNOWN),
        (head(HOST, line=b"get / HTTP/1.1"), errors.METHOD_UNKNOWN),
        (head(HOST, line=b"CONNECT a.test:443 HTTP/1.1"), errors.CONNECT_REFUSED),
        (head(HOST, line=b"GET / HTTP/2.0"), errors.VERSION_UNKNOWN),
        (head(HOST, line=b"GET / HTTP/0.9"), errors.VERSION_UNKNOWN),
        (head(HOST, line=b"GET / HTTP/1.2"), errors.VERSION_UNKNOWN),
        (head(), errors.BAD_HOST),
        (head(HOST, HOST), errors.BAD_HOST),
        (head(b"Host: a b"), errors.BAD_HOST),
        (head(b"Host: a.test", line=b"GET http:///x HTTP/1.1"), errors.BAD_TARGET),
        (head(b"Host: a b", line=b"GET http://a.test/ HTTP/1.1"), errors.BAD_HOST),
        (head(HOST, line=b"GET * HTTP/1.1"), errors.BAD_TARGET),
        (head(HOST, line=b"GET /a?b#c HTTP/1.1"), errors.BAD_TARGET),
        (head(HOST, line=b"GET /%00 HTTP/1.1"), errors.BAD_TARGET),
        (head(HOST, b"Expect: tea"), errors.BAD_EXPECTATION),
        (head(HOST, b"Content-Length: 5", b"Content-Length: 5"), errors.BAD_FRAMING),
        (head(HOST, b"Content-Length: 5, 5"), errors.BAD_FRAMING),
        (head(HOST, b"Content-Length: -1"), errors.BAD_FRAMING),
        (head(HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked"), errors.BAD_FRAMING),
        (head(HOST, b"Content-Length: 1" + b"0" * 18), errors.BODY_TOO_LARGE),
        (head(HOST, b"Transfer-Encoding: chunked", line=b"GET / HTTP/1.0"), errors.BAD_FRAMING),
        (head(HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), errors.BAD_FRAMING),
        (head(HOST, b"Transfer-Encoding: chunked, chunked"), errors.BAD_FRAMING),
        (head(HOST, b"Transfer-Encoding: gzip, chunked"), errors.CODING_UNKNOWN),
        (head(HOST, b"Connection: " + b"a," * 17), errors.MALFORMED),
    ],
)
def test_what_can_be_read_in_two_ways_or_is_not_supported_is_refused(data: bytes, failure: Failure) -> None:
    assert parse(data) is failure


def test_a_target_and_a_number_of_lines_over_the_limit_are_refused_and_those_at_it_are_not() -> None:
    parser = RequestParser()
    lines = [b"A: b"] * 9
    longest = head(HOST, *lines, line=b"GET /" + b"x" * 9 + b" HTTP/1.1")
    assert isinstance(parser.parse(longest, 10, 10), RequestHead)
    assert parser.parse(longest, 9, 10) is errors.TARGET_TOO_LONG
    assert parser.parse(longest, 10, 9) is errors.TOO_MANY_HEADERS


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"HTTP/1.1", [], True),
        (b"HTTP/1.1", [b"keep-alive"], True),
        (b"HTTP/1.1", [b"close"], False),
        (b"HTTP/1.1", [b"x, CLOSE"], False),
        (b"HTTP/1.1", [b"close", b"keep-alive"], False),
        (b"HTTP/1.0", [], False),
        (b"HTTP/1.0", [b"Keep-Alive"], True),
        (b"HTTP/1.0", [b"keep-alive, close"], False),
        (b"HTTP/1.0", [b"keep-alive", b"close"], False),
        (b"HTTP/1.0", [b"close", b"keep-alive"], False),
    ],
)
def test_whether_the_connection_stays_open_is_as_the_client_asks(
    version: bytes, connection: list[bytes], kept: bool
) -> None:
    lines = [b"Connection: " + value for value in connection]
    assert accepted(*lines, line=b"GET / " + version).keep_alive is kept


def test_an_http_1_0_client_needs_no_host() -> None:
    request = parse(head(line=b"GET / HTTP/1.0"))
    assert isinstance(request, RequestHead)
    assert (request.host, request.host_name) == (b"", b"")


def test_the_target_s_authority_replaces_host() -> None:
    request = accepted(b"Host: other.test", line=b"GET http://A.test:81/x?y HTTP/1.1")
    assert (request.host, request.host_name, request.path, request.query) == (b"A.test:81", b"a.test", b"/x", b"?y")


@pytest.mark.parametrize("target", [b"*", b"http://a.test"])
def test_options_may_ask_for_the_server_itself(target: bytes) -> None:
    assert accepted(line=b"OPTIONS " + target + b" HTTP/1.1").path == b"*"


def test_how_long_a_body_is_comes_from_its_framing() -> None:
    length = accepted(b"Content-Length: 007")
    assert (length.body, length.content_length) == (LENGTH, 7)
    assert accepted(b"Transfer-Encoding: Chunked").body == CHUNKED
    assert accepted(b"Content_Length: 7").body == NO_BODY


def test_an_upgrade_counts_only_when_connection_names_it_and_it_carries_no_http() -> None:
    named = b"Connection: Upgrade"
    assert accepted(named, b"Upgrade: websocket").upgrade == b"websocket"
    assert accepted(named, b"Upgrade: a", b"Upgrade: b").upgrade == b"a, b"
    assert accepted(b"Upgrade: websocket").upgrade == b""
    assert accepted(named).upgrade == b""
    assert accepted(named, b"Upgrade: websocket", line=b"GET / HTTP/1.0").upgrade == b""
    for carrier in (b"h2c", b"websocket, H2C", b"HTTP/2.0", b"TLS/1.0"):
        assert accepted(named, b"Upgrade: " + carrier).upgrade == b""


def test_an_expectation_counts_only_in_http_1_1() -> None:
    assert accepted(b"Expect: 100-Continue").expects_continue
    assert not accepted(b"Expect: 100-continue", line=b"GET / HTTP/1.0").expects_continue
    assert not accepted(b"Expect: tea", line=b"GET / HTTP/1.0").expects_continue


def test_what_proxies_said_is_kept_aside_and_a_spelling_with_underscores_is_nobody_s_word() -> None:
    request = accepted(b"X-Request-ID: 7", b"X-Forwarded-For: 1.2.3.4", b"x_forwarded_for: 6.6.6.6", b"X_Request_ID: 8")
    assert request.request_id == b"7"
    assert [line for _, line in request.forwarded or ()] == [b"X-Forwarded-For: 1.2.3.4"]


# Answers, by hand


def answer(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK", to_head: bool = False) -> ResponseHead:
    response = parse_response(head(*lines, line=line), to_head)
    assert isinstance(response, ResponseHead), response
    return response


@pytest.mark.parametrize(
    ("status", "lines", "to_head", "body", "length"),
    [
        (b"200", [], False, UNTIL_CLOSE, -1),
        (b"200", [b"Content-Length: 5"], False, LENGTH, 5),
        (b"200", [b"Transfer-Encoding: chunked"], False, CHUNKED, -1),
        (b"200", [b"Content-Length: 5"], True, NO_BODY, 5),
        (b"200", [b"Transfer-Encoding: chunked"], True, NO_BODY, -1),
        (b"304", [b"Content-Length: 5"], False, NO_BODY, 5),
        (b"204", [b"Content-Length: 0"], False, NO_BODY, -1),
        (b"103", [], False, NO_BODY, -1),
    ],
)
def test_how_long_an_answer_is_comes_from_its_status_and_framing(
    status: bytes, lines: list[bytes], to_head: bool, body: int, length: int
) -> None:
    response = answer(*lines, line=b"HTTP/1.1 " + status, to_head=to_head)
    assert (response.body, response.content_length) == (body, length)


def test_an_answer_that_ends_with_its_connection_does_not_keep_it() -> None:
    assert not answer().keep_alive
    assert answer(b"Content-Length: 0").keep_alive
    assert not answer(b"Content-Length: 0", b"Connection: close").keep_alive
    assert not answer(b"Content-Length: 0", b"Connection: close", b"Connection: keep-alive, x").keep_alive
    assert not answer(b"Content-Length: 0", line=b"HTTP/1.0 200 OK").keep_alive
    assert answer(b"Content-Length: 0", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK").keep_alive


def test_the_status_line_is_made_that_of_http_1_1() -> None:
    assert answer(line=b"HTTP/1.0 200 Fine").line == b"HTTP/1.1 200 Fine"
    assert answer(line=b"HTTP/1.1 200").line == b"HTTP/1.1 200 "
    assert answer(line=b"HTTP/1.1 299 Mine").line == b"HTTP/1.1 299 Mine"


def test_whether_an_answer_has_its_date_is_seen() -> None:
    assert answer(b"date: x").dated
    assert not answer(b"X-Date: x").dated
    assert not answer(b"Connection: date", b"Date: x").dated


@pytest.mark.parametrize(
    "data",
    [
        head(line=b"HTTP/1.1 099 X"),
        head(line=b"HTTP/1.1 600 X"),
        head(line=b"HTTP/1.1 20 X"),
        head(line=b"HTTP/1.1  200 X"),
        head(line=b"HTTP/2.0 200 OK"),
        head(line=b"HTTP/1.0 100 Continue"),
        head(line=b"ICY 200 OK"),
        head(b"Content-Length: 5", b"Content-Length: 5", line=b"HTTP/1.1 200 OK"),
        head(b"Content-Length: +5", line=b"HTTP/1.1 200 OK"),
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked", line=b"HTTP/1.1 200 OK"),
        head(b"Transfer-Encoding: gzip, chunked", line=b"HTTP/1.1 200 OK"),
        head(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
        head(b"A : b", line=b"HTTP/1.1 200 OK"),
        head(b"A: b", b" c", line=b"HTTP/1.1 200 OK"),
        head(b"A: b\nC: d", line=b"HTTP/1.1 200 OK"),
        b"\r\n" + head(line=b"HTTP/1.1 200 OK"),
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(data: bytes) -> None:
    assert parse_response(one_head(data), False) is errors.UPSTREAM_MALFORMED
