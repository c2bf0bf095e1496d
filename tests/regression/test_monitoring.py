"""Defects of what is counted and shown of a running gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastgw.runtime import admin_gate
from fastgw.runtime.events import DONE, LOST, REFUSED, Events
from fastgw.runtime.exposition import exposed
from fastgw.runtime.metrics import Collector
from fastgw.runtime.row_layout import LayoutKeeper
from fastgw.runtime.traces import TraceKeeper
from tests.support.admin import Admin, admin_table
from tests.support.browser import Browser
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.played import PlayedBackend
from tests.support.troubled import Troubled
from tests.support.websocket import SWITCHED, WEBSOCKET


def config(endpoint: str = "127.0.0.1:1") -> str:
    return f"""
        [server]
        workers = 1

        [access_log]
        path = "off"

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = ["{endpoint}"]

        [[routes]]
        name = "all"
        upstream = "a"

    """


def counted(admin: Admin, name: tuple[str, ...]) -> bool:
    return admin.samples().get(name, 0) > 0


def test_upstreams_and_workers_that_ran_before_they_were_counted_never_were(tmp_path: Path) -> None:
    admin = Admin(free_port())
    with Troubled() as backend, GatewayProcess(config(backend.address), tmp_path) as gateway:
        for _ in range(2):
            gateway.rewrite(config(backend.address) + admin_table(admin.port))
            assert gateway.command("reload").returncode == 0
            with Client(gateway.address) as client:
                assert client.ask(get()).status == 200
            assert eventually(lambda: admin.samples().get(("endpoint_idle_connections", "a", backend.address)) == 1)
            for name in (
                ("endpoint_requests_total", "a", backend.address, "2xx"),
                ("worker_loop_lag_seconds_count", "0"),
            ):
                assert eventually(partial(counted, admin, name))
            gateway.rewrite(config(backend.address))
            assert gateway.command("reload").returncode == 0


def test_the_upgrade_itself_was_forgotten_behind_twenty_events() -> None:
    old, new = Events(), Events()
    for _ in range(25):
        old.add("reload", DONE, "")
    upgrade = old.next("upgrade", DONE, "")
    new.add("worker", DONE, "its own")
    new.go_on_from([*old.last, upgrade])
    assert [event.detail for event in list(new.last)[-2:]] == ["", "its own"]
    assert list(new.last)[-2] == upgrade
    assert new.next("reload", DONE, "").number == upgrade.number + 1


def test_connections_of_a_worker_that_was_killed_stayed_open_for_ever(tmp_path: Path) -> None:
    admin = Admin(free_port())
    with GatewayProcess(config() + admin_table(admin.port), tmp_path) as gateway:
        clients = [Client(gateway.address) for _ in range(3)]
        for client in clients:
            assert client.ask(get()).status == 502
        assert eventually(lambda: admin.samples()["worker_connections", "0"] == 3)
        os.kill(gateway.worker_pid(), signal.SIGKILL)
        for client in clients:
            client.close()
        assert gateway.wait_until_it_says("event 1: worker lost")
        assert eventually(lambda: admin.samples().get(("worker_connections", "0")) == 0)
        with Client(gateway.address) as client:
            assert client.ask(get()).status == 502
            assert eventually(lambda: admin.samples()["worker_connections", "0"] == 1)


def test_the_life_of_a_tunnel_was_the_gateway_s_own_share(tmp_path: Path, played: PlayedBackend) -> None:
    admin = Admin(free_port())
    with GatewayProcess(config(played.address) + admin_table(admin.port), tmp_path) as gateway:
        with Client(gateway.address) as client:
            client.send(get(b"/", *WEBSOCKET))
            backend = played.accept()
            backend.read_until(b"\r\n\r\n")
            backend.send(SWITCHED)
            assert client.read_answer().status == 101
            time.sleep(0.5)
            backend.close()
            client.read_to_end()
        assert eventually(lambda: admin.samples().get(("requests_total", "all", "GET", "1xx")) == 1)
        now = admin.samples()
        assert now["request_duration_seconds_sum", "all"] >= 0.5
        assert now.get(("own_duration_seconds_sum", "all"), 0.0) < 0.1


def test_a_scrape_of_many_routes_kept_the_supervisor_from_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads: list[threading.Thread] = []

    def write(_families: object, _openmetrics: bool) -> bytes:
        in_threads.append(threading.current_thread())
        return b"text"

    monkeypatch.setattr(admin_gate, "exposed", write)
    workers = SimpleNamespace(rows=LayoutKeeper(1), unhealthy={})
    overview = SimpleNamespace(workers=list)
    reloads = SimpleNamespace(loaded=SimpleNamespace(certificates=()), traces=SimpleNamespace(exported=0, lost=0))
    parts: list[Any] = [None, overview, reloads, workers, Events(), Path(), None, None]

    async def scrape() -> bytes:
        return await admin_gate.GatewayGate(*parts).metrics(False)

    assert asyncio.run(scrape()) == b"text"
    assert threading.main_thread() not in in_threads


def test_the_first_refused_reload_and_the_first_dead_worker_fired_no_alert() -> None:
    def shown() -> str:
        return exposed(Collector(LayoutKeeper(1).counted(), events, traces).families([], {}, ()), False).decode()

    events, traces = Events(), cast(TraceKeeper, SimpleNamespace(exported=0, lost=0))
    for kind, outcome in (("reload", REFUSED), ("worker", LOST)):
        # Prometheus sees a counter grow only from a value that it has seen.
        assert f'fastgw_events_total{{kind="{kind}",outcome="{outcome}"}} 0\n' in shown()
        events.add(kind, outcome, "")
        assert f'fastgw_events_total{{kind="{kind}",outcome="{outcome}"}} 1\n' in shown()


def test_whoever_came_back_after_a_restart_was_told_nothing_of_what_had_happened_since(tmp_path: Path) -> None:
    admin = Admin(free_port())
    with GatewayProcess(config() + admin_table(admin.port), tmp_path) as gateway:
        assert gateway.command("reload").returncode == 0
        for last in (b"7", b"9" * 5000):
            with Client(("127.0.0.1", admin.port)) as client:
                client.send(get(b"/api/events", b"Last-Event-ID: " + last, host=b"localhost"))
                assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
                assert client.read_until(b"\n\n").partition(b"\r\n")[2].startswith(b"id: 1\nevent: reload\n")


def test_the_dashboard_s_routing_table_stayed_as_it_was_when_the_page_came(tmp_path: Path) -> None:
    admin = Admin(free_port())
    text = config() + admin_table(admin.port)
    with GatewayProcess(text, tmp_path) as gateway, Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#table", "all")
        gateway.rewrite(text + '[[routes]]\nname = "another"\npath = "/another"\nrespond.body = "ok"\n')
        assert gateway.command("reload").returncode == 0
        assert browser.shows("#table", "another")
        assert browser.complaints == []


def test_secrets_that_were_written_out_stood_in_the_routing_table_and_in_explanations(tmp_path: Path) -> None:
    admin = Admin(free_port())
    routes = """
        [[routes]]
        path = "/k"
        match.headers.Authorization = "Bearer s3cr3t-one"
        match.query.api_key = "s3cr3t-two"
        upstream = "a"
        request.headers.set.X-Auth-Token = "s3cr3t-three"
    """
    with GatewayProcess(config() + routes + admin_table(admin.port), tmp_path):
        told = [admin.get("/api/config"), admin.get("/api/routes")]
        for headers in ([], [["Authorization", "Bearer s3cr3t-one"]]):
            url = "http://localhost/k?api_key=s3cr3t-two"
            status, explained = admin.post("/api/explain", {"method": "GET", "url": url, "headers": headers})
            assert status == 200
            told.append(explained)
        assert "s3cr3t" not in json.dumps(told)
        assert told[2]["route"] == "all"
        assert "X-Auth-Token: (hidden)" in told[3]["request_headers"]
