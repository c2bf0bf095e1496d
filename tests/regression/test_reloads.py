"""Defects of reloads."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port

TURNS = 20


def test_a_listener_that_went_and_came_back_at_once_was_refused_as_taken(tmp_path: Path) -> None:
    port = free_port()
    one = f"""
        [server]
        workers = 2
        [[listeners]]
        address = "{LISTEN}"
        [[routes]]
        respond.body = "here"
    """
    both = (
        one
        + f"""
        [[listeners]]
        name = "second"
        address = "127.0.0.1:{port}"
    """
    )
    with GatewayProcess(one, tmp_path) as gateway:
        for turn in range(1, TURNS + 1):
            gateway.rewrite(both if turn % 2 else one)
            gateway.signal(signal.SIGHUP)
            assert gateway.wait_until_it_says(f"event {turn}: reload")
            if turn % 2:
                # What was said to be in force is in force at once, in whichever worker.
                with Client(("127.0.0.1", port)) as client:
                    assert client.ask(get(b"/")).body == b"here"
        assert gateway.stderr.count("reload done") == TURNS, gateway.stderr
