from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from fastgw.policy.access_log import LineEncoder
from fastgw.runtime import log_replay
from fastgw.runtime.log_replay import LogReplay, Replayed, Side, lines
from tests.fakes import FakeConnection, FakePool, Line, records, snapshot_of

BEGIN = """
[upstreams.a]
endpoints = ["b:1"]
[upstreams.b]
endpoints = ["c:1"]
"""
OLD = (
    BEGIN
    + """
[[routes]]
name = "item"
host = "shop.test"
path = "/items/{id}"
upstream = "a"
[[routes]]
name = "status"
path = "/status"
respond.body = "ok"
"""
)


def logged(method: str = "GET", path: str = "/items/7", host: str = "shop.test", **more: object) -> str:
    return json.dumps({"method": method, "host": host, "path": path, **more})


def replayed(new: str, *log: str, old: str = OLD, renamed: dict[str, str] | None = None) -> Replayed:
    content = "".join(f"{line}\n" for line in log).encode()
    return LogReplay(snapshot_of(old), snapshot_of(new), renamed or {}).read(io.BytesIO(content))


def test_where_nothing_changes_nothing_is_treated_differently() -> None:
    found = replayed(OLD, logged(), logged(path="/status"), logged(path="/none"))
    assert (found.lines, found.walked, found.differing, found.groups) == (3, 3, 0, [])


def test_requests_that_are_treated_differently_are_grouped_with_their_number_and_an_example() -> None:
    new = OLD.replace('name = "item"', 'name = "thing"').replace('upstream = "a"', 'upstream = "b"')
    found = replayed(new, logged(path="/status"), *[logged(path=f"/items/{number}") for number in range(3)])
    (group,) = found.groups
    assert (group.count, group.number, group.example) == (3, 2, logged(path="/items/0"))
    assert group.old == Side("item", "a", None, None)
    assert group.new == Side("thing", "b", None, None)
    assert (found.walked, found.differing) == (4, 3)


def test_the_largest_group_comes_first() -> None:
    new = OLD.replace("/status", "/state").replace('upstream = "a"', 'upstream = "b"')
    found = replayed(new, logged(path="/status"), logged(), logged())
    assert [(group.count, group.new.status, group.new.reason) for group in found.groups] == [
        (2, None, None),
        (1, 404, "no-route"),
    ]
    assert found.groups[1].old == Side("status", None, 200, None)


def test_a_method_that_is_taken_no_more_is_told_with_its_reason() -> None:
    new = OLD.replace('path = "/items/{id}"', 'path = "/items/{id}"\nmethods = ["PUT"]')
    (group,) = replayed(new, logged()).groups
    assert (group.new.route, group.new.status, group.new.reason) == (None, 405, "method-not-allowed")


@pytest.mark.parametrize(
    ("keys", "also"),
    [
        ('rewrite.strip_prefix = "/items"', ("path",)),
        ('rewrite.host = "inner.test"', ("host",)),
        ('request.headers.set = { X-A = "1" }', ("headers",)),
        ('timeout = "5s"', ("timeout",)),
    ],
)
def test_what_else_differs_for_the_same_route_is_told(keys: str, also: tuple[str, ...]) -> None:
    new = OLD.replace('upstream = "a"', f'upstream = "a"\n{keys}')
    (group,) = replayed(new, logged()).groups
    assert (group.old, group.also) == (group.new, also)
    assert (group.old_path, group.new_path) == ("/items/7", "/7" if also == ("path",) else "/items/7")


def test_another_body_and_another_redirect_are_told() -> None:
    (group,) = replayed(OLD.replace('"ok"', '"OK"'), logged(path="/status")).groups
    assert group.also == ("body",)
    moved = OLD.replace('respond.body = "ok"', 'redirect.to = "/a"')
    (group,) = replayed(moved.replace('"/a"', '"/b"'), logged(path="/status"), old=moved).groups
    assert (group.new.status, group.also) == (308, ("headers",))


def test_a_split_is_told_with_its_shares() -> None:
    split = '[{ upstream = "a", weight = 3 }, { upstream = "b", weight = 1 }]'
    new = OLD.replace('upstream = "a"', f"upstream = {split}")
    (group,) = replayed(new, logged()).groups
    assert (group.old.upstream, group.new.upstream) == ("a", "a 75 %, b 25 %")
    even = OLD.replace('upstream = "a"', f"upstream = {split.replace('3', '1')}")
    (group,) = replayed(even, logged(), old=new).groups
    assert (group.old.upstream, group.new.upstream) == ("a 75 %, b 25 %", "a 50 %, b 50 %")


def test_a_route_that_is_only_called_otherwise_is_the_same() -> None:
    new = BEGIN + '[[routes]]\npath = "/new"\nupstream = "b"\n' + OLD.removeprefix(BEGIN).replace('name = "item"\n', "")
    old = OLD.replace('name = "item"\n', "")
    assert replayed(new, logged(), old=old, renamed={"route-2": "route-1"}).differing == 0
    assert replayed(new, logged(), old=old).differing == 1


def test_the_query_the_user_agent_and_the_listener_count_where_the_line_has_them() -> None:
    listeners = (
        '[[listeners]]\nname = "in"\naddress = "127.0.0.1:0"\n[[listeners]]\nname = "w"\naddress = "127.0.0.1:1"\n'
    )
    routes = '[[routes]]\nname = "q"\npath = "/q"\nmatch.query = { v = "1" }\nupstream = "b"\n'
    routes += '[[routes]]\nname = "u"\npath = "/u"\nmatch.headers = { User-Agent = "~curl.*" }\nupstream = "b"\n'
    old, new = listeners + OLD, listeners + "redirect_to_https = true\n" + OLD + routes
    found = replayed(new, logged(path="/q?v=1"), logged(path="/q"), old=old)
    assert [group.new.route for group in found.groups] == ["q"]
    found = replayed(new, logged(path="/u", user_agent="curl/8"), logged(path="/u", user_agent=None), old=old)
    assert [(group.new.route, group.count) for group in found.groups] == [("u", 1)]
    found = replayed(new, logged(listener="w"), logged(listener="in"), old=old)
    assert [(group.new.status, group.count) for group in found.groups] == [(308, 1)]


def test_a_hidden_parameter_is_no_request_that_can_be_walked_as_it_was_and_is_counted() -> None:
    routes = '[[routes]]\nname = "q"\npath = "/q"\nmatch.query = { token = "1" }\nupstream = "b"\n'
    pools = FakePool("a", FakeConnection()), FakePool("b", FakeConnection())
    exchange = Line(OLD + routes, *pools).get("/q?token=1")
    assert exchange.route is not None
    assert exchange.route.name == "q"
    line = LineEncoder("json", ("method", "host", "path", "route")).encode(records(exchange), 0.0).decode()
    found = replayed(OLD + routes, line.rstrip(), logged(path="/q?a=2"), old=OLD + routes)
    assert (found.walked, found.differing, found.redacted, found.logged_otherwise) == (2, 0, 1, 1)


def test_a_sample_is_told_with_how_many_requests_it_stands_for() -> None:
    found = replayed(OLD, *[logged(sampled=0.01)] * 3, logged(sampled=1), logged(), logged(sampled="x"))
    assert (found.walked, found.sampled, found.estimated) == (6, 3, pytest.approx(303))


def test_lines_that_are_no_use_are_counted() -> None:
    found = replayed(
        OLD,
        "not json",
        "[]",
        '{"method": "GET", "path": "/"}',
        '{"method": "GET", "host": 1}',
        '127.0.0.1 - - [24/Nov/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 3 "-" "-"',
        logged(method=""),
        logged(path="/a b"),
        logged(path="/\u20ac"),
        logged(method="GET / HTTP/1.1\r\nX: "),
        logged(),
    )
    assert (found.lines, found.walked, found.unreadable, found.without_request) == (10, 1, 6, 1)
    assert dict(found.lacking) == {"host": 2, "path": 1}


def test_requests_that_had_another_route_when_they_were_logged_are_counted() -> None:
    found = replayed(OLD, logged(route="item"), logged(route="other"), logged(path="/no", route=None))
    assert found.logged_otherwise == 1


def test_routes_that_look_at_what_no_log_has_are_named() -> None:
    more = '[[routes]]\nname = "beta"\nmatch.headers = { X-Beta = "1" }\nupstream = "b"\n'
    more += '[[routes]]\nname = "u"\nmatch.headers = { Referer = "x" }\nmatch.query = { a = "1" }\nupstream = "b"\n'
    more += '[[routes]]\nname = "c"\nmatch.cookies = { s = "present" }\nupstream = "b"\n'
    assert replayed(OLD + more).blind_routes == ["beta", "c"]


def test_what_the_access_log_writes_is_read() -> None:
    heads = (
        b"GET /items/%C3%A9?x=%22&y=\\ HTTP/1.1\r\nHost: SHOP.test:80\r\nUser-Agent: \xe9",
        b"OPTIONS * HTTP/1.1\r\nHost: h",
        b"GET / HTTP/1.0",
        b"BREW / HTTP/1.1\r\nHost: h",
    )
    pools = FakePool("a", FakeConnection()), FakePool("b", FakeConnection())
    exchanges = [Line(OLD, *pools).request(head) for head in heads]
    encoder = LineEncoder("json", ("time", "method", "host", "path", "route", "status", "user_agent"))
    written = encoder.encode(records(*exchanges), 0.0)
    found = LogReplay(snapshot_of(OLD), snapshot_of(OLD), {}).read(io.BytesIO(written))
    assert (found.lines, found.walked, found.unreadable, found.without_request) == (4, 3, 0, 1)
    assert (found.logged_otherwise, found.differing) == (0, 0)


# Large logs.


def test_a_line_without_end_is_one_and_is_not_kept() -> None:
    endless = io.BytesIO(b"x" * 1_000_000 + b"\n" + logged().encode())
    assert [len(line) for line in lines(endless)] == [256 * 1024, len(logged())]


def test_there_are_only_so_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_replay, "_GROUPS_MAX", 1)
    new = OLD.replace("/status", "/state").replace('upstream = "a"', 'upstream = "b"')
    found = replayed(new, logged(), logged(path="/status"), logged())
    assert (found.differing, found.left_out, [group.count for group in found.groups]) == (3, 1, [2])


class Endless(io.RawIOBase):
    """A log of so many lines, each for another path."""

    def __init__(self, count: int) -> None:
        self._lines: Iterator[bytes] = (f"{logged(path=f'/items/{number}')}\n".encode() for number in range(count))

    def readline(self, _size: Any = -1) -> bytes:
        return next(self._lines, b"")


def test_a_large_log_takes_no_more_memory_than_a_small_one() -> None:
    new = OLD.replace('upstream = "a"', 'upstream = "b"')
    peaks = []
    for count in (100, 5_000):
        replay = LogReplay(snapshot_of(OLD), snapshot_of(new), {})
        tracemalloc.start()
        assert replay.read(Endless(count)).differing == count  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
