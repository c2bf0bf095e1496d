from __future__ import annotations

from typing import Any

import pytest

from fastgw.runtime.top import endpoint_state, quantile_s, screen

# Cells up to 1, 2, 4 and 8 ms, beyond that, and the sum.
BOUNDS = [0.001, 0.002, 0.004, 0.008]


def cells(*counts: int) -> list[int]:
    return [*counts, *[0] * (5 - len(counts)), 0]


def route(name: str, well: int, failed: int = 0) -> dict[str, Any]:
    requests = {"none": 0, "1xx": 0, "2xx": well, "3xx": 0, "4xx": 0, "5xx": failed}
    took = cells(0, well + failed)
    return {"name": name, "requests": requests, "duration": took, "own_duration": cells(well + failed)}


def endpoint(name: str, requests: int = 0, **differences: Any) -> dict[str, Any]:
    usual = {"draining": False, "healthy": None, "ejected_by_workers": 0, "backup": False, "active": 1}
    counts = {"requests": {"2xx": requests}, "head_duration": cells(requests), "idle_connections": 2}
    return {"name": name, **usual, **counts, **differences}


def look(at: float, routes: list[dict[str, Any]], requests: int = 0, **more: Any) -> dict[str, Any]:
    worker = {"number": 0, "pid": 7, "connections": 3, "requests": requests, "cpu_s": at / 2, "memory_bytes": 30 << 20}
    return {
        "version": "1",
        "config": "/etc/c.toml",
        "is_serving": True,
        "at": at,
        "bounds_s": BOUNDS,
        "routes": routes,
        "upstreams": [{"name": "u", "endpoints": [endpoint("e:1", requests)]}],
        "workers": [{**worker, "lag": cells(int(at))}],
        "events": [],
        **more,
    }


def test_rates_are_what_has_come_between_two_looks() -> None:
    before = look(10.0, [route("a", 1000, 100), route("b", 5)], 1000)
    now = look(12.0, [route("a", 1090, 110), route("b", 505)], 1600)
    lines = screen(before, now, 200, 100).split("\n")
    assert lines[0] == "fastgw 1  /etc/c.toml  300 requests/s, 3 connections"
    assert [line.split() for line in lines if line.startswith(("a ", "b "))] == [
        ["b", "250", "0", "%", "1.5", "ms", "1.99", "ms", "500", "µs", "990", "µs"],
        ["a", "50", "10", "%", "1.5", "ms", "1.99", "ms", "500", "µs", "990", "µs"],
    ]
    (shown,) = [line.split() for line in lines if line.startswith("u ")]
    assert shown == ["u", "e:1", "up", "300", "1", "2", "500", "µs", "990", "µs"]
    (worker,) = [line.split() for line in lines if line.startswith("0 ")]
    assert worker[:8] == ["0", "7", "50", "%", "30", "MiB", "3", "300"]


def test_one_look_tells_of_all_time() -> None:
    now = look(12.0, [route("a", 90, 10), route("silent", 0)], 100)
    text = screen(now, now, 200, 100)
    assert "100 requests, 3 connections" in text
    assert "silent" not in text
    (shown,) = [line.split() for line in text.split("\n") if line.startswith("a ")]
    assert shown[:4] == ["a", "100", "10", "%"]


def test_it_fits_into_the_terminal_and_the_busiest_stay() -> None:
    routes = [route(f"r{number}", number + 1) for number in range(100)]
    now = look(1.0, routes, events=[{"at": "t", "kind": "k", "outcome": "o", "detail": "long\nlonger"}])
    lines = screen(now, now, 40, 20).split("\n")
    assert len(lines) == 20
    assert max(map(len, lines)) <= 40
    assert any(line.startswith("r99 ") for line in lines)
    assert not any(line.startswith("r0 ") for line in lines)
    assert lines[-1] == "t  k o: long"


def test_a_gateway_that_counts_no_routes_shows_the_rest() -> None:
    now = look(1.0, [], upstreams=[], is_serving=False)
    text = screen(now, now, 80, 24)
    assert "ROUTE" not in text
    assert "WORKER" in text
    assert "not all workers serve" in text


def test_a_worker_that_is_new_has_no_rates_of_another() -> None:
    before, now = look(1.0, [], 100), look(2.0, [], 5)
    now["workers"][0]["pid"] = 8
    (worker,) = [line.split() for line in screen(before, now, 200, 50).split("\n") if line.startswith("0 ")]
    assert worker[1:3] == ["8", "-"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({}, "up"),
        ({"backup": True}, "backup"),
        ({"healthy": False}, "unhealthy"),
        ({"ejected_by_workers": 1}, "ejected by 1 of 2"),
        ({"ejected_by_workers": 2}, "ejected"),
        ({"draining": True, "healthy": False}, "draining"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_said(what: dict[str, Any], words: str) -> None:
    assert endpoint_state(endpoint("e:1", **what), 2) == words


def test_quantiles_lie_within_their_bucket() -> None:
    assert quantile_s([0, 10, 0, 0, 0], 0.5, BOUNDS) == pytest.approx(0.0015)
    assert quantile_s([50, 50, 0, 0, 0], 0.99, BOUNDS) == pytest.approx(0.00198)
    assert quantile_s([0, 0, 0, 0, 4], 0.5, BOUNDS) == 0.008
    assert quantile_s([0] * 5, 0.5, BOUNDS) is None
