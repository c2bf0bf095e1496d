"""What is counted while clients ask: by the real gateway, read by the reference's parser."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fastgw.runtime.exposition import OPENMETRICS, PROMETHEUS
from tests.support.admin import Admin, with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually
from tests.support.tls import Authority
from tests.support.troubled import Troubled

COUNT = 25


def config(endpoints: str, workers: int = 2, routes: str = "") -> str:
    return f"""
        [server]
        workers = {workers}

        [access_log]
        path = "off"

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = [{endpoints}]
        retry = true

        {routes}

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "12345" }}

        [[routes]]
        name = "rest"
        path = "/rest"
        upstream = "a"

    """


def ask(gateway: GatewayProcess, path: bytes, count: int = COUNT, method: bytes = b"GET") -> None:
    for _ in range(count):
        with Client(gateway.address) as client:
            client.ask(get(path).replace(b"GET", method, 1))


def shows(admin: Admin, value: float, *key: str) -> bool:
    return eventually(lambda: admin.samples().get(key) == value)


def test_requests_are_counted_by_route_method_and_status(tmp_path: Path) -> None:
    with Troubled() as backend:
        text, admin = with_admin(config(f'"{backend.address}"'))
        with GatewayProcess(text, tmp_path) as gateway:
            ask(gateway, b"/fixed")
            ask(gateway, b"/rest")
            ask(gateway, b"/rest", 3, b"DELETE")
            ask(gateway, b"/nowhere", 7)
            assert shows(admin, 7, "requests_total", "", "GET", "4xx")
            now = admin.samples()
            assert now["requests_total", "fixed", "GET", "2xx"] == COUNT
            assert now["requests_total", "rest", "GET", "2xx"] == COUNT
            assert now["requests_total", "rest", "DELETE", "2xx"] == 3
            assert now["refusals_total", "", "no-route"] == 7
            assert now["response_bytes_total", "fixed"] == 5 * COUNT
            assert now["listener_requests_total", "in", "2xx"] == 2 * COUNT + 3
            assert now["endpoint_requests_total", "a", backend.address, "2xx"] == COUNT + 3
            by_worker = [now.get(("worker_requests_total", str(number), "2xx"), 0) for number in range(2)]
            assert sum(by_worker) == 2 * COUNT + 3
            assert now["worker_accepted_connections_total", "0"] + now["worker_accepted_connections_total", "1"] >= 60


def test_durations_are_those_of_the_whole_the_upstream_and_the_gateway_itself(tmp_path: Path) -> None:
    with Troubled() as backend:
        text, admin = with_admin(config(f'"{backend.address}"'))
        with GatewayProcess(text, tmp_path) as gateway:
            ask(gateway, b"/rest")
            assert shows(admin, COUNT, "request_duration_seconds_count", "rest")
            now = admin.samples()
            whole = now["request_duration_seconds_sum", "rest"]
            upstream = now["endpoint_head_duration_seconds_sum", "a", backend.address]
            own = now["own_duration_seconds_sum", "rest"]
            # The backend takes 5 ms.
            assert upstream > COUNT * 0.004
            assert 0 < own < whole
            assert now["own_duration_seconds_count", "rest"] == COUNT
            assert upstream + own <= whole + 1e-3


def test_failures_and_retries_are_counted_where_they_happen(tmp_path: Path) -> None:
    with Troubled() as backend:
        text, admin = with_admin(config(f'"127.0.0.1:1", "{backend.address}"', workers=1))
        with GatewayProcess(text, tmp_path) as gateway:
            ask(gateway, b"/rest", 10)
            assert shows(admin, 10, "endpoint_failures_total", "a", "127.0.0.1:1", "connect-failure")
            backend.be("reset")
            ask(gateway, b"/rest", 1)
            assert shows(admin, 1, "requests_total", "rest", "GET", "5xx")
            now = admin.samples()
            assert now["retries_total", "rest"] > 0
            assert now["endpoint_failures_total", "a", backend.address, "empty-answer"] > 0


def test_counts_outlive_a_worker_and_a_reload(tmp_path: Path) -> None:
    text, admin = with_admin(config('"127.0.0.1:1"'))
    key = ("requests_total", "fixed", "GET", "2xx")
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed")
        assert shows(admin, COUNT, *key)
        before = gateway.worker_pids()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(set(gateway.worker_pids()) - set(before)) == 2)
        ask(gateway, b"/fixed")
        assert shows(admin, 2 * COUNT, *key)
        gateway.rewrite(text.replace("12345", "1"))
        assert gateway.command("reload").returncode == 0
        ask(gateway, b"/fixed")
        assert shows(admin, 3 * COUNT, *key)
        now = admin.samples()
        assert now["events_total", "reload", "done"] == 1
        assert now["events_total", "worker", "lost"] == 2


def test_names_come_and_go_with_the_configuration_and_no_client_makes_any(tmp_path: Path) -> None:
    text, admin = with_admin(config('"127.0.0.1:1"'))
    more = '[[routes]]\nname = "new"\npath = "/new"\nrespond = { status = 204 }\n'
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed", 1)
        assert shows(admin, 1, "requests_total", "fixed", "GET", "2xx")
        gateway.rewrite(text.replace('[[routes]]\n        name = "fixed"', more + '[[routes]]\n        name = "other"'))
        assert gateway.command("reload").returncode == 0
        ask(gateway, b"/new", 4)
        assert shows(admin, 4, "requests_total", "new", "GET", "2xx")
        ask(gateway, b"/fixed", 2)
        assert shows(admin, 2, "requests_total", "other", "GET", "2xx")
        assert not any("fixed" in key for key in admin.samples())
        count = len(admin.samples())
        for number in range(30):
            ask(gateway, b"/%d" % number, 1, b"GET" if number % 2 else b"PROPFIND")
        # A status class, a reason and a histogram for what no route has matched.
        assert shows(admin, 15, "requests_total", "", "other", "4xx")
        assert len(admin.samples()) < count + 80


def test_certificates_tell_when_they_expire(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    tls = '[listeners.tls]\ncertificates = [{ cert = "a.pem", key = "a.key" }]\n'
    text, admin = with_admin(config('"127.0.0.1:1"').replace("[upstreams.a]", tls + "[upstreams.a]"))
    with GatewayProcess(text, tmp_path):
        (expiry,) = [value for key, value in admin.samples().items() if key[0].startswith("certificate_expiry")]
        assert expiry > 1_700_000_000


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("text/plain", PROMETHEUS), ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPENMETRICS)],
)
def test_a_scraper_gets_the_format_that_it_asks_for(accept: str, kind: str, tmp_path: Path) -> None:
    text, admin = with_admin(config('"127.0.0.1:1"'))
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed", 1)
        assert shows(admin, 1, "requests_total", "fixed", "GET", "2xx")
        _, headers, body = admin.ask("/metrics", headers={"Accept": accept})
        assert headers["content-type"] == kind
        if kind == OPENMETRICS:
            assert len(list(text_string_to_metric_families(body.decode()))) > 20


def test_without_metrics_nothing_is_counted_by_route(tmp_path: Path) -> None:
    text, admin = with_admin(config('"127.0.0.1:1"'), "metrics = false")
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed")
        assert eventually(
            lambda: sum(value for key, value in admin.samples().items() if key[0] == "worker_requests_total") == COUNT
        )
        assert not any(key[0] == "requests_total" for key in admin.samples())
