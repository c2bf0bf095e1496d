"""Defects of reloads that one worker tries first."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgw.policy.canary import Seen, departure
from fastgw.runtime import control
from tests.support.admin import Admin, admin_table
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.troubled import Troubled


@contextmanager
def asking(gateway: GatewayProcess) -> Iterator[None]:
    """Requests one after the other, whatever comes back."""
    stop = threading.Event()

    def ask() -> None:
        with Client(gateway.address) as client:
            while not stop.is_set():
                client.ask(get())
                time.sleep(0.002)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def seen(requests: int, bucket: int, failed: int = 0, refused: int = 0) -> Seen:
    """Requests that all end in one bucket."""
    buckets = [0] * 24
    buckets[bucket] = requests
    return Seen(requests, failed, refused, tuple(buckets))


@pytest.mark.parametrize("usual", [seen(1000, 2, failed=1000), seen(1000, 2, refused=1000)])
def test_who_ended_an_outage_was_taken_back_since_answers_take_longer_than_failures(usual: Seen) -> None:
    assert departure({"a": seen(1000, 10)}, {"a": usual}) == ""


def test_who_is_slower_than_those_that_fail_now_and_then_is_taken_back_all_the_same() -> None:
    words = departure({"a": seen(1000, 10)}, {"a": seen(1000, 2, failed=100, refused=100)})
    assert words == "on route a 100 % of the requests were slow, 0 % elsewhere"


def test_a_new_route_was_taken_back_since_it_is_slower_than_the_others() -> None:
    others = {"quick": seen(1000, 2)}
    assert departure({"quick": seen(1000, 2), "new": seen(1000, 10, refused=500)}, others) == ""


def test_a_route_that_forwards_where_it_had_answered_itself_was_taken_back(tmp_path: Path) -> None:
    fixed = f"""
        [server]
        workers = 1
        canary = "3s"
        [access_log]
        path = "off"
        [[listeners]]
        address = "{LISTEN}"
        [upstreams.a]
        endpoints = ["@BACKEND@"]
        [[routes]]
        respond.body = "closed for now"
    """
    with Troubled() as backend, GatewayProcess(fixed.replace("@BACKEND@", backend.address), tmp_path) as gateway:
        with asking(gateway):
            time.sleep(1.5)
            gateway.rewrite(
                fixed.replace("@BACKEND@", backend.address).replace('respond.body = "closed for now"', 'upstream = "a"')
            )
            told = json.loads(gateway.command("reload").stdout)
        assert told["outcome"] == "done", told


def test_what_an_upstream_had_found_was_lost_to_a_worker_that_tried_to_do_without(tmp_path: Path) -> None:
    with Troubled() as backend:
        (tmp_path / "found.json").write_text(json.dumps([backend.address]))
        found = f"""
            [server]
            workers = 1
            canary = "20s"
            [access_log]
            path = "off"
            [[listeners]]
            address = "{LISTEN}"
            [upstreams.a]
            discover = {{ file = "found.json" }}
            [[routes]]
            upstream = "a"
        """
        with GatewayProcess(found, tmp_path) as gateway:
            with asking(gateway):
                time.sleep(1.5)
                gateway.rewrite(found.replace('discover = { file = "found.json" }', 'endpoints = ["127.0.0.1:1"]'))
                told = json.loads(gateway.command("reload").stdout)
                assert (told["outcome"], "have failed" in told["detail"]) == ("refused", True)
            with Client(gateway.address) as client:
                assert client.ask(get()).status == 200


def test_one_that_was_asked_for_at_an_admin_api_that_moved_meanwhile_stayed_in_one_worker(tmp_path: Path) -> None:
    admin, moved = Admin(free_port()), Admin(free_port())
    config = (
        f"""
        [server]
        workers = 1
        canary = "2s"
        [[listeners]]
        address = "{LISTEN}"
        [[routes]]
        respond.body = "one"
    """
        + "\n"
    )
    with GatewayProcess(config + admin_table(admin.port), tmp_path) as gateway:
        gateway.rewrite(config + admin_table(moved.port))
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("worker 0 tries")
        # It waits for the first one, after which this server ends.
        with Client(("127.0.0.1", admin.port)) as client:
            client.send(get(b"/api/reload", method=b"POST", host=b"localhost"))
            assert gateway.wait_until_it_says("event 1: reload done")
            assert gateway.wait_until_it_says("event 2: reload done")


@pytest.mark.asyncio
async def test_a_reload_that_was_tried_for_minutes_was_given_up_by_whoever_had_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_PATIENCE_S", 0.05)
    has_time = asyncio.Event()

    async def obey(command: str) -> control.Answer:
        await has_time.wait()
        return {"command": command}

    server = control.ControlServer(control.bind(tmp_path), obey)
    await server.start()
    asking = asyncio.create_task(asyncio.to_thread(control.ask, tmp_path, "reload"))
    with pytest.raises(control.NotRunning):
        await asyncio.to_thread(control.ask, tmp_path, "status")
    assert not asking.done()
    has_time.set()
    assert await asking == {"command": "reload"}
    server.close()
    await server.answered()
