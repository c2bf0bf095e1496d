"""Which exchanges are recorded, what their upstreams are told of traces, and what is noted of each try."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.hedging import Hedge
from fastgw.http1.message import RequestHead
from fastgw.net.trace_record import record_of
from fastgw.policy.trace_context import B3, W3C, TracingSettings
from fastgw.tracing import OUTPACED, Attempt, Tracer
from tests.fakes import FakeClient, FakeConnection, FakeLog, FakePool, Line
from tests.test_exchange_retries import BAD, GOOD, SWITCHING, Told
from tests.test_hedging import Delay
from tests.test_hedging import Told as HedgingTold

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
CONFIG = """
[tracing]
{tracing}
[upstreams.a]
endpoints = ["b:1", "c:1"]
[[routes]]
path = "/users/{{id}}"
upstream = "a"
[[routes]]
path = "/never/*"
upstream = "a"
tracing = false
[[routes]]
path = "/always/*"
upstream = "a"
tracing = {{ sample = "100%" }}
[[routes]]
path = "/local"
respond = {{}}
"""
ALL, NOTHING, B3_TOO = 'sample = "100%"', 'sample = "0%"', 'sample = "0%"\npropagation = ["w3c", "b3"]'
ASKED = "/users/7"


def parent(flags: bytes) -> bytes:
    return b"traceparent: 00-" + TRACE + b"-" + SPAN + b"-" + flags


class Scene(Line):
    """A client, and an upstream that gives these connections one after the other."""

    def __init__(self, tracing: str, *given: Any, trusted: bool = False) -> None:
        self.pool = FakePool("a", *given, endpoints=2)
        super().__init__(CONFIG.format(tracing=tracing), self.pool, client=FakeClient(trusted=trusted))
        self.traces = self.gateway.traces = FakeLog()
        settings = self.gateway.snapshot.tracing
        assert settings is not None
        self.gateway.set_tracer(Tracer(settings, self.gateway.snapshot, random.Random(1).getrandbits))

    def attempts(self) -> list[Attempt]:
        [exchange] = self.traces.recorded
        assert exchange.trace is not None
        exchange.trace.close(exchange)
        return exchange.trace.attempts


def told(fields: bytes) -> list[bytes]:
    """What the upstream is told of traces."""
    names = re.compile(rb"(?i)(?:traceparent|tracestate|b3|x-b3-\w+):")
    return [line for line in fields.split(b"\r\n") if names.match(line)]


def sent(scene: Scene, target: str, *lines: bytes) -> tuple[Exchange, list[bytes]]:
    """A request, and what its upstream is told."""
    connection = FakeConnection()
    scene.pool.given.append(connection)
    exchange = scene.get(target, *lines)
    return exchange, told(connection.fields)


# What goes on.


def test_a_request_without_a_trace_begins_one_that_nobody_records() -> None:
    scene = Scene(NOTHING)
    exchange, [line] = sent(scene, ASKED)
    found = re.fullmatch(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-02", line)
    assert found is not None
    assert exchange.trace_id == found[1]
    assert exchange.trace is None
    other, _ = sent(scene, ASKED)
    assert other.trace_id != exchange.trace_id


def test_without_tracing_nothing_is_said_and_nothing_touched() -> None:
    scene = Scene(NOTHING)
    scene.gateway.tracer = None
    exchange, lines = sent(scene, ASKED, parent(b"01"), b"tracestate: a=1")
    assert lines == [parent(b"01"), b"tracestate: a=1"]
    assert (exchange.trace_id, exchange.trace) == (b"", None)


@pytest.mark.parametrize("flags", [b"00", b"01"])
@pytest.mark.parametrize("tracing", [NOTHING, ALL])
def test_a_stranger_neither_chooses_the_trace_nor_whether_it_is_recorded(tracing: str, flags: bytes) -> None:
    scene = Scene(tracing)
    exchange, [line] = sent(scene, ASKED, parent(flags), b"tracestate: a=1")
    assert TRACE not in line
    assert exchange.trace_id != TRACE
    assert (exchange.trace is not None) == (tracing == ALL)
    if exchange.trace is not None:
        assert exchange.trace.parent is None
        assert exchange.trace.link is not None
        assert exchange.trace.link.trace_id == TRACE


@pytest.mark.parametrize(("parents", "trusted", "is_continued"), [
    ("trusted", True, True), ("trusted", False, False), ("all", False, True), ("none", True, False),
])  # fmt: skip
def test_whose_traces_are_continued(parents: str, trusted: bool, is_continued: bool) -> None:
    scene = Scene(f'{NOTHING}\nparents = "{parents}"', trusted=trusted)
    exchange, lines = sent(scene, ASKED, parent(b"01"), b"tracestate: a=1")
    assert (exchange.trace_id == TRACE) == is_continued
    assert (exchange.trace is not None) == is_continued
    assert (lines[1:] == [b"tracestate: a=1"]) == is_continued


def test_a_trusted_client_s_trace_that_is_not_recorded_goes_on_as_it_came() -> None:
    scene = Scene(ALL, trusted=True)
    exchange, lines = sent(scene, ASKED, parent(b"00"), b"tracestate: a=1,  b=2")
    assert lines == [parent(b"00"), b"tracestate: a=1,  b=2"]
    assert exchange.trace_id == TRACE
    assert exchange.trace is None


def test_a_recorded_one_is_told_as_the_try_s_own_span() -> None:
    scene = Scene(NOTHING, trusted=True)
    exchange, lines = sent(scene, ASKED, parent(b"01"), b"tracestate: a=1")
    assert exchange.trace is not None
    [attempt] = exchange.trace.attempts
    assert lines == [b"traceparent: 00-" + TRACE + b"-" + attempt.span_id + b"-01", b"tracestate: a=1"]
    assert len({SPAN, attempt.span_id, exchange.trace.span_id}) == 3


@pytest.mark.parametrize("line", [b"traceparent: x", parent(b"01").upper(), b"tracestate: a=1", b"TRACEPARENT:"])
def test_what_is_not_right_is_taken_out_and_another_trace_begins(line: bytes) -> None:
    exchange, lines = sent(Scene(NOTHING, trusted=True), ASKED, line)
    assert len(lines) == 1
    assert exchange.trace_id in lines[0]
    assert exchange.trace_id != TRACE


@pytest.mark.parametrize("said", [b"", b"\r\n" + parent(b"01")])
def test_lines_that_a_client_repeats_mean_the_same_each_time(said: bytes) -> None:
    scene = Scene(NOTHING, trusted=True)
    parser, earlier, found = scene.gateway.parser, None, []
    for target in (b"/users/1", b"/users/2", b"/users/3"):
        connection, scene.client = FakeConnection(), FakeClient(trusted=True)
        scene.pool.given.append(connection)
        request = parser.parse(b"GET " + target + b" HTTP/1.1\r\nHost: a.test" + said, 8192, 100, earlier)
        assert isinstance(request, RequestHead)
        earlier = earlier or request
        exchange = Exchange(scene.gateway, scene.client, scene.clock())
        exchange.begin(request, b"", True)
        assert (request.fields, request.trace_lines) == (b"", said)
        [line] = told(connection.fields)
        assert exchange.trace_id in line
        found.append(line)
    assert len(set(found)) == 3
    assert all((TRACE in line) == bool(said) for line in found)


def test_lines_that_a_client_repeats_are_read_anew_after_a_reload() -> None:
    scene = Scene(NOTHING, trusted=True)
    b3 = b"b3: " + TRACE + b"-" + SPAN + b"-0"
    head = b"GET /users/1 HTTP/1.1\r\nHost: a.test\r\nA: b\r\n" + b3 + b"\r\n" + parent(b"00")
    tracings = (None, TracingSettings(0.0), TracingSettings(0.0, (B3,)), None, TracingSettings(0.0, (W3C, B3)))
    earlier = None
    for settings in tracings:
        tracer = None
        if settings is not None:
            tracer = Tracer(settings, scene.gateway.snapshot, random.Random(1).getrandbits)
        scene.gateway.set_tracer(tracer)
        connection, scene.client = FakeConnection(), FakeClient(trusted=True)
        scene.pool.given.append(connection)
        request = scene.gateway.parser.parse(head, 8192, 100, earlier)
        assert isinstance(request, RequestHead)
        exchange = Exchange(scene.gateway, scene.client, scene.clock())
        exchange.begin(request, b"", True)
        assert exchange.trace_id == (TRACE if settings is not None else b"")
        # Each goes on once, whoever it means something to.
        assert sorted(told(connection.fields)) == [b3, parent(b"00")]
        assert b"\r\nA: b" in connection.fields
        earlier = request


@pytest.mark.parametrize("line", [parent(b"01"), b"tracestate: a=1"])
def test_what_concerns_this_hop_alone_goes_no_further(line: bytes) -> None:
    name = line.partition(b":")[0]
    for scene in (Scene(NOTHING, trusted=True), Scene(NOTHING)):
        exchange, lines = sent(scene, ASKED, parent(b"00"), b"Connection: tracestate, " + name, line)
        assert b"a=1" not in b"".join(lines)
        assert exchange.trace is None


def test_b3_is_understood_and_told_where_it_is_wanted() -> None:
    b3 = b"b3: " + TRACE + b"-" + SPAN
    exchange, lines = sent(Scene(B3_TOO, trusted=True), ASKED, b3 + b"-0", b"X-B3-Sampled: 1")
    # The format that is not named is any header.
    assert lines == [b"X-B3-Sampled: 1", parent(b"00"), b3 + b"-0"]
    assert exchange.trace is None
    exchange, lines = sent(Scene(B3_TOO, trusted=True), ASKED, b3 + b"-d")
    assert exchange.trace is not None
    assert lines[1].endswith(b"-d")
    _, lines = sent(Scene(B3_TOO), ASKED)
    assert [line.partition(b":")[0] for line in lines] == [b"traceparent", b"b3"]
    _, lines = sent(Scene(NOTHING), ASKED, b3)
    assert lines[0] == b3


def test_where_a_client_leaves_the_decision_to_others_the_id_decides() -> None:
    low, high = b"f" * 18 + b"0" * 14, b"0" * 18 + b"f" * 14
    for trace, is_recorded in ((low, True), (high, False)):
        scene = Scene('sample = "50%"\npropagation = ["b3"]', trusted=True)
        exchange, _ = sent(scene, ASKED, b"b3: " + trace + b"-" + SPAN)
        assert exchange.trace_id == trace
        assert (exchange.trace is not None) == is_recorded


def test_a_route_has_its_own_share_or_takes_no_part() -> None:
    scene = Scene(NOTHING)
    assert sent(scene, "/always/x")[0].trace is not None
    exchange, lines = sent(scene, "/never/x", parent(b"01"))
    assert lines == [parent(b"01")]
    assert (exchange.trace_id, exchange.trace) == (b"", None)
    exchange, lines = sent(Scene(ALL), "/never/x")
    assert (lines, exchange.trace) == ([], None)


def test_about_as_many_are_recorded_as_the_share_says_and_by_their_ids() -> None:
    scene = Scene('sample = "25%"')
    found = [sent(scene, ASKED)[0] for _ in range(2000)]
    recorded = [one for one in found if one.trace is not None]
    assert 400 < len(recorded) < 600
    limit = 1 << 54
    assert all((int(one.trace_id, 16) & (1 << 56) - 1 < limit) == (one.trace is not None) for one in found)


# What is noted.


def test_an_exchange_without_an_upstream_is_recorded_too() -> None:
    scene = Scene(ALL)
    for target in ("/local", "/nowhere"):
        scene.client = FakeClient()
        scene.get(target)
    assert [exchange.status for exchange in scene.traces.recorded] == [200, 404]
    assert [exchange.trace.route_path for exchange in scene.traces.recorded if exchange.trace] == [b"/local", b""]


def test_one_that_is_not_recorded_leaves_nothing() -> None:
    scene = Scene(NOTHING, FakeConnection())
    scene.get(ASKED)
    scene.get("/local")
    assert scene.traces.recorded == []


def test_each_try_has_its_span_its_endpoint_and_its_times() -> None:
    first, second, third = FakeConnection(), FakeConnection("c:1"), FakeConnection()
    scene = Scene(ALL, first, second, third)
    scene.pool.retries = Told(0.0, 5.0)
    scene.get(ASKED)
    scene.clock.now += 1
    first.breaks(errors.UPSTREAM_RESET, unanswered=True)
    scene.clock.now += 1
    second.answers(BAD, b"", complete=False)
    scene.clock.now += 5
    scene.pool.waiting[0].connected(third)  # type: ignore[arg-type]
    scene.clock.now += 1
    third.answers(GOOD, b"o", complete=False)
    scene.clock.now += 1
    [exchange] = [third.exchange]
    assert exchange is not None
    exchange.response_end(b"")
    attempts = scene.attempts()
    assert [(one.endpoint, one.status, one.error) for one in attempts] == [
        ("b:1", 0, errors.UPSTREAM_RESET.reason), ("c:1", 503, ""), ("b:1", 200, ""),
    ]  # fmt: skip
    # The second try's answer came after a second, and the wait before the third is nobody's.
    assert [(one.started - 1000, one.ended - 1000) for one in attempts] == [(0, 1), (1, 2), (7, 9)]
    assert len({one.span_id for one in attempts}) == 3
    for connection, attempt in zip((first, second, third), attempts, strict=True):
        [line] = told(connection.fields)
        assert attempt.span_id in line


def test_a_connection_that_could_not_be_made_is_a_try_too() -> None:
    connection = FakeConnection("c:1")
    scene = Scene(ALL, None, connection)
    exchange = scene.get(ASKED)
    scene.clock.now += 2
    exchange.not_connected(errors.CONNECT_FAILED, 0)
    connection.answers(GOOD, b"ok")
    attempts = scene.attempts()
    assert [(one.endpoint, one.status, one.error) for one in attempts] == [
        ("b:1", 0, errors.CONNECT_FAILED.reason), ("c:1", 200, ""),
    ]  # fmt: skip
    assert [(one.started - 1000, one.ended - 1000) for one in attempts] == [(0, 2), (2, 2)]
    assert attempts[1].span_id in told(connection.fields)[0]


def test_what_ends_before_its_answer_says_why() -> None:
    connection = FakeConnection()
    scene = Scene(ALL, connection)
    exchange = scene.get(ASKED)
    scene.clock.now += 3
    exchange.timed_out()
    [attempt] = scene.attempts()
    assert (attempt.status, attempt.error, attempt.ended) == (0, errors.ROUTE_TIMEOUT.reason, 1003)


def test_a_tunnel_is_a_try_to_its_end() -> None:
    connection = FakeConnection()
    scene = Scene(ALL, connection)
    exchange = scene.get(ASKED, b"Connection: upgrade", b"Upgrade: websocket")
    exchange.switched_protocols(_switching(), b"")
    scene.clock.now += 60
    exchange.tunnel_ended()
    [attempt] = scene.attempts()
    assert (attempt.status, attempt.error, attempt.ended - attempt.started) == (101, "", 60)


def _switching() -> Any:
    from fastgw.http1.parse_response import parse_response  # noqa: PLC0415

    return parse_response(SWITCHING, False)


# Second tries.


def hedging(*given: Any) -> tuple[Scene, Exchange, Hedge]:
    """The first try is under way; two seconds later, so is the second."""
    scene = Scene(ALL, *given)
    scene.pool.retries = HedgingTold()
    exchange = scene.get(ASKED)
    hedge = Hedge(exchange, Delay(), scene.clock())
    exchange.hedge = hedge
    scene.clock.now += 2
    hedge.is_due()
    return scene, exchange, hedge


def seen(attempts: list[Attempt]) -> list[tuple[str, int, str, bool, float, float]]:
    return [
        (one.endpoint, one.status, one.error, one.is_hedge, one.started - 1000, one.ended - 1000) for one in attempts
    ]


def test_a_second_try_that_wins_has_outpaced_the_first() -> None:
    first, second = FakeConnection(), FakeConnection("c:1")
    scene, _, _ = hedging(first, second)
    scene.clock.now += 1
    second.answers(GOOD, b"ok")
    attempts = scene.attempts()
    assert seen(attempts) == [("b:1", 0, OUTPACED, False, 0, 3), ("c:1", 200, "", True, 2, 3)]
    assert attempts[1].span_id in told(second.fields)[0]
    assert attempts[0].span_id in told(first.fields)[0]


def test_a_second_try_that_loses_was_outpaced() -> None:
    first, second = FakeConnection(), FakeConnection("c:1")
    scene, _, _ = hedging(first, second)
    scene.clock.now += 1
    first.answers(GOOD, b"ok")
    assert seen(scene.attempts()) == [("b:1", 200, "", False, 0, 3), ("c:1", 0, OUTPACED, True, 2, 3)]


def test_a_second_try_goes_on_alone_when_the_first_has_failed() -> None:
    first, second = FakeConnection(), FakeConnection("c:1")
    scene, _, _ = hedging(first, second)
    scene.clock.now += 1
    first.breaks(errors.UPSTREAM_RESET)
    scene.clock.now += 1
    second.answers(GOOD, b"ok")
    reason = errors.UPSTREAM_RESET.reason
    assert seen(scene.attempts()) == [("b:1", 0, reason, False, 0, 3), ("c:1", 200, "", True, 2, 4)]


@pytest.mark.parametrize("how", ["answers", "breaks", "is not connected"])
def test_a_second_try_that_fails_says_so(how: str) -> None:
    first, second = FakeConnection(), FakeConnection("c:1")
    scene, _, hedge = hedging(first, None if how == "is not connected" else second)
    assert hedge.second is not None
    expected = (503, "") if how == "answers" else (0, errors.CONNECT_FAILED.reason)
    if how == "answers":
        second.answers(BAD, b"", complete=False)
    elif how == "breaks":
        second.breaks(errors.CONNECT_FAILED)
    else:
        hedge.second.not_connected(errors.CONNECT_FAILED, 1)
    first.answers(GOOD, b"ok")
    attempts = seen(scene.attempts())
    assert attempts[0][:4] == ("b:1", 200, "", False)
    assert attempts[1] == ("c:1", *expected, True, 2, 2)


# Copies, and what leaves the worker.


def test_a_copy_is_below_the_exchange_and_not_below_a_try() -> None:
    scene = Scene(ALL, FakeConnection())
    exchange = scene.get(ASKED)
    copied = FakeConnection("m:1")
    copy = Exchange(scene.gateway, FakeClient(), scene.clock())
    copy.begin_copy(exchange, FakePool("mirror", copied), b"", b"")  # type: ignore[arg-type]
    assert exchange.trace is not None
    assert told(copied.fields) == [b"traceparent: 00-" + exchange.trace_id + b"-" + exchange.trace.span_id + b"-03"]
    copied.answers(GOOD, b"ok")
    assert scene.traces.recorded == []


def test_a_record_holds_what_spans_are_made_of() -> None:
    connection = FakeConnection()
    scene = Scene(ALL, connection, trusted=True)
    scene.request(
        b"GET /users/7?token=x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: " + b"u" * 2000 + b"\r\n" + parent(b"01")
    )
    scene.clock.now += 0.5
    connection.answers(GOOD, b"ok")
    [exchange] = scene.traces.recorded
    assert exchange.trace is not None
    record = record_of(exchange, exchange.trace, 1e9)
    assert (record.trace_id, record.parent_id, record.link) == (TRACE, SPAN, None)
    assert record.ended - record.started == 500_000_000
    assert (record.method, record.path, record.query, record.status) == (b"GET", b"/users/7", b"?token=x", 200)
    assert (record.route_path, record.upstream, record.upstream_scheme) == (b"/users/{id}", "a", "http")
    assert record.user_agent == b"u" * 1024
    [attempt] = record.attempts
    assert (attempt.endpoint, attempt.status, attempt.error) == ("b:1", 200, "")
    assert record.started <= attempt.started < attempt.ended == record.ended
