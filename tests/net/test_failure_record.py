from __future__ import annotations

from fastgw import errors
from fastgw.net.failure_record import record_of
from fastgw.policy.redaction import Redaction, RedactionSettings
from tests.fakes import FakeConnection, FakePool, Line

CONFIG = """
[upstreams.a]
endpoints = ["h:1"]
[[routes]]
name = "r"
path = "/r/*"
upstream = "a"
"""
REDACTION = Redaction(RedactionSettings())


def test_it_says_what_was_asked_and_what_became_of_it() -> None:
    connection = FakeConnection()
    line = Line(CONFIG, FakePool("a", connection))
    exchange = line.get("/r/x?token=secret&a=1", method="POST")
    line.clock.now += 0.25
    exchange.fail(errors.UPSTREAM_RESET)
    record = record_of(exchange, REDACTION, 1e9)
    assert (record.at, record.duration_ms) == (1e9 + 1000, 250.0)
    assert (record.listener, record.client, record.scheme) == ("in", "192.0.2.7", "http")
    assert (record.method, record.host, record.path) == ("POST", "a.test", "/r/x?token=REDACTED&a=1")
    assert (record.route, record.upstream, record.endpoint) == ("r", "a", connection.endpoint_name)
    assert (record.status, record.reason, record.attempts) == (502, "upstream-reset", exchange.tries)
    assert (record.request_id, record.trace_id) == (exchange.request_id.decode(), "")


def test_of_a_request_that_could_not_be_read_there_is_little() -> None:
    record = record_of(Line(CONFIG).request(b"GET / HTTP/1.1"), REDACTION, 0.0)
    assert (record.method, record.host, record.path, record.route, record.upstream) == ("", "", "", "", "")
    assert (record.status, record.reason) == (400, "bad-host")


def test_it_is_the_client_s_by_its_reason_whatever_the_status() -> None:
    def is_clients(failure: errors.Failure | None, status: int = 200) -> bool:
        exchange = Line(CONFIG).get("/r/x")
        exchange.status, exchange.reason = status, failure.reason if failure is not None else ""
        return record_of(exchange, REDACTION, 0.0).is_clients

    theirs = (errors.CONNECT_REFUSED, errors.NO_ROUTE, errors.METHOD_NOT_ALLOWED, errors.BODY_TOO_LARGE)
    assert all(is_clients(failure, failure.status) for failure in theirs)
    # Amid an answer that the backend has begun well.
    assert is_clients(errors.CLIENT_LEFT)
    ours = (errors.UPSTREAM_RESET, errors.QUEUE_FULL, errors.INTERNAL, errors.ROUTE_TIMEOUT, None)
    assert not any(is_clients(failure, status) for failure in ours for status in (404, 503))


def test_what_is_long_is_cut_after_it_is_hidden() -> None:
    record = record_of(Line(CONFIG).get("/" + "a" * 2040 + "?token=secret" + "b" * 2000), REDACTION, 0.0)
    assert (len(record.path), record.path[-1]) == (2049, "…")
    assert "sec" not in record.path
