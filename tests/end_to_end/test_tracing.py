"""Traces at a real OTLP receiver: their trees, and what becomes of them, and of traffic, when it is in trouble."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import with_admin
from tests.support.backend import OK, Answer, RecordingBackend
from tests.support.client import Client, get
from tests.support.collector import Collector
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
UNAVAILABLE = b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\nno"
HELPER = "fastgw-traces"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def config(collector: Collector | str, endpoints: list[str], tracing: str = 'sample = "100%"', more: str = "") -> str:
    where = collector if isinstance(collector, str) else collector.endpoint
    addresses = ", ".join(f'"{address}"' for address in endpoints)
    return f"""
        [server]
        workers = 1
        trusted_proxies = ["127.0.0.1"]

        [[listeners]]
        address = "{LISTEN}"

        [tracing]
        endpoint = "{where}"
        service_name = "edge"
        headers = {{ api-key = "k" }}
        attributes = {{ team = "web" }}
        {tracing}

        [access_log]
        fields = ["trace_id", "status", "request_id"]

        [upstreams.app]
        endpoints = [{addresses}]
        retry = {{ on = ["connect-failure", "reset", "503"], attempts = 3, backoff = "1ms", budget = "100%" }}

        [[routes]]
        name = "users"
        path = "/users/{{id}}"
        upstream = "app"

        [[routes]]
        path = "/local"
        respond.body = "here"
        {more}
        """


def traceparents(backend: RecordingBackend) -> list[bytes]:
    return re.findall(rb"\r\ntraceparent: 00-[0-9a-f]{32}-([0-9a-f]{16})-0[0-3]", backend.received)


def logged(gateway: GatewayProcess, count: int) -> list[dict[str, object]]:
    """The lines of the access log; waits for as many."""
    lines = gateway.directory / "stdout"
    assert eventually(lambda: lines.read_text().count("\n") >= count)
    return [json.loads(line) for line in lines.read_text().splitlines()]


def test_a_request_that_is_retried_is_a_tree_of_spans(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    backend.expect(Answer(UNAVAILABLE), Answer(OK))
    dead = f"127.0.0.1:{free_port()}"
    with GatewayProcess(config(collector, [dead, backend.address]), tmp_path) as gateway:
        with Client(gateway.address) as client:
            lines = (b"traceparent: 00-" + TRACE + b"-" + SPAN + b"-01", b"tracestate: a=1", b"User-Agent: tester")
            assert client.ask(get(b"/users/7?token=secret", *lines)).status == 200
            [server] = collector.servers(1)
            tries = collector.below(server)
            assert (server.trace_id, server.parent_id, server.state) == (TRACE.decode(), SPAN.decode(), "a=1")
            assert (server.name, server.is_error) == ("GET /users/{id}", False)
            assert server.resource.items() >= {"service.name": "edge", "team": "web"}.items()
            assert (
                server.attributes.items()
                >= {
                    "http.route": "/users/{id}",
                    "http.response.status_code": 200,
                    "url.path": "/users/7",
                    "url.query": "token=REDACTED",
                    "client.address": "127.0.0.1",
                    "user_agent.original": "tester",
                    "fastgw.route": "users",
                    "fastgw.upstream": "app",
                    "fastgw.attempts": len(tries),
                }.items()
            )
            # One or two connections were refused, then came 503, then 200.
            outcomes = [
                one.attributes.get("error.type", one.attributes.get("http.response.status_code")) for one in tries
            ]
            assert [outcome for outcome in outcomes if outcome != "connect-failed"] == ["503", 200]
            assert "connect-failed" in outcomes
            refused = next(one for one in tries if one.attributes.get("error.type") == "connect-failed")
            assert refused.attributes["fastgw.endpoint"] == dead
            assert refused.is_error
            # Nothing comes before its time, and tries come one after the other.
            times = [time for one in tries for time in (one.started, one.ended)]
            assert times == sorted(times)
            assert server.started <= times[0]
            assert times[-1] <= server.ended
            # The backend was told of the tries that came there.
            assert traceparents(backend) == [
                one.span_id.encode() for one in tries if one.attributes["fastgw.endpoint"] == backend.address
            ]
            assert backend.received.count(b"\r\ntracestate: a=1\r\n") == 2
            [line] = logged(gateway, 1)
            assert line["trace_id"] == TRACE.decode()
        path, headers, _ = collector.requests[0]
        assert (path, headers["api-key"]) == ("/v1/traces", "k")


def test_what_is_not_recorded_is_passed_on_and_leaves_nothing(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    backend.expect(*[Answer(OK)] * 3)
    with GatewayProcess(config(collector, [backend.address], 'sample = "0%"'), tmp_path) as gateway:
        with Client(gateway.address) as client:
            assert client.ask(get(b"/users/1")).status == 200
            given = b"traceparent: 00-" + TRACE + b"-" + SPAN + b"-00"
            assert client.ask(get(b"/users/2", given, b"tracestate: a=1")).status == 200
            assert b"\r\n" + given + b"\r\ntracestate: a=1\r\n" in backend.received
            # The one that follows is recorded, and so it would have come behind the others.
            assert client.ask(get(b"/users/3", given[:-2] + b"01")).status == 200
            [server] = collector.servers(1)
            assert server.attributes["url.path"] == "/users/3"
        first = re.search(rb"\r\ntraceparent: 00-([0-9a-f]{32})-[0-9a-f]{16}-02\r\n", backend.received)
        assert first is not None
        assert [line["trace_id"] for line in logged(gateway, 3)] == [first[1].decode(), TRACE.decode(), TRACE.decode()]


def test_a_stop_waits_for_what_was_recorded(collector: Collector, backend: RecordingBackend, tmp_path: Path) -> None:
    with GatewayProcess(config(collector, [backend.address]), tmp_path) as gateway, Client(gateway.address) as client:
        assert eventually(lambda: gateway.children(HELPER) != [])
        for _ in range(100):
            assert client.ask(get(b"/local")).status == 200
    assert len(collector.servers(100)) == 100


def test_a_reload_changes_what_is_recorded(collector: Collector, backend: RecordingBackend, tmp_path: Path) -> None:
    nothing, everything = (config(collector, [backend.address], f'sample = "{share}"') for share in ("0%", "100%"))
    with GatewayProcess(nothing, tmp_path) as gateway, Client(gateway.address) as client:
        client.ask(get(b"/local"))
        gateway.rewrite(everything)
        assert gateway.command("reload").returncode == 0
        client.ask(get(b"/local", host=b"b.test"))
        assert [one.attributes["server.address"] for one in collector.servers(1)] == ["b.test"]
        # Without the table there is nothing, and nobody who would export it.
        gateway.rewrite(re.sub(r"\[tracing\].*?(?=\[access_log\])", "", everything, flags=re.S))
        assert gateway.command("reload").returncode == 0
        assert eventually(lambda: gateway.children(HELPER) == [])
        client.ask(get(b"/local"))
        assert logged(gateway, 3)[-1]["trace_id"] is None
        gateway.rewrite(everything)
        assert gateway.command("reload").returncode == 0
        client.ask(get(b"/local", host=b"c.test"))
        assert [one.attributes["server.address"] for one in collector.servers(2)] == ["b.test", "c.test"]


def test_a_collector_that_is_away_costs_nothing_but_what_it_misses(backend: RecordingBackend, tmp_path: Path) -> None:
    port = free_port()
    text, admin = with_admin(config(f"http://127.0.0.1:{port}", [backend.address]))
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        for _ in range(300):
            assert client.ask(get(b"/local")).status == 200
        assert gateway.wait_until_it_says("takes no traces")
        with Collector(port) as collector:
            assert len(collector.servers(300)) == 300
            assert gateway.wait_until_it_says("takes traces again")
            assert eventually(lambda: admin.samples()["traces_exported_total",] == 300)
            assert admin.samples()["traces_lost_total",] == 0
            assert admin.samples()["worker_lost_traces_total", "0"] == 0
        # Once when it began, and once when it ended.
        assert gateway.stderr.count("tracing failed") == 1


def test_a_collector_that_refuses_or_is_busy_is_told_of_once(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    text, admin = with_admin(config(collector, [backend.address]))
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        collector.status = 503
        client.ask(get(b"/local"))
        assert gateway.wait_until_it_says("it answers 503; they are offered again")
        collector.status = 200
        assert len(collector.servers(1)) == 1
        collector.status = 400
        client.ask(get(b"/local"))
        assert gateway.wait_until_it_says("it answers 400; they are lost")
        assert eventually(lambda: admin.samples()["traces_lost_total",] == 1)
        collector.status = 200
        client.ask(get(b"/local"))
        assert len(collector.servers(2)) == 2


def test_a_collector_that_does_not_answer_keeps_nobody_waiting(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    collector.goes_on.clear()
    with GatewayProcess(config(collector, [backend.address]), tmp_path) as gateway, Client(gateway.address) as client:
        for _ in range(500):
            assert client.ask(get(b"/local")).status == 200
        collector.goes_on.set()
        assert len(collector.servers(500)) == 500


def test_an_exporter_that_is_killed_is_replaced_and_finds_what_has_come_meanwhile(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    with GatewayProcess(config(collector, [backend.address]), tmp_path) as gateway, Client(gateway.address) as client:
        client.ask(get(b"/local"))
        assert len(collector.servers(1)) == 1
        [pid] = gateway.children(HELPER)
        os.kill(pid, signal.SIGKILL)
        assert gateway.wait_until_it_says("the process that exports traces ended with signal 9; it starts again in 1 s")
        for _ in range(40):
            assert client.ask(get(b"/local")).status == 200
        assert len(collector.servers(41)) == 41
        assert gateway.children(HELPER) != [pid]


def test_an_exporter_that_stands_still_makes_traffic_lose_traces_and_nothing_else(
    collector: Collector, backend: RecordingBackend, tmp_path: Path
) -> None:
    text, admin = with_admin(config(collector, [backend.address]))
    with GatewayProcess(text, tmp_path) as gateway:
        with Client(gateway.address) as client:
            client.ask(get(b"/local"))
        assert len(collector.servers(1)) == 1
        [pid] = gateway.children(HELPER)
        os.kill(pid, signal.SIGSTOP)
        asked = 1
        while not admin.samples()["worker_lost_traces_total", "0"]:
            # A connection carries no more than some thousand.
            with Client(gateway.address) as client:
                for _ in range(200):
                    assert client.ask(get(b"/local")).status == 200
            asked += 200
            assert asked < 20_000
        assert gateway.wait_until_it_says("the exporter does not keep up")
        os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: len(collector.servers(1)) + admin.samples()["worker_lost_traces_total", "0"] == asked)
        with Client(gateway.address) as client:
            client.ask(get(b"/local", host=b"last.test"))
        assert eventually(lambda: collector.servers(1)[-1].attributes["server.address"] == "last.test")
