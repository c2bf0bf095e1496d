"""Endpoints that are taken out by hand, and given other weights: `fastgw drain`, and the admin API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.admin import with_admin
from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.load import Load
from tests.support.observe import eventually
from tests.support.played import PlayedBackend
from tests.support.troubled import Troubled

COUNT = 24


@pytest.fixture
def backends() -> Iterator[list[Troubled]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Troubled()) for _ in range(2)]


def config(addresses: list[str], more: str = "", workers: int = 2) -> str:
    listed = ", ".join(f'"{address}"' for address in addresses)
    return f"""
        [server]
        workers = {workers}

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = [{listed}]
        panic_threshold = "10%"

        [upstreams.b]
        endpoints = ["{addresses[-1]}"]

        [[routes]]
        upstream = "a"

        {more}
    """


def drain(gateway: GatewayProcess, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fastgw", "drain", str(gateway.config_path), *arguments],
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def shares(gateway: GatewayProcess, backends: list[Troubled]) -> list[int]:
    """How many of COUNT requests each gets, on a connection each."""
    before = [backend.served() for backend in backends]
    for _ in range(COUNT):
        with Client(gateway.address) as client:
            assert client.ask(get()).status == 200
    return [backend.served() - count for backend, count in zip(backends, before, strict=True)]


def test_an_endpoint_that_drains_gets_nothing_until_that_is_undone(backends: list[Troubled], tmp_path: Path) -> None:
    first, second = (backend.address for backend in backends)
    with GatewayProcess(config([first, second]), tmp_path) as gateway:
        assert drain(gateway, first) == (0, f"drain done: {first} of upstream a drains")
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        assert drain(gateway, first, "--undo")[0] == 0
        assert eventually(lambda: min(shares(gateway, backends)) > 0)


def test_what_it_is_busy_with_ends(tmp_path: Path) -> None:
    with PlayedBackend() as played, Troubled() as other:
        text = config([played.address, other.address], workers=1)
        with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
            client.send(get(b"/slow"))
            connection = played.accept()
            connection.read_request()
            assert drain(gateway, played.address)[0] == 0
            # The worker hears of it a moment later.
            time.sleep(1.0)
            assert shares(gateway, [other]) == [COUNT]
            connection.answer(b"late")
            assert client.read_answer().body == b"late"


def test_nobody_notices_under_load(backends: list[Troubled], tmp_path: Path) -> None:
    def is_right(answer: Received) -> bool:
        return answer.status == 200

    first, second = (backend.address for backend in backends)
    with (
        GatewayProcess(config([first, second]), tmp_path) as gateway,
        Load([lambda: Client(gateway.address)], 16, lambda _number: get(), is_right) as load,
    ):
        for address in (first, second) * 2:
            assert drain(gateway, address, "--upstream", "a")[0] == 0
            time.sleep(0.2)
            assert drain(gateway, address, "--upstream", "a", "--undo")[0] == 0
    assert load.wrong == []
    assert load.asked > 100


def test_with_all_of_them_draining_there_is_none_and_no_panic(backends: list[Troubled], tmp_path: Path) -> None:
    addresses = [backend.address for backend in backends]
    with GatewayProcess(config(addresses), tmp_path) as gateway:
        for address in addresses:
            assert drain(gateway, address, "--upstream", "a")[0] == 0

        def status() -> int:
            with Client(gateway.address) as client:
                return client.ask(get()).status

        assert eventually(lambda: {status() for _ in range(8)} == {503})


def test_draining_outlives_workers_reloads_and_upgrades_and_a_weight_does_not(
    backends: list[Troubled], tmp_path: Path
) -> None:
    first, second = (backend.address for backend in backends)
    text = config([first, second])
    with GatewayProcess(text, tmp_path) as gateway:
        assert drain(gateway, first)[0] == 0
        for pid in gateway.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(gateway.worker_pids()) == 2)
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        gateway.rewrite(text.replace("10%", "20%"))
        assert gateway.command("reload").returncode == 0
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        gateway.upgrade()
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        assert drain(gateway, first, "--undo", "--weight", "100")[0] == 0
        assert eventually(lambda: shares(gateway, backends)[0] >= COUNT - 2)
        assert gateway.command("reload").returncode == 0
        assert eventually(lambda: shares(gateway, backends)[1] > COUNT // 4)


def test_an_endpoint_that_is_not_there_or_of_several_is_said(backends: list[Troubled], tmp_path: Path) -> None:
    first, second = (backend.address for backend in backends)
    with GatewayProcess(config([first, second]), tmp_path) as gateway:
        assert drain(gateway, "h:9") == (1, "drain refused: there is no endpoint h:9")
        words = f"drain refused: there is no endpoint {first} of an upstream b; a has one"
        assert drain(gateway, first, "--upstream", "b") == (1, words)
        assert drain(gateway, second) == (1, f"drain refused: {second} is an endpoint of a and b: say of which")
        assert drain(gateway, second, "--upstream", "b")[0] == 0
        assert min(shares(gateway, backends)) > 0


def test_the_api_does_the_same_and_tells_of_it(backends: list[Troubled], tmp_path: Path) -> None:
    first, second = (backend.address for backend in backends)
    text, admin = with_admin(config([first, second]))

    def endpoint() -> dict[str, object]:
        upstream = next(one for one in admin.get("/api/upstreams") if one["name"] == "a")
        found: dict[str, object] = next(one for one in upstream["endpoints"] if one["name"] == first)
        return found

    with GatewayProcess(text, tmp_path) as gateway:
        asked = {"upstream": "a", "endpoint": first, "draining": True, "weight": 7}
        status, event = admin.post("/api/endpoints", asked)
        assert (status, event["outcome"]) == (200, "done")
        assert event["detail"] == f"{first} of upstream a drains, with weight 7"
        assert (endpoint()["draining"], endpoint()["weight"]) == (True, 7)
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        _, told = admin.post("/api/explain", {"method": "GET", "url": "http://a.test/"})
        (pick,) = [step for step in told["steps"] if step["name"] == "pick endpoint"]
        assert [(one["name"], one["code"]) for one in pick["considered"]][1:] == [(first, "draining")]
        assert admin.post("/api/endpoints", {"endpoint": first, "draining": False})[0] == 200
        assert (endpoint()["draining"], endpoint()["weight"]) == (False, 7)
        assert admin.post("/api/endpoints", {"endpoint": first, "weight": 0})[0] == 200
        assert endpoint()["weight"] == 1
        assert admin.post("/api/endpoints", {"endpoint": "h:9", "draining": True})[0] == 404
        for wrong in ({"endpoint": first}, {"endpoint": 1, "weight": 1}, {"endpoint": first, "weight": True}):
            assert admin.post("/api/endpoints", wrong)[0] == 422, wrong
        for wrong in ({"endpoint": first, "weight": -1}, {"endpoint": first, "draining": "yes"}):
            assert admin.post("/api/endpoints", wrong)[0] == 422, wrong
        for text, expected in ((b"{", 400), (b"[]", 422), (b"{}", 422)):
            assert admin.ask("/api/endpoints", "POST", text)[0] == expected
        events = json.loads(gateway.command("status").stdout)["events"]
        assert [event["kind"] for event in events] == ["endpoint"] * len(events)


def test_an_endpoint_can_be_taken_out_while_a_worker_tries_a_configuration(
    backends: list[Troubled], tmp_path: Path
) -> None:
    first, second = (backend.address for backend in backends)
    text = config([first, second]).replace("workers = 2", 'workers = 2\ncanary = "20s"')
    with GatewayProcess(text, tmp_path) as gateway:
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")
        status, said = drain(gateway, first, "--upstream", "a")
        assert (status, "drains" in said) == (0, True)
        assert not gateway.wait_until_it_says("reload done", 0.0)
        # In the worker that tries as in the other, and when all have the configuration.
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
        assert not gateway.wait_until_it_says("reload done", 0.0)
        assert gateway.wait_until_it_says("reload done", 30.0)
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])


def test_an_endpoint_that_drains_does_so_too_when_what_a_worker_tried_is_taken_back(
    backends: list[Troubled], tmp_path: Path
) -> None:
    first, second = (backend.address for backend in backends)
    text = config([first, second]).replace("workers = 2", 'workers = 2\ncanary = "20s"')
    with GatewayProcess(text, tmp_path) as gateway:
        gateway.rewrite(text.replace('upstream = "a"', 'upstream = "a"\npath = "/elsewhere"'))
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")
        assert drain(gateway, first, "--upstream", "a")[0] == 0
        until = time.monotonic() + 15
        while not gateway.wait_until_it_says("reload refused", 0.0) and time.monotonic() < until:
            for _ in range(COUNT):
                with Client(gateway.address) as client:
                    client.ask(get())
        assert gateway.wait_until_it_says("no route has matched")
        assert eventually(lambda: shares(gateway, backends) == [0, COUNT])
