"""100,000 requests on 64 kept connections, and new connections all the time, while the gateway is reloaded 20 times,
upgraded 5 times, and its certificates are replaced 10 times: each is answered, and nobody is refused or reset."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.tls import Authority, TlsClient

KEPT = 64
REQUESTS = 100_000
RELOADS, UPGRADES, SWAPS = 20, 5, 10

BACKEND = f"""
    [server]
    workers = 1
    [access_log]
    path = "off"
    [[listeners]]
    address = "{LISTEN}"
    limits.requests_per_connection = 1000000
    [[routes]]
    respond = {{ body = "backend" }}
"""


def config(number: int, backend: str, tls_port: int) -> str:
    return f"""
        [server]
        workers = 2

        [access_log]
        path = "off"

        [[listeners]]
        address = "{LISTEN}"

        [[listeners]]
        address = "127.0.0.1:{tls_port}"
        [listeners.tls]
        certificates = [{{ cert = "a.pem", key = "a.key" }}]

        [upstreams.backend]
        endpoints = ["{backend}"]

        [[routes]]
        path = "/backend"
        upstream = "backend"

        [[routes]]
        path = "/number"
        respond = {{ body = "{number}" }}
    """


class Load:
    """Clients in threads; `wrong` is what went wrong, and the serial numbers are those of the certificates seen."""

    def __init__(self, connects: list[Callable[[], Client]]) -> None:
        self.wrong: list[object] = []
        self.serials: set[object] = set()
        self.news = 0
        self._asked = [0] * KEPT
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._keep, connects[number % len(connects)], number))
            for number in range(KEPT)
        ]
        self._threads += [threading.Thread(target=self._guarded, args=(self._renew, one, 0)) for one in connects]

    @property
    def asked(self) -> int:
        return sum(self._asked)

    def _guarded(
        self, work: Callable[[Callable[[], Client], int], None], connect: Callable[[], Client], number: int
    ) -> None:
        try:
            work(connect, number)
        except Exception as error:
            self.wrong.append(error)

    def _ask(self, client: Client, path: bytes) -> bool:
        """Whether the connection goes on."""
        answer = client.ask(get(path))
        if answer.status != 200 or not (answer.body == b"backend" or answer.body.isdigit()):
            self.wrong.append(answer)
        return answer.values(b"connection") != [b"close"]

    def _keep(self, connect: Callable[[], Client], number: int) -> None:
        while not self._stop.is_set():
            with connect() as client:
                goes_on = True
                while goes_on and not self._stop.is_set():
                    self._asked[number] += 1
                    goes_on = self._ask(client, b"/backend" if self._asked[number] % 2 else b"/number")

    def _renew(self, connect: Callable[[], Client], _number: int) -> None:
        while not self._stop.is_set():
            with connect() as client:
                self._ask(client, b"/number")
                self.news += 1
                if isinstance(client, TlsClient):
                    self.serials.add((client.tls.getpeercert() or {})["serialNumber"])

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def done(gateway: GatewayProcess, command: str) -> None:
    answer = gateway.command(command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert json.loads(answer.stdout)["outcome"] == "done"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_is_lost_by_reloads_upgrades_and_new_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    context: ssl.SSLContext = authority.client()
    (tmp_path / "backend").mkdir()
    tls_port = free_port()
    with (
        GatewayProcess(BACKEND, tmp_path / "backend") as backend,
        GatewayProcess(config(0, f"127.0.0.1:{backend.port}", tls_port), tmp_path) as gateway,
        Load([lambda: Client(gateway.address), lambda: TlsClient(("127.0.0.1", tls_port), context)]) as load,
    ):
        for number in range(1, RELOADS + 1):
            gateway.rewrite(config(number, f"127.0.0.1:{backend.port}", tls_port))
            if number % (RELOADS // SWAPS) == 0:
                authority.issue("a", "a.test")
            done(gateway, "reload")
            if number % (RELOADS // UPGRADES) == 0:
                gateway.upgrade()
            assert load.wrong == []
        while load.asked < REQUESTS and not load.wrong:
            threading.Event().wait(0.1)
    assert load.wrong == []
    assert load.asked >= REQUESTS
    assert load.news > 100
    # The first one, and each that came in its place.
    assert len(load.serials) >= SWAPS
