"""When second tries are due; and both tries on the connections that there are."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw import errors
from fastgw.net.hedges import Hedges
from fastgw.net.mirror import copies_gateway
from fastgw.net.splice import SPLICE_MIN
from fastgw.policy.retry import HedgeSettings
from tests.fakes import FakeConnection, FakePool, Line
from tests.net.rig import FakeLoop, Rig, Wire, messages

CONFIG = """
[upstreams.a]
endpoints = ["b:1", "b:2"]
retry = { hedge = true }
[[routes]]
upstream = "a"
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


class Queue:
    """Requests that are sent one after the other, and a note of those whose second try was due."""

    def __init__(self, by_default: bool = True) -> None:
        self.line = Line(CONFIG, FakePool("a"))
        self.clock = self.line.clock
        self.loop = FakeLoop(self.clock)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.hedges = Hedges(HedgeSettings(min_delay=0.0), by_default, self.line.gateway, loop)
        self.due: list[int] = []
        self.exchanges: list[Any] = []

    def learn(self, seconds: float) -> None:
        """The delay is as long from now on."""
        for _ in range(256):
            self.hedges._delay.sample(seconds)

    def send(self, head: bytes = b"GET / HTTP/1.1") -> Any:
        exchange, number = self._exchange(head), len(self.exchanges)
        self.exchanges.append(exchange)
        self.hedges.sent(exchange, self.clock())
        if exchange.hedge is not None:
            exchange.pool.retries = Asked(lambda: self.due.append(number))
        return exchange

    def _exchange(self, head: bytes) -> Any:
        self.line.gateway.pools["a"] = FakePool("a", FakeConnection(), endpoints=2)
        self.line.gateway.bind_routes()
        return self.line.request(head + b"\r\nHost: a.test")

    def answer(self, number: int) -> None:
        self.exchanges[number].hedge.dropped()

    def after(self, seconds: float) -> None:
        self.clock.now += seconds
        self.loop.run()


class Asked:
    """Refuses what it is asked for, and tells that it was."""

    max_body = 0

    def __init__(self, told: Any) -> None:
        self.told = told

    def may_hedge(self, exchange: object) -> bool:
        self.told()
        return False


def test_nothing_is_due_until_enough_is_known() -> None:
    queue = Queue()
    exchange = queue.send()
    assert exchange.hedge is not None
    assert queue.loop.timers == []
    queue.learn(0.1)
    queue.send()
    queue.after(0.1)
    assert queue.due == [1]


def test_requests_are_due_one_after_the_other_each_after_the_delay_and_one_timer_is_enough() -> None:
    queue = Queue()
    queue.learn(0.1)
    for _ in range(4):
        queue.send()
        queue.after(0.03)
        assert len(queue.loop.timers) == 1
    # 0.12 s after the first.
    assert queue.due == [0]
    queue.after(0.009)
    assert queue.due == [0]
    queue.after(0.011)
    assert queue.due == [0, 1]
    queue.after(1)
    assert (queue.due, queue.loop.timers) == ([0, 1, 2, 3], [])


def test_those_that_are_answered_are_passed_over() -> None:
    queue = Queue()
    queue.learn(0.1)
    for number in range(4):
        queue.send()
        if number != 2:
            queue.answer(number)
        queue.after(0.01)
    queue.after(0.065)
    assert queue.due == []
    assert [round(at - queue.clock(), 3) for at, *_ in queue.loop.timers] == [0.015]
    queue.after(0.015)
    assert (queue.due, len(queue.hedges._watched)) == ([2], 0)
    assert queue.loop.timers == []


def test_a_timer_that_comes_within_a_millisecond_of_its_time_comes_in_time() -> None:
    queue = Queue()
    queue.learn(0.1)
    queue.send()
    queue.clock.now += 0.0995
    queue.hedges._look()
    assert queue.due == [0]


def test_a_delay_that_changes_is_that_of_all_who_wait() -> None:
    queue = Queue()
    queue.learn(0.1)
    queue.send()
    queue.learn(0.3)
    queue.send()
    queue.after(0.1)
    assert queue.due == []
    queue.after(0.2)
    assert queue.due == [0, 1]
    queue.send()
    queue.learn(0.1)
    queue.send()
    queue.after(0.3)
    assert queue.due == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "why", ["no route asks", "it is a retry", "its method may have taken effect", "a mirror's copy"]
)
def test_a_request_is_not_watched_when(why: str) -> None:
    queue = Queue(by_default=why != "no route asks")
    queue.learn(0.1)
    exchange = queue._exchange(b"POST / HTTP/1.1" if "method" in why else b"GET / HTTP/1.1")
    if why == "it is a retry":
        exchange.retries = 1
    elif why == "a mirror's copy":
        exchange.gateway = copies_gateway(queue.line.gateway)
    queue.hedges.sent(exchange, queue.clock())
    assert (exchange.hedge, queue.loop.timers) == (None, [])


def test_a_bug_in_one_is_told_and_ends_that_request_alone() -> None:
    queue = Queue()
    queue.learn(0.1)
    first, second = queue.send(), queue.send()
    bugs: Any = queue.line.gateway.failed
    bugs.expected = True
    del first.hedge.exchange.pool.retries
    queue.after(0.1)
    assert (bugs.count, first.status, second.status, queue.due) == (1, 500, 0, [1])


# With real connections.


class Hedged:
    """A rig with two endpoints and a connection to each; a second try goes out after 100 ms."""

    def __init__(self, config: str = CONFIG) -> None:
        self.rig = rig = Rig(config)
        self.backends = [rig.backend(0), rig.backend(1)]
        hedges = cast(Hedges, rig.pool.hedges)
        for _ in range(256):
            hedges._delay.sample(0.1)
        self.client = rig.client()

    def sent_twice(self, request: bytes = GET) -> tuple[Wire, Wire]:
        self.client.receive(request)
        first, second = self.backends if self.backends[0].sent else reversed(self.backends)
        assert (first.take() != b"", second.take()) == (True, b"")
        self.rig.after(0.1)
        assert second.take().startswith(request[:3])
        assert sorted(self.rig.pool.active) == [1, 1]
        return first, second

    def is_at_rest(self) -> bool:
        return not any(self.rig.pool.active) and not self.rig.bugs.count

    def answers(self) -> list[bytes]:
        return [message.body for message in messages(self.client.take())]


@pytest.mark.parametrize("winner", [0, 1])
def test_one_connection_goes_back_to_the_pool_and_the_other_is_closed(winner: int) -> None:
    hedged = Hedged()
    tries = hedged.sent_twice()
    tries[winner].receive(OK)
    assert hedged.answers() == [b"ok"]
    assert (tries[winner].closed, tries[1 - winner].closed) == (False, True)
    assert hedged.is_at_rest()
    (exchange,) = hedged.rig.logged
    assert exchange.endpoint == cast(Any, tries[winner].protocol).endpoint_name


def test_the_client_s_connection_goes_on() -> None:
    hedged = Hedged()
    first, second = hedged.sent_twice()
    second.receive(OK)
    fresh = hedged.rig.backend(hedged.backends.index(first))
    for _ in range(2):
        hedged.client.receive(GET)
        (fresh if fresh.take() else second).receive(OK)
    assert hedged.answers() == [b"ok"] * 3
    assert hedged.is_at_rest()


@pytest.mark.parametrize("winner", [0, 1])
def test_a_late_answer_of_the_other_try_reaches_nobody(winner: int) -> None:
    hedged = Hedged()
    tries = hedged.sent_twice()
    tries[winner].receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
    tries[1 - winner].receive(OK)
    tries[winner].receive(b"ay")
    assert hedged.answers() == [b"okay"]
    assert hedged.is_at_rest()


def test_the_winner_s_chunks_may_come_with_their_trailers_all_at_once() -> None:
    hedged = Hedged()
    _, second = hedged.sent_twice()
    second.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    (message,) = messages(hedged.client.take())
    assert (message.body, message.trailers, message.complete) == (b"ok", [b"X-Sum: 1"], True)
    assert hedged.is_at_rest()


def test_the_winner_s_large_body_is_spliced_from_its_head_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hedged = Hedged()
    _, second = hedged.sent_twice()
    second.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nok" % (SPLICE_MIN + 2))
    # The wire has no descriptor, so it is read on; but it had been asked.
    exchange = cast(Any, second.protocol).exchange
    assert exchange.connection is second.protocol
    second.receive(bytes(SPLICE_MIN))
    assert len(hedged.answers()[0]) == SPLICE_MIN + 2
    assert hedged.is_at_rest()


def test_the_winner_s_head_may_come_in_pieces_while_the_other_s_does() -> None:
    hedged = Hedged()
    first, second = hedged.sent_twice()
    first.receive(OK[:10])
    second.receive(OK[:20])
    second.receive(OK[20:])
    assert hedged.answers() == [b"ok"]
    assert hedged.is_at_rest()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_when_both_break_the_client_is_told_once(order: tuple[int, int]) -> None:
    hedged = Hedged(CONFIG.replace("hedge = true", "hedge = true, on = []"))
    tries = hedged.sent_twice()
    tries[order[0]].lose()
    assert hedged.client.take() == b""
    tries[order[1]].lose()
    assert hedged.client.take().startswith(b"HTTP/1.1 502 ")
    assert hedged.is_at_rest()


def test_a_time_out_of_the_first_leaves_the_second_its_own_time() -> None:
    config = CONFIG.replace("[upstreams.a]", '[upstreams.a]\nresponse_timeout = "1s"')
    hedged = Hedged(config)
    first, second = hedged.sent_twice()
    hedged.rig.after(0.95)
    assert (first.closed, second.closed, hedged.client.take()) == (True, False, b"")
    second.receive(OK)
    assert hedged.answers() == [b"ok"]
    assert hedged.is_at_rest()
    tries = Hedged(config)
    tries.sent_twice()
    tries.rig.after(0.95)
    tries.rig.after(0.2)
    assert tries.client.take().startswith(b"HTTP/1.1 504 ")
    assert tries.is_at_rest()


def test_a_client_that_leaves_leaves_both() -> None:
    hedged = Hedged()
    tries = hedged.sent_twice()
    hedged.client.lose()
    assert [wire.closed for wire in tries] == [True, True]
    assert hedged.is_at_rest()
    assert [exchange.reason for exchange in hedged.rig.logged] == [errors.CLIENT_LEFT.reason]


def test_a_second_try_waits_in_no_queue() -> None:
    hedged = Hedged(CONFIG.replace("[upstreams.a]", "[upstreams.a]\nmax_connections = 1"))
    hedged.client.receive(GET)
    other = hedged.rig.client()
    other.receive(GET)
    assert hedged.rig.pool.active == [1, 1]
    hedged.rig.after(0.2)
    assert "queued=0" in repr(hedged.rig.pool)
    assert hedged.rig.pool.active == [1, 1]


def test_the_budget_bounds_how_many_are_sent_twice() -> None:
    hedged = Hedged(CONFIG.replace("hedge = true", 'hedge = true, budget = "0%", budget_floor = "0/s"'))
    hedged.client.receive(GET)
    hedged.rig.after(1)
    assert sorted(hedged.rig.pool.active) == [0, 1]


def test_an_upstream_that_nobody_wants_hedged_has_nothing_of_it() -> None:
    for retry in ("false", "true", "{ hedge = { all_routes = false } }"):
        assert Rig(CONFIG.replace("{ hedge = true }", retry)).pool.hedges is None
    asked = CONFIG.replace("{ hedge = true }", "true") + "retry.hedge = true\n"
    assert Rig(asked).pool.hedges is not None


def test_pauses_of_the_second_try_s_connection_are_the_client_s() -> None:
    hedged = Hedged()
    _, second = hedged.sent_twice(b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc")
    second.protocol.pause_writing()
    assert not hedged.client.reading
    second.protocol.resume_writing()
    assert hedged.client.reading
    second.receive(OK)
    assert hedged.answers() == [b"ok"]


# Whatever happens, in whatever order.

ANSWERS = {
    "answers": OK,
    "answers badly": b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\nno",
    "answers and closes": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "begins its answer": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    "begins a bad answer": b"HTTP/1.1 503 Oh\r\nContent-Length: 9\r\n\r\nno",
    "begins a head": b"HTTP/1.1 200",
    "says something wrong": b"nonsense\r\n\r\n",
    "gives early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}
AT_ONCE = 3
STEP = st.one_of(
    st.just("ask"),
    st.sampled_from([1, 3, 3, 3, 25]),
    # The oldest or the newest try that is under way.
    st.tuples(st.sampled_from([0, -1]), st.sampled_from([*ANSWERS, "breaks"])),
    st.just("leave"),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=25))
def test_every_request_has_one_answer_and_nothing_is_left_over(steps: list[Any]) -> None:
    config = CONFIG.replace('["b:1", "b:2"]', '["b:1", "b:2", "b:3"]\nresponse_timeout = "1s"\nbody_timeout = "1s"')
    rig = Rig(config.replace("hedge = true", 'hedge = true, on = ["reset", "503"], budget = "100%"'))
    hedges = cast(Hedges, rig.pool.hedges)
    for _ in range(256):
        hedges._delay.sample(0.1)
    backends: list[list[Wire]] = [[], [], []]
    clients: list[Wire] = []

    def tend() -> None:
        """There are always connections to be had, for nobody is there to connect to."""
        for endpoint, wires in enumerate(backends):
            for connection in tuple(rig.pool._idle[endpoint]):
                connection.close_idle()
            wires[:] = [wire for wire in wires if not wire.closed]
            wires += [rig.backend(endpoint) for _ in range(2 * AT_ONCE)]

    def pass_time(ticks: int) -> None:
        for _ in range(ticks):
            tend()
            rig.after(0.05)

    def busy() -> list[Wire]:
        return [wire for wires in backends for wire in wires if cast(Any, wire.protocol).exchange]

    def tries() -> list[Wire]:
        return sorted(busy(), key=lambda wire: cast(Any, wire.protocol).exchange.upstream_started)

    asked = 0
    left: list[Wire] = []
    for step in steps:
        tend()
        if step == "ask":
            if asked - len(rig.logged) == AT_ONCE:
                continue
            asked += 1
            clients.append(rig.client())
            clients[-1].receive(GET)
        elif step == "leave":
            for client in clients[-1:]:
                left.append(client)
                client.lose()
        elif isinstance(step, int):
            pass_time(step)
        else:
            which, what = step
            under_way = tries()
            if under_way and what == "breaks":
                under_way[which].lose()
            elif under_way:
                under_way[which].receive(ANSWERS[what])
        rig.loop.run()
        assert sum(rig.pool.active) == len(busy()) <= 2 * (asked - len(rig.logged))
    pass_time(60)
    assert rig.pool.active == [0, 0, 0]
    assert len(rig.logged) == asked
    assert all(one.hedge is None and one.connection is None for one in rig.logged)
    for client in clients:
        heads = [message.start for message in messages(client.sent) if message.start[9:10] != b"1"]
        assert len(heads) == 1 or (client in left and not heads)
    assert (hedges._watched, rig.loop.timers, rig.bugs.count) == (deque(), [], 0)
