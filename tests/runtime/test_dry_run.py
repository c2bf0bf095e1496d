from __future__ import annotations

from fastgw.errors import BAD_TARGET
from fastgw.exchange import AWAITED
from fastgw.http1.message import RequestHead
from fastgw.http1.parse import RequestParser
from fastgw.runtime.dry_run import DryRun, LiveUpstream
from tests.fakes import snapshot_of

CONFIG = """
[[listeners]]
name = "in"
address = "127.0.0.1:0"
[[listeners]]
name = "away"
address = "127.0.0.1:1"
redirect_to_https = 8443
[upstreams.a]
endpoints = ["b:1", "b:2"]
panic_threshold = "0%"
[[routes]]
path = "/a"
upstream = "a"
[[routes]]
path = "/b"
respond.body = "here"
"""


def head(path: str) -> RequestHead:
    parsed = RequestParser().parse(f"GET {path} HTTP/1.1\r\nHost: h.test".encode(), 9999, 99)
    assert isinstance(parsed, RequestHead)
    return parsed


def test_a_request_is_walked_up_to_where_a_connection_would_be_taken() -> None:
    exchange = DryRun(snapshot_of(CONFIG)).walk(head("/a"))
    assert exchange.answer == AWAITED
    assert exchange.pool is not None
    assert (exchange.pool.name, exchange.target) == ("a", b"/a")


def test_an_answer_of_the_gateway_is_there_with_its_headers_and_body() -> None:
    dry_run = DryRun(snapshot_of(CONFIG))
    assert (dry_run.walk(head("/b")).status, dry_run.client.body) == (200, b"here")
    assert b"Content-Type: text/plain" in dry_run.client.fields
    assert dry_run.walk(BAD_TARGET).reason == "bad-target"
    assert b"problem+json" in dry_run.client.fields


def test_a_listener_s_own_answer_is_given() -> None:
    dry_run = DryRun(snapshot_of(CONFIG))
    assert dry_run.walk(head("/b"), "away").status == 308
    assert b"Location: https://h.test:8443/b" in dry_run.client.fields
    assert dry_run.walk(head("/b"), "in").status == 200
    assert dry_run.walk(head("/b"), "unknown").status == 200


def test_the_state_of_an_upstream_counts_where_it_is_known() -> None:
    nobody = {"a": LiveUpstream(draining=frozenset(("b:1", "b:2")))}
    exchange = DryRun(snapshot_of(CONFIG), nobody).walk(head("/a"))
    assert (exchange.status, exchange.reason) == (503, "no-endpoint")
    # Without a breaker there is none to be open.
    assert DryRun(snapshot_of(CONFIG), {"a": LiveUpstream(breaker_open_s=3)}).walk(head("/a")).answer == AWAITED


def test_one_walk_leaves_nothing_to_the_next() -> None:
    dry_run = DryRun(snapshot_of(CONFIG))
    dry_run.walk(head("/b"))
    assert dry_run.walk(head("/a")).answer == AWAITED
    assert (dry_run.client.fields, dry_run.client.body) == (b"", b"")
