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


def test_what_is_long_is_cut_after_it_is_hidden() -> None:
    record = record_of(Line(CONFIG).get("/" + "a" * 2040 + "?token=secret" + "b" * 2000), REDACTION, 0.0)
    assert (len(record.path), record.path[-1]) == (2049, "…")
    assert "sec" not in record.path
