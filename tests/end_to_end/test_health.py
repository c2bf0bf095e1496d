"""Active checks: what the supervisor finds is what all workers go by, those too that are still to come."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually
from tests.support.troubled import Troubled


@pytest.fixture
def pair() -> Iterator[tuple[Troubled, Troubled]]:
    with Troubled() as first, Troubled() as second:
        yield first, second


def config(pair: tuple[Troubled, Troubled], more: str = "") -> str:
    return f"""
        [server]
        workers = 2

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = ["{pair[0].address}", "{pair[1].address}"]
        health = {{ path = "/healthz", interval = "100ms", fast_interval = "50ms", rise = 1, fall = 2 }}
        {more}

        [[routes]]
        upstream = "backend"
    """


def answering(gateway: GatewayProcess) -> set[bytes]:
    """Which endpoints so many new clients meet; they come to all workers."""
    found = set()
    for _ in range(24):
        with Client(gateway.address) as client:
            answer = client.ask(get())
            found.add(answer.body if answer.status == 200 else b"%d" % answer.status)
    return found


def test_an_endpoint_that_fails_its_checks_gets_nothing_whoever_serves(
    pair: tuple[Troubled, Troubled], tmp_path: Path
) -> None:
    first, second = (str(one.port).encode() for one in pair)
    with GatewayProcess(config(pair), tmp_path) as gateway:
        assert answering(gateway) == {first, second}
        pair[0].be("503")
        assert gateway.wait_until_it_says(f"{pair[0].address} fails its checks: status 503")
        assert eventually(lambda: answering(gateway) == {second})
        for pid in gateway.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(gateway.worker_pids()) == 2)
        assert answering(gateway) == {second}
        gateway.rewrite(config(pair, 'balance = "random"'))
        assert gateway.command("reload").returncode == 0
        assert answering(gateway) == {second}
        pair[0].be("well")
        assert gateway.wait_until_it_says(f"{pair[0].address} passes its checks again")
        assert eventually(lambda: answering(gateway) == {first, second})
        assert gateway.stderr.count("fails its checks") == 1


def test_when_nobody_is_left_all_are_asked_or_none(pair: tuple[Troubled, Troubled], tmp_path: Path) -> None:
    for one in pair:
        one.be("503")
    with GatewayProcess(config(pair), tmp_path) as gateway:
        for one in pair:
            assert gateway.wait_until_it_says(f"{one.address} fails its checks")
        assert answering(gateway) == {b"503"}
        assert pair[0].served() > 0
        gateway.rewrite(config(pair, 'panic_threshold = "0%"'))
        assert gateway.command("reload").returncode == 0
        served = [one.served() for one in pair]
        with Client(gateway.address) as client:
            answer = client.ask(get())
        assert (answer.status, answer.values(b"retry-after")) == (503, [b"1"])
        assert [one.served() for one in pair] == served
