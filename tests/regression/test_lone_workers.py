"""A worker that was told to stop by itself kept its listening socket to itself until it had ended what was in flight:
clients that came to that socket meanwhile waited for as long."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually
from tests.support.played import PlayedBackend


def test_another_worker_takes_clients_while_one_that_was_told_to_stop_drains(tmp_path: Path) -> None:
    with PlayedBackend() as backend:
        config = f"""
            [server]
            workers = 1

            [[listeners]]
            address = "{LISTEN}"

            [upstreams.backend]
            endpoints = ["{backend.address}"]

            [[routes]]
            path = "/here"
            respond = {{ body = "here" }}

            [[routes]]
            upstream = "backend"
        """
        with GatewayProcess(config, tmp_path) as gateway, Client(gateway.address) as client:
            assert eventually(lambda: len(gateway.children("fastgw-standby")) == 1)
            client.send(get(b"/"))
            connection = backend.accept()
            connection.read_request()
            os.kill(gateway.worker_pid(), signal.SIGTERM)
            assert gateway.wait_until_it_says("worker 0 was told to stop; another takes over")
            with Client(gateway.address) as other:
                assert other.ask(get(b"/here")).body == b"here"
            # The one that was told to stop is still at it.
            assert eventually(lambda: len(gateway.worker_pids()) == 2)
            connection.answer(b"late")
            assert client.read_answer().body == b"late"
            assert eventually(lambda: len(gateway.worker_pids()) == 1)
