"""Defects of discovery."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

from tests.support.bodies import bodies, config
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, ROOT, GatewayProcess
from tests.support.played import PlayedBackend
from tests.support.troubled import Troubled

# They are more than a control channel takes at once.
MANY = 10_000


def test_a_refused_reload_broke_off_the_news_of_endpoints_and_no_worker_understood_the_next_message(
    played: PlayedBackend, tmp_path: Path
) -> None:
    listed = ", ".join(f'"10.0.{number >> 8}.{number & 255}:80"' for number in range(MANY))
    (tmp_path / "e.toml").write_text(f"endpoints = [{listed}]")
    one = f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        [[routes]]
        upstream = "a"
        [upstreams]
        a.endpoints = ["{played.address}"]
    """
    with GatewayProcess(one, tmp_path) as gateway, socket.create_server(("127.0.0.1", 0)) as taken:
        worker = gateway.worker_pid()
        gateway.rewrite(
            one
            + f"""
            b.discover = {{ file = "e.toml" }}
            [[listeners]]
            name = "taken"
            address = "127.0.0.1:{taken.getsockname()[1]}"
            """
        )
        # It reads nothing.
        os.kill(worker, signal.SIGSTOP)
        try:
            refused = gateway.command("reload")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert (refused.returncode, "address already in use" in refused.stdout) == (1, True)
        gateway.rewrite(one.replace('upstream = "a"', 'respond.body = "new"'))
        assert gateway.command("reload").returncode == 0, gateway.stderr
        with Client(gateway.address) as client:
            assert client.ask(get()).body == b"new"


def test_in_a_new_worker_those_that_had_been_found_were_new_beside_those_that_are_written(tmp_path: Path) -> None:
    with Troubled() as written, Troubled() as found:
        (tmp_path / "e.toml").write_text(f'endpoints = ["{written.address}", "{found.address}"]')
        text = f"""
            [server]
            workers = 1
            [[listeners]]
            address = "{LISTEN}"
            [upstreams.a]
            endpoints = ["{written.address}"]
            discover = {{ file = "e.toml" }}
            slow_start = "1h"
            [[routes]]
            upstream = "a"
        """
        with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
            assert {client.ask(get()).status for _ in range(20)} == {200}
            assert (written.served(), found.served()) == (10, 10)


def test_no_gateway_from_before_discovery_could_be_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "fastgw", source / "fastgw", ignore=shutil.ignore_patterns("__pycache__"))
    handover = source / "fastgw/runtime/handover.py"
    whole = handover.read_text()
    lines = [line for line in whole.splitlines(keepends=True) if not line.startswith('        "found": ')]
    assert len(lines) == whole.count("\n") - 1
    handover.write_text("".join(lines))
    with GatewayProcess(config("old"), tmp_path, source=source) as gateway:
        handover.write_text(whole)
        gateway.rewrite(config("new"))
        gateway.upgrade()
        assert bodies(gateway) == {b"new"}
