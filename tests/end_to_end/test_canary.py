"""Reloads that one worker tries first."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.tls import Authority, TlsClient
from tests.support.troubled import Troubled

WORKERS = 2
# Enough for each worker to have some.
CLIENTS = 24


def config(endpoint: str, canary: str = "3s", body: str = "one", workers: int = WORKERS) -> str:
    return f"""
        [server]
        workers = {workers}
        canary = "{canary}"

        [access_log]
        path = "off"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = ["{endpoint}"]

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "{body}" }}

        [[routes]]
        name = "rest"
        upstream = "a"
    """


class Asking:
    """Clients in threads that ask for a path in turn with another, each on one connection; `answers` has each one's
    statuses and bodies."""

    def __init__(self, gateway: GatewayProcess, paths: tuple[bytes, ...]) -> None:
        self._gateway = gateway
        self._paths = paths
        self._stop = threading.Event()
        self.answers: list[list[tuple[int, bytes]]] = [[] for _ in range(CLIENTS)]
        self.troubles: list[Exception] = []
        self._threads = [threading.Thread(target=self._ask, args=(answers,)) for answers in self.answers]

    def _ask(self, answers: list[tuple[int, bytes]]) -> None:
        try:
            with Client(self._gateway.address) as client:
                while not self._stop.is_set():
                    for path in self._paths:
                        answer = client.ask(get(path))
                        answers.append((answer.status, answer.body))
                    time.sleep(0.005)
        except Exception as error:
            self.troubles.append(error)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()


@contextmanager
def asking(gateway: GatewayProcess, *paths: bytes) -> Iterator[Asking]:
    made = Asking(gateway, paths)
    made.start()
    try:
        yield made
    finally:
        made.stop()
    assert made.troubles == []
    assert all(made.answers)


def reload(gateway: GatewayProcess) -> tuple[str, str]:
    told = json.loads(gateway.command("reload").stdout)
    return told["outcome"], told["detail"]


def test_one_that_is_well_is_in_force_everywhere_after_a_while(tmp_path: Path) -> None:
    with Troubled() as backend, GatewayProcess(config(backend.address), tmp_path) as gateway:
        with asking(gateway, b"/fixed", b"/rest") as clients:
            time.sleep(1.0)
            gateway.rewrite(config(backend.address, body="two"))
            outcome, detail = reload(gateway)
            assert (outcome, "worker 0 has tried it for 3 s" in detail) == ("done", True)
            time.sleep(0.3)
        assert {status for answers in clients.answers for status, _ in answers} == {200}
        assert all(answers[-2] == (200, b"two") for answers in clients.answers)
        # While it was tried there were both.
        firsts = [next(i for i, answer in enumerate(answers) if answer[1] == b"two") for answers in clients.answers]
        assert max(firsts) > 2 * min(firsts)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("its endpoint is dead", r"on route rest [\d.]+ % of the requests have failed, 0 % elsewhere"),
        ("its route is gone", r"no route has matched [\d.]+ % of the requests, 0 % elsewhere"),
    ],
)
def test_one_that_breaks_a_route_is_taken_back_and_only_one_worker_s_clients_see_it(
    how: str, words: str, tmp_path: Path
) -> None:
    with Troubled() as backend, GatewayProcess(config(backend.address, "20s"), tmp_path) as gateway:
        good = config(backend.address, "20s")
        bad = {
            "its endpoint is dead": config(f"127.0.0.1:{free_port()}", "20s"),
            "its route is gone": good.replace('name = "rest"', 'name = "rest"\npath = "/elsewhere"'),
        }
        with asking(gateway, b"/fixed", b"/rest") as clients:
            time.sleep(1.0)
            gateway.rewrite(bad[how])
            began = time.monotonic()
            outcome, detail = reload(gateway)
            assert outcome == "refused"
            assert re.search(f"worker 0 has tried it, and {words}", detail)
            # As soon as it is clear.
            assert time.monotonic() - began < 10
            time.sleep(0.3)
        hurt = [answers for answers in clients.answers if any(status != 200 for status, _ in answers)]
        # All of one worker's, and nobody of the other's; and they are well again.
        assert 0 < len(hurt) < CLIENTS
        assert all(status == 200 for answers in clients.answers for status, _ in answers[-4:])
        gateway.rewrite(good)
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")


@contextmanager
def connecting(gateway: GatewayProcess, authority: Authority) -> Iterator[list[float]]:
    """Clients that connect again and again; it gets the times at which they were not served."""
    stop = threading.Event()
    failed: list[float] = []

    def connect_again_and_again() -> None:
        trusting = authority.client()
        while not stop.wait(0.02):
            try:
                with TlsClient(gateway.address, trusting) as client:
                    assert client.ask(get(b"/fixed")).status == 200
            except (OSError, AssertionError, IndexError):
                failed.append(time.monotonic())

    clients = [threading.Thread(target=connect_again_and_again) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield failed
    finally:
        stop.set()
        for client in clients:
            client.join()


def with_tls(text: str, more: str = "") -> str:
    tls = f'''address = "{LISTEN}"
        tls.certificates = [{{ cert = "good.pem", key = "good.key" }}]
        {more}'''
    return text.replace(f'address = "{LISTEN}"', tls)


def test_one_whose_certificate_no_client_believes_is_taken_back(tmp_path: Path) -> None:
    """No request comes where the handshake fails, so requests alone would say that all is well."""
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    ours, theirs = Authority(tmp_path), Authority(strangers)
    ours.issue("good", "a.test")
    theirs.issue("bad", "a.test")
    good = with_tls(config("127.0.0.1:1", "20s"))
    with GatewayProcess(good, tmp_path) as gateway, connecting(gateway, ours) as failed:
        time.sleep(1.0)
        assert failed == []
        gateway.rewrite(good.replace("good.", "strangers/bad."))
        began = time.monotonic()
        outcome, detail = reload(gateway)
        assert outcome == "refused"
        assert re.search(r"worker 0 has tried it, and [\d.]+ % of the TLS handshakes have failed, 0 % else", detail)
        over = time.monotonic()
        assert over - began < 15
        time.sleep(1.0)
    assert failed
    assert max(failed) < over + 0.5


def test_where_clients_are_meant_to_fail_their_handshakes_say_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("good", "a.test")
    text = config("127.0.0.1:1", "3s")
    with GatewayProcess(with_tls(text), tmp_path) as gateway, connecting(gateway, authority) as failed:
        time.sleep(1.0)
        # The clients have none.
        gateway.rewrite(with_tls(text, 'tls.client_ca = "ca.pem"'))
        assert reload(gateway)[0] == "done"
    assert failed


def test_a_worker_that_dies_of_it_is_replaced_by_one_with_the_configuration_in_force(tmp_path: Path) -> None:
    with GatewayProcess(config("127.0.0.1:1", "20s"), tmp_path) as gateway:
        gateway.rewrite(config("127.0.0.1:1", "20s", body="two"))
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")
        pids = {one["number"]: one["pid"] for one in json.loads(gateway.command("status").stdout)["workers"]}
        os.kill(pids[0], signal.SIGKILL)
        assert gateway.wait_until_it_says("worker 0 has tried it, and worker 0 has ended")
        for _ in range(CLIENTS):
            with Client(gateway.address) as client:
                assert client.ask(get(b"/fixed")).body == b"one"


def test_a_lone_worker_is_held_against_what_it_was_before(tmp_path: Path) -> None:
    with Troubled() as backend, GatewayProcess(config(backend.address, "20s", workers=1), tmp_path) as gateway:
        with asking(gateway, b"/rest") as clients:
            time.sleep(1.5)
            gateway.rewrite(config(f"127.0.0.1:{free_port()}", "20s", workers=1))
            outcome, detail = reload(gateway)
            assert outcome == "refused"
            assert re.search(r"on route rest [\d.]+ % of the requests have failed", detail)
            time.sleep(0.3)
        assert all(answers[-1][0] == 200 for answers in clients.answers)


def test_other_listeners_are_not_tried_and_said_so(tmp_path: Path) -> None:
    with GatewayProcess(config("127.0.0.1:1", "20s"), tmp_path) as gateway:
        more = f'[[listeners]]\naddress = "127.0.0.1:{free_port()}"\n'
        gateway.rewrite(config("127.0.0.1:1", "20s").replace("[upstreams.a]", more + "[upstreams.a]"))
        outcome, detail = reload(gateway)
        assert (outcome, "since it has other listeners" in detail) == ("done", True)


def test_a_stop_meanwhile_waits_for_nothing(tmp_path: Path) -> None:
    with GatewayProcess(config("127.0.0.1:1", "60s"), tmp_path) as gateway:
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_of_many_reloads_under_load_only_those_that_break_a_route_are_taken_back(tmp_path: Path) -> None:
    with Troubled() as backend, GatewayProcess(config(backend.address, "1s"), tmp_path) as gateway:
        dead = f"127.0.0.1:{free_port()}"
        with asking(gateway, b"/fixed", b"/rest") as clients:
            time.sleep(1.0)
            outcomes = []
            for number in range(20):
                is_bad = number in (6, 13)
                window = "10s" if is_bad else "1s"
                gateway.rewrite(config(dead if is_bad else backend.address, window, body=str(number)))
                outcomes.append(reload(gateway))
        assert [number for number, (outcome, _) in enumerate(outcomes) if outcome == "refused"] == [6, 13], outcomes
        hurt = [answers for answers in clients.answers if any(status != 200 for status, _ in answers)]
        assert 0 < len(hurt) < CLIENTS
