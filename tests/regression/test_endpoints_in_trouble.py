"""What policies made of an endpoint's trouble, and clients got to feel."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.played import PlayedBackend
from tests.support.troubled import Troubled
from tests.support.websocket import SWITCHED, WEBSOCKET


def config(endpoints: list[str], settings: str, route: str = "") -> str:
    written = ", ".join(endpoint if endpoint.startswith("{") else f'"{endpoint}"' for endpoint in endpoints)
    return f"""
        [server]
        workers = 1
        drain_timeout = "300ms"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = [{written}]
        {settings}

        [[routes]]
        upstream = "backend"
        {route}
    """


def statuses(gateway: GatewayProcess, requests: int) -> list[int]:
    with Client(gateway.address) as client:
        return [client.ask(get()).status for _ in range(requests)]


def dead() -> str:
    return f"127.0.0.1:{free_port()}"


def test_retries_do_not_take_away_the_search_for_an_endpoint_that_takes_connections(tmp_path: Path) -> None:
    with Troubled() as well:
        for settings in ("retry = true", 'retry = { on = ["503"] }'):
            with GatewayProcess(config([dead(), dead(), dead(), well.address], settings), tmp_path) as gateway:
                assert statuses(gateway, 12) == [200] * 12


def test_a_backup_is_reached_by_who_has_tried_the_others(tmp_path: Path) -> None:
    with Troubled() as well:
        backup = f'{{ address = "{well.address}", backup = true }}'
        with GatewayProcess(config([dead(), backup], ""), tmp_path) as gateway:
            assert statuses(gateway, 4) == [200] * 4


def test_tunnels_do_not_fill_the_concurrency_limit(tmp_path: Path) -> None:
    with PlayedBackend() as played, ExitStack() as stack:
        text = config([played.address], "concurrency = { initial_limit = 4, max_limit = 4 }")
        gateway = GatewayProcess(text, tmp_path).start()
        stack.callback(gateway.kill)
        for _ in range(8):
            client = stack.enter_context(Client(gateway.address))
            client.send(get(b"/", *WEBSOCKET))
            connection = played.accept()
            connection.read_head()
            connection.send(SWITCHED)
            assert client.read_answer().status == 101


def test_an_endpoint_that_outlasts_the_route_s_patience_is_ejected(tmp_path: Path) -> None:
    with Troubled() as frozen, Troubled() as well:
        frozen.signal(signal.SIGSTOP)
        settings = "outliers = { consecutive_failures = 3 }"
        with GatewayProcess(config([frozen.address, well.address], settings, 'timeout = "200ms"'), tmp_path) as gateway:
            assert statuses(gateway, 6).count(504) == 3
            assert f"{frozen.address} is ejected: 3 failures in a row" in gateway.stderr
            assert statuses(gateway, 6) == [200] * 6
        frozen.signal(signal.SIGCONT)


def test_an_endpoint_that_breaks_its_answers_off_is_ejected(tmp_path: Path) -> None:
    with PlayedBackend() as broken, Troubled() as well:
        settings = "outliers = { consecutive_failures = 3 }"
        with GatewayProcess(config([broken.address, well.address], settings), tmp_path) as gateway:
            for _ in range(3):
                with Client(gateway.address) as client:
                    client.send(get())
                    connection = broken.accept()
                    connection.read_request()
                    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                    connection.reset()
                    client.read_to_end()
                assert statuses(gateway, 1) == [200]
            assert gateway.wait_until_it_says(f"{broken.address} is ejected: 3 failures in a row")


def test_a_goodbye_is_not_said_where_one_side_has_ended(tmp_path: Path) -> None:
    with PlayedBackend() as played:
        gateway = GatewayProcess(config([played.address], ""), tmp_path).start()
        with Client(gateway.address) as client:
            client.send(get(b"/", *WEBSOCKET))
            connection = played.accept()
            connection.read_head()
            connection.send(SWITCHED)
            assert client.read_answer().status == 101
            client.half_close()
            assert connection.read_to_end() == b""
            gateway.signal(signal.SIGTERM)
            assert gateway.wait() == 0
            assert client.read_to_end() == b"\x88\x02\x03\xe9"
        assert "Traceback" not in gateway.stderr


def test_after_an_outage_passing_checks_bring_traffic_back_and_not_the_end_of_long_times(tmp_path: Path) -> None:
    settings = """
        health = { path = "/healthz", interval = "200ms", timeout = "500ms" }
        breaker = { consecutive_failures = 3, open_for = "10m" }
        outliers = { consecutive_failures = 2, eject_for = "10m", max_eject_for = "10m" }
    """
    with (
        Troubled() as first,
        Troubled() as second,
        GatewayProcess(config([first.address, second.address], settings), tmp_path) as gateway,
    ):
        assert statuses(gateway, 4) == [200] * 4
        for backend in (first, second):
            backend.be("503")
        assert statuses(gateway, 12).count(503) == 12
        assert gateway.wait_until_it_says("the circuit breaker is open")
        for backend in (first, second):
            assert gateway.wait_until_it_says(f"{backend.address} fails its checks")
        for backend in (first, second):
            backend.be("well")
        # Two good results, a fifth of an interval apart, take 0.3 s; this is for a machine that does other things.
        assert eventually(lambda: statuses(gateway, 6) == [200] * 6, 10)
        assert gateway.wait_until_it_says("the circuit breaker is closed")
        assert eventually(lambda: bool(statuses(gateway, 1)) and "is not ejected any more" in gateway.stderr, 10)


def test_an_endpoint_that_is_still_ill_costs_one_request_each_time_its_ejection_is_over(tmp_path: Path) -> None:
    settings = 'outliers = { consecutive_failures = 3, eject_for = "200ms" }'
    with Troubled() as ill, Troubled() as well, Troubled() as other:
        ill.be("503")
        endpoints = [ill.address, well.address, other.address]
        with GatewayProcess(config(endpoints, settings), tmp_path) as gateway:
            seen: list[int] = []

            def has_been_tried_twice() -> bool:
                seen.extend(statuses(gateway, 20))
                return gateway.stderr.count("is ejected: a failure on trial") == 2

            assert eventually(has_been_tried_twice, 20)
            seen += statuses(gateway, 10)
            ejections = gateway.stderr.count("is ejected:")
            # Three failures in a row at first, and then one for each trial.
            assert seen.count(503) == 2 + ejections
            assert len(seen) > 10 * seen.count(503)
