from __future__ import annotations

import pytest

from fastgw.policy.kind import Kind, Kinds
from tests.fakes import FakeClient, FakeConnection, FakePool, Line

CONFIG = """
[upstreams.a]
endpoints = ["b:1"]
[[routes]]
name = "shop"
path = "/a/*"
upstream = "a"
[[routes]]
name = "here"
path = "/b"
respond.body = "x"
"""


def line() -> Line:
    return Line(CONFIG, FakePool("a", FakeConnection("b:1")), client=FakeClient())


def test_exchanges_are_of_a_kind_that_differ_in_nothing_that_it_names() -> None:
    heads = (b"GET /b", b"GET /b?x", b"POST /b", b"GET /a/1", b"GET /a/2", b"GET /", b"GET /nowhere")
    exchanges = [line().request(head + b" HTTP/1.1\r\nHost: a.test") for head in heads]
    kinds = [kind for _, kind, _, _ in Kinds().records(exchanges)]
    names = [(kind.route, kind.listener, kind.upstream, kind.endpoint, kind.method, kind.status) for kind in kinds]
    assert names[0] == ("here", "in", "", "", b"GET", 200)
    assert names[3] == ("shop", "in", "a", "b:1", b"GET", 0)
    assert [kinds.index(kind) for kind in kinds] == [0, 0, 2, 3, 3, 5, 5]
    assert (kinds[5].status, kinds[5].reason, kinds[0].reason) == (404, "no-route", "")


def test_a_kind_is_known_again() -> None:
    kinds = Kinds()
    (one,) = kinds.records([line().get("/b")])
    (other,) = kinds.records([line().get("/b")])
    assert one[1] is other[1]


def test_times_are_whole_microseconds() -> None:
    exchange = line().get("/a/1")
    exchange.started, exchange.upstream_started, exchange.upstream_s, exchange.ended = 10.0, 10.1, 0.25, 10.5
    assert [record[2:] for record in Kinds().records([exchange])] == [(500_000, 250_000)]


def test_kinds_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.policy.kind._KINDS_MAX", 3)
    kinds = Kinds()
    exchanges = []
    for status in range(200, 300):
        exchanges.append(line().get("/b"))
        exchanges[-1].status = status
    found = kinds.records(exchanges)
    assert [kind.status for _, kind, _, _ in found] == list(range(200, 300))
    assert len(kinds._known) <= 3


def test_when_there_are_too_many_the_longest_known_is_forgotten_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.policy.kind._KINDS_MAX", 3)
    kinds, exchange = Kinds(), line().get("/b")

    def kind_of(status: int) -> Kind:
        exchange.status = status
        return kinds.records([exchange])[0][1]

    before = [kind_of(status) for status in (201, 202, 203)]
    kind_of(204)
    assert [kind_of(status) for status in (202, 203)] == before[1:]
    assert kind_of(201) is not before[0]
