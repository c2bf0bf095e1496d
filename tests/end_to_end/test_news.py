"""What workers tell while traffic flows: events of endpoints and breakers, and exchanges that have failed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.admin import Admin, with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.troubled import Troubled


def config(endpoints: list[str], settings: str, workers: int = 2) -> str:
    return f"""
        [server]
        workers = {workers}

        [access_log]
        path = "off"
        redact.query = ["ticket"]

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [upstreams.shop]
        endpoints = [{", ".join(f'"{endpoint}"' for endpoint in endpoints)}]
        {settings}

        [[routes]]
        name = "products"
        path = "/products"
        upstream = "shop"

        [[routes]]
        name = "closed"
        path = "/closed"
        respond = {{ status = 503, body = "closed" }}

    """


def ask(gateway: GatewayProcess, times: int, path: bytes = b"/products") -> Counter[int]:
    """On a connection for each, so that all workers get some."""
    statuses: Counter[int] = Counter()
    for _ in range(times):
        with Client(gateway.address) as client:
            statuses[client.ask(get(path)).status] += 1
    return statuses


def events(gateway: GatewayProcess) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(gateway.command("status").stdout)["events"]
    return told


def outcomes(found: list[dict[str, Any]]) -> set[str]:
    return {f"{one['kind']} {one['outcome']}" for one in found}


def test_each_worker_s_ejections_and_what_follows_are_events(tmp_path: Path) -> None:
    settings = 'outliers = { consecutive_failures = 2, eject_for = "300ms" }\nretry.on = ["503"]'
    with Troubled() as ill, Troubled() as well:
        text, admin = with_admin(config([ill.address, well.address], settings))
        with GatewayProcess(text, tmp_path) as gateway:
            ill.be("503")

            def both_have_ejected_it() -> bool:
                ask(gateway, 10)
                ejected = [one["detail"] for one in admin.get("/api/status")["events"] if one["outcome"] == "ejected"]
                return all(any(f"worker {number}: " in detail for detail in ejected) for number in (0, 1))

            assert eventually(both_have_ejected_it)
            (detail, *_) = [one["detail"] for one in events(gateway) if one["outcome"] == "ejected"]
            assert f": upstream shop: {ill.address} is ejected: 2 failures in a row" in detail
            # Once on standard error: the worker's own line.
            assert "event 1: endpoint ejected" not in gateway.stderr
            ill.be("well")
            returned = {"endpoint on-trial", "endpoint returned"}
            assert eventually(
                lambda: bool(ask(gateway, 10)) and returned <= outcomes(admin.get("/api/status")["events"])
            )
            assert admin.samples()["events_total", "endpoint", "returned"] >= 1


def test_a_breaker_is_told_of_without_an_admin_api_too(tmp_path: Path) -> None:
    settings = 'breaker = { consecutive_failures = 3, open_for = "200ms", trials = 1 }'
    with Troubled() as backend, GatewayProcess(config([backend.address], settings, 1), tmp_path) as gateway:
        backend.be("503")
        ask(gateway, 4)
        assert eventually(lambda: "upstream breaker-open" in outcomes(events(gateway)))
        backend.be("well")
        assert eventually(lambda: ask(gateway, 1)[200] == 1)
        told = [f"{one['outcome']}: {one['detail']}" for one in events(gateway)]
        line = "worker 0: upstream shop: the circuit breaker is"
        assert told[0] == f"breaker-open: {line} open"
        assert eventually(lambda: "upstream breaker-closed" in outcomes(events(gateway)))
        assert f"breaker-half-open: {line} half-open" in [
            f"{one['outcome']}: {one['detail']}" for one in events(gateway)
        ]


def test_events_of_workers_go_on_after_an_upgrade_and_push_no_reload_out(tmp_path: Path) -> None:
    settings = 'breaker = { consecutive_failures = 1, open_for = "50ms", trials = 1 }'
    with Troubled() as backend, GatewayProcess(config([backend.address], settings, 1), tmp_path) as gateway:
        assert gateway.command("reload").returncode == 0
        backend.be("503")

        def has_opened_often() -> bool:
            ask(gateway, 5)
            return sum(one["kind"] == "upstream" for one in events(gateway)) == 20

        assert eventually(has_opened_often, 30)
        assert events(gateway)[0]["kind"] == "reload"
        gateway.upgrade()
        last = events(gateway)[-1]
        assert (events(gateway)[0]["kind"], last["kind"]) == ("reload", "upgrade")
        assert eventually(lambda: bool(ask(gateway, 2)) and events(gateway)[-1]["kind"] == "upstream")
        assert events(gateway)[-1]["number"] > last["number"]


def failures(admin: Admin, count: int, route: str = "") -> list[dict[str, Any]]:
    """As many of them, once there are."""
    path = f"/api/failures?route={route}" if route else "/api/failures"
    assert eventually(lambda: len(admin.get(path)["failures"]) >= count)
    told: list[dict[str, Any]] = admin.get(path)["failures"]
    return told


def test_failures_are_told_with_their_explanation(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    text, admin = with_admin(config([nobody], ""))
    with GatewayProcess(text, tmp_path) as gateway:
        assert admin.get("/api/failures") == {"failures": [], "left_out": 0}
        assert ask(gateway, 1, b"/products?ticket=secret&a=1") == {502: 1}
        failures(admin, 1)
        assert ask(gateway, 1, b"/closed") == {503: 1}
        failures(admin, 2)
        assert ask(gateway, 1, b"/nowhere") == {404: 1}
        newest, closed, refused = failures(admin, 3)
        assert (newest["reason"], newest["explanation"]) == ("no-route", "No route matches the request.")
        assert (closed["status"], closed["route"], closed["reason"]) == (503, "closed", "")
        assert closed["explanation"] == "The route's own reply is 503."
        assert refused["explanation"] == "The backend refused the connection."
        assert (refused["path"], refused["host"]) == ("/products?ticket=REDACTED&a=1", "a.test")
        assert (refused["upstream"], refused["listener"], refused["client"]) == ("shop", "in", "127.0.0.1")
        assert [one["route"] for one in failures(admin, 1, "products")] == ["products"]
        status, _, body = admin.ask("/api/failures?route=product")
        assert (status, json.loads(body)["detail"]) == (404, 'There is no route "product"; did you mean "products"?')


def test_of_many_failures_some_are_told_and_the_others_counted(tmp_path: Path) -> None:
    text, admin = with_admin(config(["127.0.0.1:1"], "", 1))
    with GatewayProcess(text, tmp_path) as gateway:
        with Client(gateway.address) as client:
            for _ in range(200):
                assert client.ask(get(b"/closed")).status == 503
        assert eventually(lambda: admin.get("/api/failures")["left_out"] > 100)

        def told() -> int:
            answer = admin.get("/api/failures")
            return len(answer["failures"]) + int(answer["left_out"])

        # None is lost between the two.
        assert eventually(lambda: told() == 200)


def test_an_event_says_how_many_were_too_many(tmp_path: Path) -> None:
    endpoints = [f"127.0.0.1:{port}" for port in range(1, 61)]
    settings = 'outliers = { consecutive_failures = 1, max_ejected = "100%" }\nretry.on = ["connect-failure"]'
    with GatewayProcess(config(endpoints, settings, 1), tmp_path) as gateway:
        ask(gateway, 80)
        left_out = "upstream left-out"
        assert eventually(lambda: left_out in outcomes(events(gateway)))
        assert gateway.stderr.count("is ejected:") == 60
