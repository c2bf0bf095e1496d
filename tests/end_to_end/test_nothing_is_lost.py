"""100,000 requests on 64 kept connections, and new connections all the time, while the gateway is reloaded 20 times,
upgraded 5 times, and its certificates are replaced 10 times: each is answered, and nobody is refused or reset."""

from __future__ import annotations

import json
import ssl
import threading
from pathlib import Path

import pytest

from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.load import Load
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
    serials: set[object] = set()

    def is_right(answer: Received) -> bool:
        return answer.status == 200 and (answer.body == b"backend" or answer.body.isdigit())

    def note_serial(client: Client) -> None:
        if isinstance(client, TlsClient):
            serials.add((client.tls.getpeercert() or {})["serialNumber"])

    connects = [lambda: Client(gateway.address), lambda: TlsClient(("127.0.0.1", tls_port), context)]
    requests = [get(b"/number"), get(b"/backend")]
    with (
        GatewayProcess(BACKEND, tmp_path / "backend") as backend,
        GatewayProcess(config(0, f"127.0.0.1:{backend.port}", tls_port), tmp_path) as gateway,
        Load(connects, KEPT, lambda number: requests[number % 2], is_right, note_serial) as load,
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
    assert len(serials) >= SWAPS
