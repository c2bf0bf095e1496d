"""Three endpoints under the load of 64 connections, and one of them in trouble: no client sees any of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.load import Load
from tests.support.observe import eventually
from tests.support.troubled import SLOW_S, Troubled

CONNECTIONS = 64
# Of trouble, and of the time before and after it.
TROUBLE_S = 2.0
CALM_S = 0.5


@pytest.fixture
def backends() -> Iterator[list[Troubled]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Troubled()) for _ in range(3)]


def config(backends: list[Troubled], balance: str = "power-of-two", watched: bool = True) -> str:
    """`watched`: endpoints that do badly are not used."""
    addresses = ", ".join(f'"{backend.address}"' for backend in backends)
    watching = """
        health = { path = "/healthz", interval = "500ms", fast_interval = "100ms", timeout = "300ms" }
        outliers = { consecutive_failures = 3, eject_for = "1s" }
    """
    return f"""
        [server]
        workers = 1

        [access_log]
        fields = ["status", "endpoint", "attempts", "reason", "method"]

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = [{addresses}]
        balance = "{balance}"
        connect_timeout = "500ms"
        response_timeout = "500ms"
        {watching if watched else ""}
        retry = {{ on = ["connect-failure", "reset", "empty-answer", "timeout", "503"], budget = "100%" }}

        [[routes]]
        upstream = "backend"
    """


def loaded(gateway: GatewayProcess) -> Load:
    def is_right(answer: Received) -> bool:
        return answer.status == 200

    return Load([lambda: Client(gateway.address)], CONNECTIONS, lambda _number: get(), is_right)


def restart(backend: Troubled) -> None:
    backend.kill()
    time.sleep(TROUBLE_S / 2)
    backend.start()


def freeze(backend: Troubled) -> None:
    backend.signal(signal.SIGSTOP)
    time.sleep(TROUBLE_S)
    backend.signal(signal.SIGCONT)


def behave(mode: str) -> object:
    def misbehave(backend: Troubled) -> None:
        backend.be(mode)
        time.sleep(TROUBLE_S)
        backend.be("well")

    return misbehave


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [Troubled.kill, restart, freeze, behave("503"), behave("reset"), behave("slow")],
    ids=["killed", "restarted", "frozen", "503", "reset", "slow"],
)
def test_an_endpoint_in_trouble_is_the_gateway_s_business(
    trouble: object, backends: list[Troubled], tmp_path: Path
) -> None:
    with GatewayProcess(config(backends), tmp_path) as gateway, loaded(gateway) as load:
        time.sleep(CALM_S)
        trouble(backends[1])  # type: ignore[operator]
        time.sleep(CALM_S)
    assert load.wrong == []
    assert load.asked > 10 * CONNECTIONS


@pytest.mark.slow
def test_endpoints_come_and_go_under_load(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends[:2]), tmp_path) as gateway, loaded(gateway) as load:
        for some in (backends, backends[1:], backends[2:], backends):
            time.sleep(CALM_S)
            gateway.rewrite(config(some))
            assert gateway.command("reload").returncode == 0
        time.sleep(CALM_S)
        assert all(backend.served() for backend in backends)
    assert load.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["power-of-two", "ewma"])
def test_a_slow_endpoint_makes_few_requests_slow(balance: str, backends: list[Troubled], tmp_path: Path) -> None:
    text = config(backends, balance=balance).replace("consecutive_failures = 3", "latency_factor = 5")
    with GatewayProcess(text, tmp_path) as gateway, loaded(gateway) as load:
        time.sleep(CALM_S)
        well = (time.monotonic(), time.monotonic() + TROUBLE_S)
        time.sleep(TROUBLE_S)
        backends[0].be("slow")
        assert gateway.wait_until_it_says("a median latency of", 20)
        # What was on its way there comes back.
        time.sleep(2 * SLOW_S)
        slow = (time.monotonic(), time.monotonic() + CALM_S)
        time.sleep(CALM_S)
    assert load.wrong == []
    # It is ejected by then, so this says that it gets nothing, and not how fast this machine is.
    assert load.percentile(0.99, *slow) < SLOW_S + load.percentile(0.99, *well)


@pytest.mark.slow
def test_retries_stay_within_their_budget_when_all_fail_and_traffic_recovers(
    backends: list[Troubled], tmp_path: Path
) -> None:
    text = config(backends).replace('"503"], budget = "100%"', '"503"], budget = "20%", budget_floor = "0/s"')
    with GatewayProcess(text, tmp_path) as gateway:
        with Load([lambda: Client(gateway.address)], CONNECTIONS, lambda _number: get(), lambda _answer: True) as load:
            time.sleep(CALM_S)
            for backend in backends:
                backend.be("503")
            served = [backend.served() for backend in backends]
            before = load.asked
            time.sleep(TROUBLE_S)
            sent = sum(backend.served() for backend in backends) - sum(served)
            asked = load.asked
            for backend in backends:
                backend.be("well")

            def is_well() -> bool:
                with Client(gateway.address) as client:
                    return client.ask(get()).status == 200

            # Ejections last a second here, and health checks are half a second apart.
            assert eventually(is_well, 5)
        retries = sent - (asked - before)
        # A fifth of all that the budget looks back on.
        assert 0 < retries < 0.2 * asked + CONNECTIONS


def test_a_request_that_may_have_taken_effect_is_not_sent_again(backends: list[Troubled], tmp_path: Path) -> None:
    more = """
        [[routes]]
        path = "/twice"
        upstream = "backend"
        retry = { any_method = true }

        [[routes]]
        path = "/once"
        upstream = "backend"
        retry = false
    """
    (backend, *_) = backends
    backend.be("503")

    def tries(request: bytes) -> int:
        before = backend.served()
        assert client.ask(request).status == 503
        return backend.served() - before

    def post(path: bytes) -> bytes:
        return get(path, b"Content-Length: 5", method=b"POST") + b"hello"

    text = config([backend], watched=False) + more
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        assert [tries(get()), tries(get(b"/once")), tries(post(b"/")), tries(post(b"/twice"))] == [3, 1, 1, 3]


def test_a_body_is_sent_again_whole(backends: list[Troubled], tmp_path: Path) -> None:
    backends[0].be("503")
    backends[1].be("reset")
    with (
        GatewayProcess(config(backends, balance="round-robin", watched=False), tmp_path) as gateway,
        Client(gateway.address) as client,
    ):
        for size in (5, 40_000):
            body = os.urandom(size)
            put = get(b"/", b"Content-Length: %d" % size, method=b"PUT")
            for _ in range(3):
                answer = client.ask(put + body)
                assert (answer.status, answer.body) == (200, body)


def test_the_log_tells_of_attempts(backends: list[Troubled], tmp_path: Path) -> None:
    backends[0].be("503")
    with (
        GatewayProcess(config(backends, balance="round-robin", watched=False), tmp_path) as gateway,
        Client(gateway.address) as client,
    ):
        assert client.ask(get()).status == 200
    line = (tmp_path / "stdout").read_text().splitlines()[0]
    assert f'"endpoint":"{backends[1].address}","attempts":2,"reason":null' in line
