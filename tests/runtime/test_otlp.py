"""Spans of an exchange, as a receiver reads them."""

from __future__ import annotations

from typing import Any

import pytest

from fastgw import __version__
from fastgw.net.trace_record import AttemptRecord, TraceRecord
from fastgw.runtime.otlp import encode, host_and_port, redacted, resource_of
from tests.support.collector import CLIENT, SERVER, Span, spans_of

FIRST = AttemptRecord(b"a" * 16, 110, 120, "10.0.0.1:8080", 0, "upstream-reset", False)
SECOND = AttemptRecord(b"b" * 16, 130, 190, "10.0.0.2:8080", 200, "", True)
RECORD = TraceRecord(
    trace_id=b"1" * 32,
    span_id=b"2" * 16,
    parent_id=b"3" * 16,
    state=b"a=1",
    link=None,
    started=100,
    ended=200,
    method=b"GET",
    scheme=b"https",
    host=b"shop.test",
    path=b"/users/7",
    query=b"?token=secret&x",
    target=b"/v2/users/7?token=secret&x",
    minor=1,
    user_agent=b"curl/8",
    status=200,
    reason="",
    route="users",
    route_path=b"/users/{id}",
    upstream="app",
    upstream_scheme="http",
    listener="in",
    client=b"192.0.2.7",
    peer=b"10.0.0.9",
    request_id=b"r1",
    bytes_in=0,
    bytes_out=5,
    attempts=(FIRST, SECOND),
)


def spans(**changed: Any) -> list[Span]:
    return spans_of(encode([RECORD._replace(**changed)], resource_of("edge", (("team", "web"),))))


def test_the_server_span_says_what_the_conventions_ask_for() -> None:
    server, *_ = spans()
    assert (server.name, server.kind, server.is_error) == ("GET /users/{id}", SERVER, False)
    assert (server.trace_id, server.span_id, server.parent_id, server.state) == ("1" * 32, "2" * 16, "3" * 16, "a=1")
    assert (server.started, server.ended) == (100, 200)
    assert server.resource == {"service.name": "edge", "service.version": __version__, "team": "web"}
    assert server.attributes == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/users/7",
        "url.query": "token=REDACTED&x",
        "http.route": "/users/{id}",
        "http.response.status_code": 200,
        "server.address": "shop.test",
        "server.port": 443,
        "client.address": "192.0.2.7",
        "network.peer.address": "10.0.0.9",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "fastgw.route": "users",
        "fastgw.upstream": "app",
        "fastgw.listener": "in",
        "fastgw.request_id": "r1",
        "fastgw.attempts": 2,
        "http.request.body.size": 0,
        "http.response.body.size": 5,
    }


def test_each_try_is_a_client_span_below_it() -> None:
    server, first, second = spans()
    assert [(one.kind, one.parent_id, one.trace_id) for one in (first, second)] == [
        (CLIENT, server.span_id, server.trace_id)
    ] * 2
    assert (first.started, first.ended, first.is_error) == (110, 120, True)
    assert first.attributes == {
        "http.request.method": "GET",
        "url.full": "http://10.0.0.1:8080/v2/users/7?token=REDACTED&x",
        "server.address": "10.0.0.1",
        "server.port": 8080,
        "network.protocol.version": "1.1",
        "error.type": "upstream-reset",
        "fastgw.upstream": "app",
        "fastgw.endpoint": "10.0.0.1:8080",
    }
    assert not second.is_error
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["http.response.status_code"] == 200
    assert second.attributes["fastgw.hedge"] is True


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [(503, "no-endpoint", "no-endpoint"), (500, "", "500"), (404, "no-route", None), (0, "client-left", "client-left")],
)
def test_what_counts_as_an_error_of_the_gateway(status: int, reason: str, error: str | None) -> None:
    server, *_ = spans(status=status, reason=reason)
    assert server.attributes.get("error.type") == error
    assert server.is_error == (error is not None)
    assert server.attributes.get("fastgw.reason", "") == reason


def test_of_a_try_every_refusal_is_an_error() -> None:
    _, client = spans(attempts=(SECOND._replace(status=404),))
    assert (client.is_error, client.attributes["error.type"]) == (True, "404")


def test_a_client_makes_up_no_names() -> None:
    server, client, _ = spans(method=b"BREW", route_path=b"")
    assert (server.name, client.name) == ("HTTP", "HTTP")
    assert server.attributes["http.request.method"] == "_OTHER"
    assert server.attributes["http.request.method_original"] == "BREW"


def test_a_trace_that_is_not_continued_is_linked_to() -> None:
    server, *_ = spans(parent_id=b"", link=(b"4" * 32, b"5" * 16))
    assert (server.parent_id, server.links) == ("", ("4" * 32,))


def test_bytes_that_are_no_text_do_no_harm() -> None:
    server, *_ = spans(user_agent=b"\xff\xfe", path=b"/\xe4")
    assert server.attributes["user_agent.original"] == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", ""), ("a", "a"), ("a=1&b=2", "a=REDACTED&b=REDACTED"), ("a=b=c&d", "a=REDACTED&d"), ("=x", "=REDACTED")],
)
def test_a_query_is_written_without_its_values(query: str, expected: str) -> None:
    assert redacted(query) == expected


@pytest.mark.parametrize(
    ("address", "scheme", "expected"),
    [
        ("a.test", "http", ("a.test", 80)),
        ("a.test:8080", "http", ("a.test", 8080)),
        ("[::1]:80", "https", ("::1", 80)),
        ("[::1]", "https", ("::1", 443)),
        ("unix:/run/app.sock", "http", ("/run/app.sock", 0)),
        ("", "http", ("", 0)),
        ("a.test:", "http", ("a.test:", 80)),
    ],
)
def test_hosts_and_ports_are_told_apart(address: str, scheme: str, expected: tuple[str, int]) -> None:
    assert host_and_port(address, scheme) == expected
