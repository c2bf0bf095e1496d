"""Three endpoints, some of which are slow or frozen: whoever asks has an answer from another one, and soon."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.load import Load
from tests.support.observe import eventually
from tests.support.troubled import SLOW_S, Troubled

CONNECTIONS = 8
TROUBLE_S = 2.0
# What a request would wait for where there is no second try.
RESPONSE_TIMEOUT_S = 10.0
# Enough for the delay to be learned, and to be that of these.
LEARNED = 256


@pytest.fixture
def backends() -> Iterator[list[Troubled]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Troubled()) for _ in range(3)]


def config(backends: list[Troubled], retry: str = 'budget = "100%"', more: str = "") -> str:
    addresses = ", ".join(f'"{backend.address}"' for backend in backends)
    return f"""
        [server]
        workers = 1

        [access_log]
        fields = ["status", "endpoint", "attempts", "reason", "method"]

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = [{addresses}]
        response_timeout = "{RESPONSE_TIMEOUT_S:g}s"
        max_connections = {CONNECTIONS}
        max_queued = 0
        retry = {{ hedge = true, {retry} }}
        {more}

        [[routes]]
        upstream = "backend"

        [[routes]]
        path = "/once"
        upstream = "backend"
        retry.hedge = false
    """


def learn(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        for _ in range(LEARNED):
            assert client.ask(get()).status == 200


def is_right(answer: Received) -> bool:
    return answer.status == 200


def loaded(gateway: GatewayProcess, opened: list[int]) -> Load:
    """`opened` has an element more for each connection."""

    def connect() -> Client:
        opened.append(1)
        return Client(gateway.address)

    return Load([connect], CONNECTIONS, lambda _number: get(), is_right)


def frozen(backend: Troubled) -> Callable[[], None]:
    backend.signal(signal.SIGSTOP)
    return lambda: backend.signal(signal.SIGCONT)


def slow(backend: Troubled) -> Callable[[], None]:
    backend.be("slow")
    return lambda: backend.be("well")


def log(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "stdout").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [frozen, slow])
@pytest.mark.parametrize("balance", ["round-robin", "ewma"])
def test_an_endpoint_that_is_slow_makes_no_request_wait_for_it(
    trouble: Callable[[Troubled], Callable[[], None]], balance: str, backends: list[Troubled], tmp_path: Path
) -> None:
    opened: list[int] = []
    with GatewayProcess(config(backends, more=f'balance = "{balance}"'), tmp_path) as gateway:
        learn(gateway)
        with loaded(gateway, opened) as load:
            time.sleep(0.3)
            end = trouble(backends[1])
            began = time.monotonic()
            time.sleep(TROUBLE_S)
            end()
            time.sleep(0.3)
            until = time.monotonic()
        assert load.wrong == []
        # No client has lost its connection.
        assert len(opened) == CONNECTIONS
        # Nobody has waited for the trouble's end.
        assert load.percentile(1.0, began, until) < TROUBLE_S / 2
        # Nothing is in flight any more that takes a place: all of them can be had.
        for backend in backends:
            backend.be("slow")
        with Load([lambda: Client(gateway.address)], 3 * CONNECTIONS, lambda _number: get(b"/once"), is_right) as full:
            time.sleep(4 * SLOW_S)
        assert full.wrong == []
    twice = [line["endpoint"] for line in log(tmp_path) if line["attempts"] == 2]
    # EWMA keeps requests from one that is slow, so that few are left to be sent twice.
    assert twice or (balance == "ewma" and trouble is slow)
    assert twice.count(backends[1].address) <= len(twice) / 2


def test_the_answer_is_that_of_the_endpoint_that_the_log_names(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends), tmp_path) as gateway:
        learn(gateway)
        frozen(backends[1])
        with Client(gateway.address) as client:
            ports = [client.ask(get()).body.decode() for _ in range(12)]
            for size in (1, 5000, 40_000):
                body = os.urandom(size)
                put = get(b"/", b"Content-Length: %d" % size, method=b"PUT")
                for _ in range(3):
                    assert client.ask(put + body).body == body
        backends[1].signal(signal.SIGCONT)
    lines = log(tmp_path)[LEARNED:]
    assert [line["endpoint"].rpartition(":")[2] for line in lines[:12]] == ports
    assert str(backends[1].port) not in ports
    # Every third is sent to the frozen one first.
    twice = [line["attempts"] for line in lines]
    assert twice.count(2) >= 6
    assert set(twice) == {1, 2}
    assert {line["reason"] for line in lines} == {None}


def served(backends: list[Troubled]) -> int:
    return sum(backend.served() for backend in backends)


def test_only_what_may_be_sent_twice_is(backends: list[Troubled], tmp_path: Path) -> None:
    more = """
        [[routes]]
        path = "/harmless"
        upstream = "backend"
        retry.any_method = true
    """
    with GatewayProcess(config(backends) + more, tmp_path) as gateway, Client(gateway.address) as client:
        learn(gateway)
        for backend in backends:
            backend.be("slow")

        def sent(request: bytes) -> int:
            before = served(backends)
            assert [client.ask(request).status for _ in range(3)] == [200] * 3
            return served(backends) - before

        def post(path: bytes) -> bytes:
            return get(path, b"Content-Length: 5", method=b"POST") + b"hello"

        assert [sent(get()), sent(get(b"/once")), sent(post(b"/")), sent(post(b"/harmless"))] == [6, 3, 3, 6]


@pytest.mark.slow
def test_when_all_are_slow_no_more_is_sent_than_the_budget_has(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends, 'budget = "20%", budget_floor = "1/s"'), tmp_path) as gateway:
        learn(gateway)
        before = served(backends)
        for backend in backends:
            backend.be("slow")
        with loaded(gateway, []) as load:
            time.sleep(TROUBLE_S)
        assert load.wrong == []
        twice = served(backends) - before - load.asked
        # A fifth of all that the budget looks back on, and its floor of ten seconds.
        assert 0 < twice <= 0.2 * (load.asked + LEARNED) + 10


def test_what_is_in_flight_twice_ends_before_the_gateway_does(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends), tmp_path) as gateway, Client(gateway.address) as client:
        learn(gateway)
        for backend in backends:
            backend.be("slow")
        before = served(backends)
        client.send(get())
        assert eventually(lambda: served(backends) == before + 2)
        gateway.signal(signal.SIGTERM)
        answer = client.read_answer()
        assert (answer.status, answer.values(b"connection")) == (200, [b"close"])
