from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw import errors
from fastgw.exchange import ENDED, Exchange
from fastgw.hedging import Hedge, SecondTry
from fastgw.http1.message import RequestHead
from fastgw.net.clock import Sweep
from fastgw.net.pool import UpstreamPool
from fastgw.net.resolver import Resolver
from fastgw.net.upstream import UpstreamConnection
from fastgw.policy.retry import HedgeDelay, HedgeSettings
from fastgw.snapshot import Address, Endpoint
from tests.fakes import Clock, FakeClient, gateway_of, snapshot_of
from tests.net.rig import FakeLoop, Wire, no_report

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HANG = "hang"
REFUSED = ConnectionRefusedError()
Script = Exception | str | None


class ScriptedLoop:
    """The running loop, on which connections come about as they are told to: None is a good one."""

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.wires: list[Wire] = []
        self.tried: list[tuple[str, int]] = []

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(call, *arguments)

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)

    def run(self) -> None:
        """The loop runs by itself."""

    async def create_connection(self, factory: Callable[[], UpstreamConnection], host: str, port: int) -> None:
        self.tried.append((host, port))
        how = self.script.pop(0) if self.script else None
        await asyncio.sleep(0)
        if how == HANG:
            await asyncio.Event().wait()
        if isinstance(how, Exception):
            raise how
        self.connect(factory())

    def connect(self, connection: UpstreamConnection) -> Wire:
        wire = Wire(cast(FakeLoop, self), connection, ("203.0.113.1", 80))
        self.wires.append(wire)
        connection.connection_made(wire)
        return wire


class PoolRig:
    def __init__(self, *script: Script, endpoints: int = 1, more: str = "", names: str = "10.0.0.{}") -> None:
        addresses = ", ".join(f'"{names.format(number + 1)}:80"' for number in range(endpoints))
        config = f'[upstreams.a]\nendpoints = [{addresses}]\n{more}\n[[routes]]\nupstream = "a"\n'
        snapshot = snapshot_of(config)
        self.clock = Clock()
        self.loop = ScriptedLoop(*script)
        self.gateway = gateway_of(snapshot, self.clock, {}, lambda: 0.0)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.sweep = Sweep(loop, self.clock, self.gateway.failed)
        resolver = Resolver(asyncio.get_running_loop(), self.clock)
        upstream = snapshot.upstreams["a"]
        self.pool = UpstreamPool(upstream, self.gateway, resolver, self.sweep, loop, no_report, lambda: 0.0)
        self.gateway.pools["a"] = self.pool
        self.gateway.bind_routes()

    def request(self, head: bytes = b"GET / HTTP/1.1\r\nHost: a") -> Exchange:
        exchange = Exchange(self.gateway, FakeClient(), self.clock())
        parsed = self.gateway.parser.parse(head, 100, 10)
        assert isinstance(parsed, RequestHead)
        exchange.begin(parsed, b"", True)
        return exchange

    def idle(self, count: int) -> list[Wire]:
        """So many idle connections, the newest last."""
        wires = []
        for _ in range(count):
            wires.append(self.loop.connect(UpstreamConnection(self.pool, 0, "10.0.0.1:80")))
            self.pool.active[0] += 1
            self.pool.release(cast(UpstreamConnection, wires[-1].protocol))
        return wires

    def __repr__(self) -> str:
        return repr(self.pool).removeprefix("<UpstreamPool a ").removesuffix(">")


def give_up(rig: PoolRig) -> None:
    """Ends what hangs."""
    rig.pool.retire()
    for task in rig.pool._dialer._dialling:
        task.cancel()


async def turns() -> None:
    """All that is ready runs; what hangs goes on hanging."""
    for _ in range(10):
        await asyncio.sleep(0)


pytestmark = pytest.mark.asyncio


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


async def test_a_connection_is_opened_for_a_request_and_kept_for_the_next() -> None:
    rig = PoolRig()
    first = rig.request()
    assert (repr(rig), first.connection) == ("active=[1] idle=[0] queued=0", None)
    await turns()
    (wire,) = rig.loop.wires
    assert wire.take().startswith(b"GET / ")
    assert repr(rig) == "active=[1] idle=[0] queued=0"
    wire.receive(OK)
    assert (first.status, repr(rig)) == (200, "active=[0] idle=[1] queued=0")
    rig.request()
    assert wire.take().startswith(b"GET / ")
    assert (repr(rig), len(rig.loop.tried)) == ("active=[1] idle=[0] queued=0", 1)


async def test_the_newest_idle_connection_is_used_first() -> None:
    rig = PoolRig()
    _, _, newest = rig.idle(3)
    rig.request()
    assert newest.sent != b""
    assert repr(rig) == "active=[1] idle=[2] queued=0"


@pytest.mark.parametrize("state", ["open", "closed by the other side", "said something"])
async def test_one_that_has_been_idle_for_a_while_is_looked_at_before_it_is_used(stack: ExitStack, state: str) -> None:
    rig = PoolRig(HANG)
    (wire,) = rig.idle(1)
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    wire._extra["socket"] = ours  # type: ignore[attr-defined]
    if state == "closed by the other side":
        theirs.close()
    elif state == "said something":
        theirs.send(b"x")
    rig.gateway.coarse_now += 1.5
    rig.request()
    assert (wire.sent != b"", wire.closed) == (state == "open", state != "open")
    assert repr(rig) == "active=[1] idle=[0] queued=0"
    give_up(rig)
    await turns()


async def test_a_fresh_connection_is_not_one_that_was_used_and_takes_its_room_at_the_cap() -> None:
    rig = PoolRig(more="max_connections = 3")
    wires = rig.idle(3)
    exchange = rig.request()
    wires[2].half_close()
    await turns()
    assert len(rig.loop.wires) == 3
    assert exchange.status == 502
    wires[1].take()
    used = cast(UpstreamConnection, wires[1].protocol)
    used.requests = 5
    exchange = rig.request()
    wires[1].half_close()
    await turns()
    assert len(rig.loop.wires) == 4
    assert rig.loop.wires[3].sent.startswith(b"GET / ")


async def test_another_endpoint_is_tried_when_one_can_not_be_connected_to() -> None:
    rig = PoolRig(REFUSED, None, endpoints=2)
    exchange = rig.request()
    await turns()
    assert rig.loop.tried == [("10.0.0.1", 80), ("10.0.0.2", 80)]
    assert exchange.endpoint == "10.0.0.2:80"
    assert repr(rig) == "active=[0, 1] idle=[0, 0] queued=0"


async def test_each_endpoint_is_tried_once() -> None:
    rig = PoolRig(*[REFUSED] * 9, endpoints=3)
    exchange = rig.request()
    await turns()
    await turns()
    assert sorted(rig.loop.tried) == [("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80)]
    assert (exchange.status, exchange.reason) == (502, "connect-failed")
    assert repr(rig) == "active=[0, 0, 0] idle=[0, 0, 0] queued=0"


async def test_an_endpoint_that_does_not_take_a_connection_in_time_is_504() -> None:
    rig = PoolRig(HANG, more='connect_timeout = "1ms"')
    exchange = rig.request()
    await asyncio.gather(*rig.pool._dialer._dialling)
    assert (exchange.status, exchange.reason) == (504, "connect-timeout")


async def test_a_name_without_address_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    rig = PoolRig(names="nowhere{}.test")
    exchange = rig.request()
    await turns()
    assert (exchange.status, exchange.reason) == (502, "name-unresolved")


async def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("10.9.9.1", "10.9.9.2")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
    rig = PoolRig(REFUSED, None, names="two{}.test")
    rig.request()
    await turns()
    await turns()
    assert rig.loop.tried == [("10.9.9.1", 80), ("10.9.9.2", 80)]
    assert len(rig.loop.wires) == 1


async def test_past_the_cap_requests_wait_their_turn() -> None:
    rig = PoolRig(more="max_connections = 1")
    (wire,) = rig.idle(1)
    exchanges = [rig.request(b"GET /%d HTTP/1.1\r\nHost: a" % number) for number in range(3)]
    assert repr(rig) == "active=[1] idle=[0] queued=2"
    for number in range(3):
        assert wire.take().startswith(b"GET /%d " % number)
        wire.receive(OK)
        await turns()
    assert [exchange.status for exchange in exchanges] == [200, 200, 200]
    assert repr(rig) == "active=[0] idle=[1] queued=0"


async def test_past_the_cap_of_the_upstream_requests_wait_whatever_endpoint_has_room() -> None:
    rig = PoolRig(endpoints=3, more="max_requests = 2")
    exchanges = [rig.request() for _ in range(5)]
    await turns()
    assert repr(rig) == "active=[1, 1, 0] idle=[0, 0, 0] queued=3"
    while any(exchange.answer != ENDED for exchange in exchanges):
        for wire in rig.loop.wires:
            if wire.take():
                wire.receive(OK)
        await turns()
        assert sum(rig.pool.active) <= 2
    assert [exchange.status for exchange in exchanges] == [200] * 5


async def test_a_connection_that_closes_makes_room_too() -> None:
    rig = PoolRig(more="max_connections = 1")
    (wire,) = rig.idle(1)
    rig.request()
    rig.request()
    wire.receive(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    await turns()
    assert repr(rig) == "active=[1] idle=[0] queued=0"
    assert rig.loop.wires[-1].sent.startswith(b"GET / ")


async def test_a_connection_that_can_not_be_made_makes_room_too() -> None:
    rig = PoolRig(REFUSED, None, more="max_connections = 1")
    first, second = rig.request(), rig.request()
    await turns()
    await turns()
    assert (first.status, repr(rig)) == (502, "active=[1] idle=[0] queued=0")
    assert second.connection is not None


async def test_a_full_queue_refuses_at_once() -> None:
    rig = PoolRig(HANG, more="max_connections = 1\nmax_queued = 1")
    rig.request()
    waiting, refused = rig.request(), rig.request()
    assert (waiting.status, refused.status, refused.reason) == (0, 503, "queue-full")
    give_up(rig)
    await turns()


async def test_nobody_waits_longer_than_the_queue_s_time() -> None:
    rig = PoolRig(HANG, more='max_connections = 1\nqueue_timeout = "1s"')
    rig.request()
    early = rig.request()
    rig.clock.now += 0.6
    late = rig.request()
    rig.sweep.look(rig.clock.now + 0.5)
    assert (early.status, early.reason, late.status) == (503, "queue-timeout", 0)
    assert repr(rig) == "active=[1] idle=[0] queued=1"
    give_up(rig)
    await turns()


async def two_endpoints_with_one_excluded() -> tuple[PoolRig, Exchange, Exchange]:
    """Both endpoints are busy; in the queue is first one who could not connect to the first, then one who may."""
    rig = PoolRig(None, None, REFUSED, endpoints=2, more='max_connections = 1\nqueue_timeout = "1s"')
    first, _ = rig.request(), rig.request()
    await turns()
    rig.loop.wires[0].receive(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert first.answer == ENDED
    excluded = rig.request()
    await turns()
    assert (excluded.tried, repr(rig)) == (0b01, "active=[0, 1] idle=[0, 0] queued=1")
    rig.request()
    await turns()
    waiting = rig.request()
    assert repr(rig) == "active=[1, 1] idle=[0, 0] queued=2"
    return rig, excluded, waiting


async def test_one_who_can_not_use_what_came_free_does_not_keep_the_next_from_it() -> None:
    rig, excluded, waiting = await two_endpoints_with_one_excluded()
    rig.loop.wires[2].receive(OK)
    await turns()
    assert waiting.connection is not None
    assert repr(rig) == "active=[1, 1] idle=[0, 0] queued=1"
    rig.loop.wires[1].receive(OK)
    await turns()
    assert excluded.endpoint == "10.0.0.2:80"


async def test_one_who_can_not_use_what_came_free_waits_no_longer_for_it() -> None:
    rig, excluded, _ = await two_endpoints_with_one_excluded()
    rig.clock.now += 0.9
    rig.loop.wires[2].receive(OK)
    await turns()
    rig.sweep.look(rig.clock.now + 0.2)
    assert (excluded.status, excluded.reason) == (503, "queue-timeout")


async def test_a_client_that_leaves_gives_up_its_place() -> None:
    rig = PoolRig(more="max_connections = 1")
    (wire,) = rig.idle(1)
    rig.request()
    gone, next_one = rig.request(), rig.request(b"GET /next HTTP/1.1\r\nHost: a")
    gone.client_left(errors.CLIENT_LEFT)
    assert repr(rig) == "active=[1] idle=[0] queued=1"
    wire.take()
    wire.receive(OK)
    await turns()
    assert wire.take().startswith(b"GET /next ")
    assert next_one.answer != ENDED


async def test_a_connection_whose_client_has_left_is_kept() -> None:
    rig = PoolRig()
    exchange = rig.request()
    exchange.client_left(errors.CLIENT_LEFT)
    await turns()
    assert (repr(rig), rig.loop.wires[0].sent) == ("active=[0] idle=[1] queued=0", b"")


async def test_a_retired_pool_closes_what_is_idle_lets_what_is_busy_end_and_leaves_the_sweep() -> None:
    rig = PoolRig(HANG)
    busy, idle = rig.idle(2)
    rig.request()
    assert idle.sent != b""
    rig.request()
    assert busy.sent != b""
    idle.receive(OK)
    rig.pool.retire()
    await turns()
    assert (busy.closed, idle.closed) == (False, True)
    busy.receive(OK)
    rig.clock.now += 0.1
    rig.sweep.look(rig.clock.now)
    assert busy.closed
    rig.sweep.look(rig.clock.now)
    assert rig.pool._expire_queue not in rig.sweep.each_tick


def follow(rig: PoolRig, *names: str) -> None:
    """From now on the upstream has these endpoints."""
    host_ports = [name.split(":") for name in names]
    endpoints = tuple(
        Endpoint(name, Address(host, int(port))) for name, (host, port) in zip(names, host_ports, strict=True)
    )
    rig.pool.follow(replace(rig.pool.upstream, endpoints=endpoints))


async def test_other_endpoints_leave_the_connections_of_those_that_stay() -> None:
    rig = PoolRig(endpoints=2)
    busy, idle = rig.idle(2)
    rig.request()
    assert idle.sent != b""
    follow(rig, "10.0.0.3:80", "10.0.0.1:80")
    assert repr(rig) == "active=[1, 0] idle=[1, 0] queued=0"
    for _ in range(2):
        rig.request()
    await turns()
    assert rig.loop.tried == [("10.0.0.3", 80)]
    idle.receive(OK)
    assert (busy.closed, idle.closed, busy.sent != b"") == (False, False, True)


async def test_an_endpoint_that_is_gone_ends_what_is_busy_and_closes_what_is_idle() -> None:
    rig = PoolRig()
    idle, busy = rig.idle(2)
    exchange = rig.request()
    follow(rig, "10.0.0.2:80")
    assert (idle.closed, busy.closed) == (True, False)
    assert repr(rig) == "active=[1, 0] idle=[0, 0] queued=0"
    busy.receive(OK)
    assert exchange.status == 200
    rig.clock.now += 0.1
    rig.sweep.look(rig.clock.now)
    await turns()
    assert busy.closed
    follow(rig, "10.0.0.3:80")
    assert repr(rig) == "active=[0] idle=[0] queued=0"


async def test_one_that_is_being_connected_to_when_it_goes_is_still_used() -> None:
    rig = PoolRig()
    exchange = rig.request()
    follow(rig, "10.0.0.2:80")
    await turns()
    assert rig.loop.tried == [("10.0.0.1", 80)]
    rig.loop.wires[0].receive(OK)
    assert exchange.status == 200


async def test_a_request_whose_endpoint_is_gone_finds_those_that_came() -> None:
    rig = PoolRig(REFUSED)
    exchange = rig.request()
    follow(rig, "10.0.0.2:80")
    await turns()
    rig.loop.wires[0].receive(OK)
    assert (exchange.status, exchange.endpoint) == (200, "10.0.0.2:80")


async def test_who_waits_for_a_connection_gets_one_from_an_endpoint_that_came() -> None:
    rig = PoolRig(more="max_connections = 1")
    rig.idle(1)
    rig.request()
    waiting = rig.request()
    follow(rig, "10.0.0.1:80", "10.0.0.2:80")
    await turns()
    assert waiting.endpoint == "10.0.0.2:80"


async def test_where_nobody_is_no_room_is_looked_for_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = PoolRig(more="max_connections = 1")
    gone = rig.idle(1)[0]
    first = rig.request()
    follow(rig, "10.0.0.2:80")
    for _ in range(4):
        rig.request()
    await turns()
    looked_at: list[int] = []
    is_free = rig.pool._is_free

    def look_at(unavailable: int) -> bool:
        looked_at.append(unavailable)
        return is_free(unavailable)

    monkeypatch.setattr(rig.pool, "_is_free", look_at)
    gone.receive(OK)
    await turns()
    assert (first.status, looked_at) == (200, [])
    rig.loop.wires[-1].receive(OK)
    await turns()
    assert (len(looked_at), repr(rig)) == (1, "active=[0, 1] idle=[1, 0] queued=2")


@pytest.mark.parametrize("balance", ["round-robin", "least-requests", "power-of-two", "ewma", "random", "hash"])
async def test_without_endpoints_requests_are_refused_at_once_until_there_is_one(balance: str) -> None:
    more = f'balance = "{balance}"\nretry = true\noutliers = true\nslow_start = "1s"\n'
    rig = PoolRig(more=more + ('hash_on = "path"' if balance == "hash" else ""))
    follow(rig)
    refused = rig.request()
    assert (refused.status, refused.reason) == (503, "no-endpoint")
    rig.sweep.look(rig.clock.now)
    follow(rig, "10.0.0.2:80")
    served = rig.request()
    await turns()
    rig.loop.wires[0].receive(OK)
    assert served.status == 200


ENDS: list[Callable[[Exchange, Wire], None]] = [
    lambda exchange, wire: wire.receive(OK),
    lambda exchange, wire: wire.receive(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
    lambda exchange, wire: wire.receive(b"nonsense\r\n\r\n"),
    lambda exchange, wire: wire.half_close(),
    lambda exchange, wire: exchange.client_left(errors.CLIENT_LEFT),
    lambda exchange, wire: exchange.timed_out(),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(ENDS)), st.integers(0, 9)), max_size=15), st.sampled_from([1, 2, 99]))
async def test_what_is_in_flight_is_counted_right_whatever_happens(steps: list[tuple[int, int]], cap: int) -> None:
    rig = PoolRig(more=f"max_connections = {cap}")
    running: list[Exchange] = []
    for step, which in steps:
        served = [one for one in running if one.connection is not None]
        if step == len(ENDS) or not served:
            running.append(rig.request())
        else:
            exchange = served[which % len(served)]
            connection = cast(UpstreamConnection, exchange.connection)
            ENDS[step](exchange, cast(Wire, connection.transport))
        await turns()
        running = [one for one in running if one.answer != ENDED]
        assert rig.pool.active == [min(len(running), cap)]
        assert sum(one.connection is not None for one in running) == min(len(running), cap)
    for exchange in running:
        exchange.client_left(errors.CLIENT_LEFT)
    await turns()
    assert rig.pool.active == [0]


async def test_a_second_try_may_wait_for_a_connection_of_its_own() -> None:
    rig = PoolRig(None, None, endpoints=2, more="retry = { hedge = true }")
    exchange = rig.request()
    await turns()
    rig.clock.now += 1.0
    hedge = Hedge(exchange, HedgeDelay(HedgeSettings()), rig.clock())
    second = SecondTry(hedge, exchange, rig.pool, 0b01)
    second.send(False)
    await asyncio.sleep(0)
    rig.clock.now += 0.25
    await turns()
    assert [wire.sent.startswith(b"GET / ") for wire in rig.loop.wires] == [True, True]
    assert (second.connect_s, second.queued_s) == (0.25, 0.0)
    second.dropped()
    give_up(rig)
    await turns()
