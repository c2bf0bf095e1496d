"""What is sent, and how wrk's answer is read."""

import pytest

from benchmarks import load
from benchmarks.heads import build_requests
from benchmarks.workloads import WORKLOADS, Kind, for_smoke, named

RESULT = (
    load.MARK + '{"requests":1000,"bytes":250000,"duration_us":2000000,"p50_us":1500.0,"p99_us":4000.5,'
    '"errors":{"connect":0,"read":2,"write":0,"status":0,"timeout":1}}'
)


def test_the_result_is_found_among_what_wrk_prints() -> None:
    result = load.parse(f"Running 2s test @ http://127.0.0.1:1/\n  1 threads\n\n{RESULT}\n")
    assert (result.requests, result.bytes_read, result.seconds) == (1000, 250_000, 2.0)
    assert (result.p50_us, result.p99_us) == (1500.0, 4000.5)


def test_only_errors_that_happened_are_told() -> None:
    assert load.parse(RESULT).errors == {"read": 2, "timeout": 1}


def test_without_a_result_what_wrk_complained_about_is_told() -> None:
    with pytest.raises(load.LoadError, match="unable to connect"):
        load.parse("", "unable to connect to 127.0.0.1:1 Connection refused")


def test_a_lua_string_keeps_every_byte() -> None:
    assert load.lua_string(b'GET "a\\b"\r\n\x00\xff9') == '"GET \\"a\\\\b\\"\\r\\n\\000\\2559"'


def test_the_script_sends_every_request() -> None:
    text = load.script([b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"])
    assert text.count("GET /") == 2
    assert "{{" not in text.partition("function done")[2]


def test_browser_requests_reach_every_route_and_all_differ() -> None:
    requests = build_requests(named("json-browser"))
    assert len(set(requests)) == len(requests)
    assert len({request.split(b" ")[1] for request in requests}) == named("json-browser").routes
    assert all(request.count(b"\r\n") == 1 + 1 + 12 + 1 for request in requests)


def test_requests_are_the_same_every_time() -> None:
    assert build_requests(named("json-browser")) == build_requests(named("json-browser"))


def test_a_posted_body_is_as_long_as_its_head_says() -> None:
    head, _, body = build_requests(named("post-10k"))[0].partition(b"\r\n\r\n")
    assert len(body) == 10 * 1024
    assert b"Content-Length: 10240" in head


def test_requests_stay_within_the_routes_there_are() -> None:
    for workload in WORKLOADS:
        for request in build_requests(workload):
            assert int(request.split(b"/")[1].removeprefix(b"svc")) < workload.routes


def test_the_smoke_run_holds_few_idle_connections() -> None:
    assert all(workload.connections <= 200 for workload in for_smoke() if workload.kind is Kind.IDLE)
