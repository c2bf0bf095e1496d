"""Endpoints that are given trouble, the clients that note what they see of it, and what is made of their notes."""

import asyncio
import math
import os
import socket
from contextlib import suppress

import pytest

from benchmarks import recovery, report, resilience, tail
from benchmarks.clients import Clients, Outcome, errors, percentile
from benchmarks.results import (
    RECOVERED,
    RETRIES,
    RETRIES_ALLOWED,
    SLOW_TO_HEALTHY_P99,
    WORST_SECOND_P99_US,
    Sample,
    summarize,
)
from benchmarks.troubled import FROZEN, REFUSED, RESET, SLOW, SLOW_S, UNAVAILABLE, WELL, Endpoint, become, started


def outcomes(*found: tuple[float, int]) -> list[Outcome]:
    return [Outcome(at, 0.01, status) for at, status in found]


def status_of(endpoint: Endpoint, path: str = "/1") -> int:
    """Of its answer; 0: it broke the connection off."""
    with suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", endpoint.port), 5) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        return int(client.recv(1000)[9:12])
    return 0


def test_an_endpoint_has_the_trouble_it_is_told_to_have() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with started(cores, 1) as endpoints:
        (endpoint,) = endpoints
        assert [status_of(endpoint, "/7"), status_of(endpoint, "/healthz")] == [200, 200]
        assert become(UNAVAILABLE, endpoints) == [7]
        assert [status_of(endpoint), status_of(endpoint, "/healthz")] == [503, 503]
        assert become(RESET, endpoints) == [1]
        assert status_of(endpoint) == 0
        become(REFUSED, endpoints)
        with pytest.raises(ConnectionRefusedError):
            status_of(endpoint)
        become(FROZEN, endpoints)
        with socket.create_connection(("127.0.0.1", endpoint.port), 5) as client:
            client.sendall(b"GET /8 HTTP/1.1\r\nHost: a.test\r\n\r\n")
            client.settimeout(2 * SLOW_S)
            with pytest.raises(TimeoutError):
                client.recv(1000)
            assert become(WELL, endpoints) == [8]
            client.settimeout(5)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_clients_note_each_request_and_its_time() -> None:
    async def ask() -> Clients:
        with started(sorted(os.sched_getaffinity(0)), 1) as endpoints:
            clients = Clients(endpoints[0].port)
            await clients.start(4)
            await asyncio.sleep(0.1)
            become(UNAVAILABLE, endpoints)
            await asyncio.sleep(0.1)
            become(SLOW, endpoints)
            await asyncio.sleep(3 * SLOW_S)
            become(RESET, endpoints)
            await asyncio.sleep(0.1)
            await clients.stop()
            return clients

    found = asyncio.run(ask())
    assert {outcome.status for outcome in found.outcomes} == {200, 503, 0}
    assert 0 <= found.asked - len(found.outcomes) <= 4
    assert percentile([outcome for outcome in found.outcomes if outcome.is_good], 1.0) >= SLOW_S
    assert [outcome.at for outcome in found.outcomes] == sorted(outcome.at for outcome in found.outcomes)


def test_percentiles_are_of_what_there_is() -> None:
    some = [Outcome(0.0, float(seconds), 200) for seconds in range(100, 0, -1)]
    assert [percentile(some, share) for share in (0.5, 0.99, 1.0)] == [51.0, 100.0, 100.0]
    assert math.isnan(percentile([], 0.5))
    assert errors(outcomes((0.0, 200), (0.0, 503), (0.0, 0))) == 2


def test_a_phase_that_a_timer_ends_early_has_the_seconds_it_was_meant_to_have() -> None:
    clients = Clients(0)
    clients.outcomes = [Outcome(at / 10, at / 1000, 200) for at in range(1, 50)]
    for ended in (3.9995, 4.0005):
        assert tail.figures_of(clients, 0.0, 1.0, 3.0, ended)[WORST_SECOND_P99_US] == pytest.approx(39_000)


def test_traffic_has_recovered_with_the_last_slice_that_was_bad() -> None:
    good = [(0.25 + number / 1000, 200) for number in range(99)]
    found = outcomes((0.01, 503), (0.12, 200), (0.13, 503), *good, (0.34, 503), (0.45, 200))
    assert recovery.first_success(found, 0.0) == pytest.approx(0.12)
    # In the slice that ends at 0.4 s, one of less than a hundred failed.
    assert recovery.recovered(found, 0.0) == pytest.approx(0.4)
    assert recovery.recovered(outcomes((0.01, 200)), 0.0) == 0.0
    assert math.isnan(recovery.first_success(outcomes((0.01, 503)), 0.0))


def test_retries_are_allowed_for_what_was_there_before_and_what_comes_and_ten_a_second_in_any_case() -> None:
    assert recovery.allowed(outcomes(*[(0.0, 200)] * 1000), 500) == 300
    assert recovery.allowed([], 0) == 100


def test_both_figures_have_a_table_of_their_own() -> None:
    samples = [
        Sample("tail", "ewma", 1, {SLOW_TO_HEALTHY_P99: 1.25}),
        Sample("tail", "ewma", 2, {SLOW_TO_HEALTHY_P99: 1.75}),
        Sample("tail", "ewma, ejection", 1, {SLOW_TO_HEALTHY_P99: 1.0}, ("it was not ejected",)),
        Sample("recovery", "503", 1, {RECOVERED: 0.4, RETRIES: 148, RETRIES_ALLOWED: 8000}),
    ]
    first, second, notes = report.markdown(summarize(samples)).split("\n\n")
    assert first.splitlines()[2].endswith("| 1.50 (1.25-1.75) |")
    assert "INVALID" in first.splitlines()[3]
    assert second.splitlines()[2].endswith("| 0.40 | - | - | 148 | 8,000 |")
    assert "it was not ejected" in notes


def test_all_cases_have_names_of_their_own_and_the_smoke_run_has_one_of_each() -> None:
    for module in (tail, recovery):
        names = [case.name for case in module.cases(False)]
        assert len(names) == len(set(names)) > 5
        assert len(module.cases(True)) == 1
    assert resilience.arguments(["--figure", "tail", "--rounds", "2"]).rounds == 2
