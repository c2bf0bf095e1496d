"""The access log's other targets and choices: a syslog, also one that dies; samples; slow exchanges; credentials."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastgw.policy.access_log import PHASES
from tests.support.backend import Answer, RecordingBackend
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually
from tests.support.played import PlayedBackend
from tests.support.syslog import SyslogReceiver

LOCAL3, INFORMATIONAL = 19, 6
# With these, what may wait for the target, 8 MiB, is full before long.
LONG = b"/" + b"a" * 8000


def config(log: str, routes: str = "", upstreams: str = "", workers: int = 1) -> str:
    return f"""
        [server]
        workers = {workers}

        [[listeners]]
        address = "{LISTEN}"

        [access_log]
        {log}

        {upstreams}

        [[routes]]
        name = "here"
        respond.body = "here"

        {routes}
    """


@pytest.fixture(params=["udp", "tcp", "unix"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyslogReceiver]:
    with SyslogReceiver(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[SyslogReceiver]:
    with SyslogReceiver("tcp", tmp_path) as running:
        yield running


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


def ask(gateway: GatewayProcess, paths: list[bytes], *lines: bytes) -> None:
    """All are answered as ever."""
    with Client(gateway.address) as client:
        for path in paths:
            assert client.ask(get(path, *lines)).body == b"here"


def paths_in(receiver: SyslogReceiver) -> list[str]:
    return [json.loads(record.message)["path"] for record in receiver.records]


def logged(path: Path, count: int) -> list[dict[str, Any]]:
    assert eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)
    lines = path.read_bytes().splitlines()
    assert len(lines) == count
    return [json.loads(line) for line in lines]


def told_losses(gateway: GatewayProcess) -> int:
    return sum(int(number) for number in re.findall(r"(\d+) lines were lost", gateway.stderr))


# A syslog.


@pytest.mark.parametrize("log_format", ["json", "combined"])
def test_a_syslog_gets_each_line_as_a_record(log_format: str, receiver: SyslogReceiver, tmp_path: Path) -> None:
    log = f'path = "{receiver.setting}"\nformat = "{log_format}"\nsyslog = {{ facility = "local3", tag = "shop/edge" }}'
    paths = [b"/%d" % number for number in range(100)]
    with GatewayProcess(config(log), tmp_path) as gateway:
        ask(gateway, paths)
        worker = gateway.worker_pid()
        assert receiver.wait_for(100)
        # What is in a line is no business of the record's.
        with Client(gateway.address) as client:
            client.send(b'GET /"%0a<1>1 \xff\\ HTTP/1.1\r\nHost: a.test\r\n\r\n')
            client.read_answer()
        assert receiver.wait_for(101)
    records = receiver.records
    assert len(records) == 101
    assert {(one.facility, one.severity, one.program, one.process, one.message_id) for one in records} == {
        (LOCAL3, INFORMATIONAL, "shop/edge", worker, "access")
    }
    for path, record in zip(paths, records, strict=False):
        if log_format == "json":
            assert json.loads(record.message)["path"] == path.decode()
        else:
            assert b'"GET %b HTTP/1.1" 200 4 ' % path in record.message
    assert "access log" not in gateway.stderr


def test_what_still_waits_at_a_stop_reaches_a_syslog(receiver: SyslogReceiver, tmp_path: Path) -> None:
    paths = [b"/%d" % number for number in range(100)]
    with GatewayProcess(config(f'path = "{receiver.setting}"'), tmp_path) as gateway:
        ask(gateway, paths)
    assert receiver.wait_for(100)
    assert paths_in(receiver) == [path.decode() for path in paths]


def test_the_lines_of_several_workers_come_whole(tcp: SyslogReceiver, tmp_path: Path) -> None:
    with GatewayProcess(config(f'path = "{tcp.setting}"', workers=2), tmp_path) as gateway:
        for _ in range(20):
            ask(gateway, [LONG] * 10)
        workers = set(gateway.worker_pids())
        assert tcp.wait_for(200)
    assert {record.process for record in tcp.records} <= workers
    assert paths_in(tcp) == [LONG.decode()] * 200


def test_a_receiver_that_is_dead_at_the_start_gets_all_when_it_comes(tcp: SyslogReceiver, tmp_path: Path) -> None:
    tcp.die()
    paths = [b"/%d" % number for number in range(200)]
    with GatewayProcess(config(f'path = "{tcp.setting}"'), tmp_path) as gateway:
        ask(gateway, paths)
        assert gateway.wait_until_it_says(f"access log {tcp.setting}: Connection refused")
        tcp.come_back()
        assert tcp.wait_for(200)
        assert gateway.wait_until_it_says(f"access log {tcp.setting} is well again: 0 lines were lost")
        # Told when it began and when it was over, however often it was tried.
        assert gateway.stderr.count("access log") == 2
    assert paths_in(tcp) == [path.decode() for path in paths]


def test_what_a_dead_receiver_costs_is_counted_and_told_once(tcp: SyslogReceiver, tmp_path: Path) -> None:
    tcp.die()
    count = 1500
    with GatewayProcess(config(f'path = "{tcp.setting}"'), tmp_path) as gateway:
        ask(gateway, [LONG] * count)
        tcp.come_back()
        assert gateway.wait_until_it_says("is well again", 20.0)
        lost = told_losses(gateway)
        ask(gateway, [b"/after"])
        assert gateway.stderr.count("access log") == 2
    assert 0 < lost < count
    assert tcp.wait_for(count - lost + 1)
    assert paths_in(tcp) == [LONG.decode()] * (count - lost) + ["/after"]


def test_a_receiver_that_dies_between_lines_costs_none(tcp: SyslogReceiver, tmp_path: Path) -> None:
    with GatewayProcess(config(f'path = "{tcp.setting}"'), tmp_path) as gateway:
        ask(gateway, [b"/before"] * 50)
        assert tcp.wait_for(50)
        tcp.die()
        ask(gateway, [b"/meanwhile"] * 50)
        assert gateway.wait_until_it_says(f"access log {tcp.setting}: ")
        tcp.come_back()
        assert tcp.wait_for(100)
        assert gateway.wait_until_it_says("is well again: 0 lines were lost")
        ask(gateway, [b"/after"])
        assert tcp.wait_for(101)
        assert gateway.stderr.count("access log") == 2
    assert paths_in(tcp) == ["/before"] * 50 + ["/meanwhile"] * 50 + ["/after"]


def test_a_receiver_that_dies_again_and_again_under_load_harms_no_traffic(tcp: SyslogReceiver, tmp_path: Path) -> None:
    stopping, errors, asked = threading.Event(), list[Exception](), 0

    def load() -> None:
        nonlocal asked
        try:
            while not stopping.is_set():
                ask(gateway, [b"/%d" % number for number in range(asked, asked + 100)])
                asked += 100
        except Exception as error:
            errors.append(error)

    with GatewayProcess(config(f'path = "{tcp.setting}"'), tmp_path) as gateway:
        loading = threading.Thread(target=load)
        loading.start()
        try:
            for _ in range(3):
                assert tcp.wait_for(tcp.count + 200)
                tcp.die()
                assert eventually(lambda before=asked: asked >= before + 200)  # type: ignore[misc]
                tcp.come_back()
        finally:
            stopping.set()
            loading.join(20.0)
        assert errors == []
        ask(gateway, [b"/after"])
        assert eventually(lambda: "/after" in paths_in(tcp)[-1:], 20.0)
        assert gateway.wait_until_it_says("is well again: 0 lines were lost")
    # Each record is a whole one, though some come twice. What was lost unseen was with the dead: one run of lines each.
    found = set(paths_in(tcp))
    assert found <= {f"/{number}" for number in range(asked)} | {"/after"}
    missing = [f"/{number}" not in found for number in range(asked)]
    assert sum(now and not before for before, now in pairwise([False, *missing])) <= 3


def test_a_receiver_that_reads_nothing_does_not_keep_the_gateway_from_its_end(tmp_path: Path) -> None:
    with PlayedBackend(receive_buffer=4096) as deaf:
        with GatewayProcess(config(f'path = "syslog:tcp://{deaf.address}"'), tmp_path) as gateway:
            ask(gateway, [LONG] * 900)
        assert "ends: " in gateway.stderr
        assert told_losses(gateway) > 0


def test_a_reload_sends_lines_to_the_new_target_and_none_is_lost(tcp: SyslogReceiver, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with GatewayProcess(config('path = "access.log"'), tmp_path) as gateway, Client(gateway.address) as client:
        for number, log in enumerate((f'path = "{tcp.setting}"', 'path = "off"', 'path = "access.log"'), 1):
            client.ask(get(b"/%d" % number))
            gateway.rewrite(config(log))
            gateway.signal(signal.SIGHUP)
            assert gateway.wait_until_it_says(f"event {number}: reload done"), gateway.stderr
        client.ask(get(b"/4"))
    assert [line["path"] for line in logged(path, 2)] == ["/1", "/4"]
    assert tcp.wait_for(1)
    assert paths_in(tcp) == ["/2"]


def test_a_reload_lets_go_of_a_target_that_takes_nothing(tcp: SyslogReceiver, tmp_path: Path) -> None:
    tcp.die()
    path = tmp_path / "access.log"
    with GatewayProcess(config(f'path = "{tcp.setting}"'), tmp_path) as gateway, Client(gateway.address) as client:
        for _ in range(5):
            client.ask(get(b"/old"))
        assert gateway.wait_until_it_says(f"access log {tcp.setting}: Connection refused")
        gateway.rewrite(config('path = "access.log"'))
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("event 1: reload done")
        assert gateway.wait_until_it_says(f"access log {tcp.setting} ends: 5 lines were lost")
        client.ask(get(b"/new"))
    assert [line["path"] for line in logged(path, 1)] == ["/new"]


# Samples.

SAMPLED = """
    [[routes]]
    name = "a-tenth"
    path = "/a-tenth/*"
    respond.body = "here"
    log = { sample = "10%" }

    [[routes]]
    name = "all"
    path = "/all/*"
    respond.body = "here"
    log = true

    [[routes]]
    name = "none"
    path = "/none/*"
    respond.body = "here"
    log = false

    [[routes]]
    name = "gone"
    path = "/gone/*"
    respond = { status = 410, body = "here" }
    log = { sample = "0.1%" }
"""


def test_a_sample_is_as_large_as_it_says_and_errors_are_all_there(tmp_path: Path) -> None:
    count = 4000
    with GatewayProcess(config('path = "access.log"\nsample = "25%"', SAMPLED), tmp_path) as gateway:
        ask(gateway, [b"/"] * count)
        ask(gateway, [b"/a-tenth/x"] * count)
        ask(gateway, [b"/all/x"] * 100)
        ask(gateway, [b"/none/x"] * 100)
        ask(gateway, [b"/gone/x"] * 100)
        with Client(gateway.address) as client:
            client.send(b"nonsense\r\n\r\n")
            client.read_answer()
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_bytes().splitlines()]
    kept = {name: [one for one in lines if one["route"] == name] for name in ("here", "a-tenth", "all", "none", "gone")}
    assert {name: {one["sampled"] for one in some} for name, some in kept.items()} == {
        "here": {0.25}, "a-tenth": {0.1}, "all": {1}, "none": set(), "gone": {1},
    }  # fmt: skip
    assert (len(kept["all"]), len(kept["gone"])) == (100, 100)
    assert [one["sampled"] for one in lines if one["reason"] == "malformed-request"] == [1]
    for name, share in (("here", 0.25), ("a-tenth", 0.1)):
        # Five standard deviations: one run in a million is further off.
        off = 5 * (count * share * (1 - share)) ** 0.5
        assert abs(len(kept[name]) - count * share) < off
        assert abs(sum(1 / one["sampled"] for one in kept[name]) - count) < off / share
    # A line more or less changes nothing: it is the id that decides.
    assert len({one["request_id"] for one in lines}) == len(lines)


def test_gateways_in_a_line_keep_the_lines_of_the_same_requests(tmp_path: Path) -> None:
    directories = tmp_path / "outer", tmp_path / "inner"
    for directory in directories:
        directory.mkdir()
    trusting = config('path = "access.log"\nsample = "20%"').replace(
        "[server]", '[server]\ntrusted_proxies = ["127.0.0.1"]'
    )
    with GatewayProcess(trusting, directories[1]) as inner:
        upstreams = f'[upstreams.next]\nendpoints = ["127.0.0.1:{inner.port}"]'
        outer_config = config('path = "access.log"\nsample = "20%"', upstreams=upstreams)
        outer_config = outer_config.replace('respond.body = "here"', 'upstream = "next"')
        with GatewayProcess(outer_config, directories[0]) as outer:
            ask(outer, [b"/"] * 500)
    ids = [
        [json.loads(line)["request_id"] for line in (directory / "access.log").read_bytes().splitlines()]
        for directory in directories
    ]
    assert 0 < len(ids[0]) < 500
    assert sorted(ids[0]) == sorted(ids[1])


# Slow exchanges.


def test_a_slow_exchange_is_kept_with_phases_that_make_up_its_time(played: PlayedBackend, tmp_path: Path) -> None:
    upstreams = f'[upstreams.slow]\nendpoints = ["{played.address}"]'
    routes = '[[routes]]\nname = "there"\npath = "/there"\nupstream = "slow"'
    log = 'path = "access.log"\nsample = "0.0001%"\nslow = "150ms"'
    with (
        GatewayProcess(config(log, routes, upstreams), tmp_path) as gateway,
        Client(gateway.address) as client,
    ):
        ask(gateway, [b"/"] * 10)
        client.send(get(b"/there"))
        connection = played.accept()
        connection.read_request()
        # Nothing tells how long an answer takes but the time it takes.
        threading.Event().wait(0.12)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhe")
        threading.Event().wait(0.1)
        connection.send(b"re")
        assert client.read_answer().body == b"here"
        (line,) = logged(tmp_path / "access.log", 1)
    assert (line["route"], line["sampled"]) == ("there", 1)
    assert line["upstream_us"] >= 115_000
    assert line["body_us"] >= 95_000
    assert line["duration_us"] >= 215_000
    # Each is cut off to whole microseconds by itself.
    assert sum(line[name] for name in PHASES) == pytest.approx(line["duration_us"], abs=len(PHASES))
    assert [name for name in line if name in PHASES and line[name] < 0] == []
    assert set(PHASES) <= set(line)


def test_a_wait_for_a_connection_is_told_as_such(played: PlayedBackend, tmp_path: Path) -> None:
    upstreams = f'[upstreams.slow]\nendpoints = ["{played.address}"]\nmax_connections = 1'
    routes = '[[routes]]\nname = "there"\npath = "/{any}"\nupstream = "slow"\nlog = { slow = "100ms" }'
    with (
        GatewayProcess(config('path = "access.log"', routes, upstreams), tmp_path) as gateway,
        Client(gateway.address) as first,
        Client(gateway.address) as second,
    ):
        first.send(get(b"/first"))
        connection = played.accept()
        connection.read_request()
        second.send(get(b"/second"))
        threading.Event().wait(0.15)
        connection.answer(b"1")
        assert first.read_answer().body == b"1"
        connection.read_request()
        connection.answer(b"2")
        assert second.read_answer().body == b"2"
        lines = {line["path"]: line for line in logged(tmp_path / "access.log", 2)}
    waited = lines["/second"]
    assert waited["queue_us"] >= 100_000
    assert waited["upstream_us"] < waited["queue_us"]
    for line in lines.values():
        assert sum(line[name] for name in PHASES) == pytest.approx(line["duration_us"], abs=len(PHASES))


# Credentials.

SECRET = "hunter2"
TARGETS = [
    f"/?token={SECRET}&a=1",
    f"/?%74oken={SECRET}",
    f"/?TOKEN={SECRET}&%54o%4bEN={SECRET}",
    f"/?user[password]={SECRET}&user%5Bpassword%5D={SECRET}&user.password={SECRET}",
    f"/?a=1;access_token={SECRET}",
    f"/?mine={SECRET}",
    f"/?to=%2Fcb%3Ftoken%3D{SECRET}",
    f"/?to=https%3A%2F%2Fme%3A{SECRET}%40a.test%2F",
]
HEADERS = [
    f"Authorization: Bearer {SECRET}",
    f"Cookie: session={SECRET}",
    f"X-Api-Key: {SECRET}",
    f"X-Mine: {SECRET}",
    f"Referer: https://me:{SECRET}@a.test/x?api_key={SECRET}&b=2",
    f"X-Original-URL: /x?signature={SECRET}",
]
FIELDS = [
    *("path", "status", "referer", "user_agent", "query:token", "query:to", "query:mine", "header:Authorization"),
    *("header:Cookie", "header:X-Api-Key", "header:X-Mine", "header:X-Original-URL", "response:Set-Cookie"),
    *("response:Location", "response:X-Mine"),
]


@pytest.mark.parametrize("log_format", ["json", "combined"])
def test_no_credential_is_in_the_log(log_format: str, backend: RecordingBackend, tmp_path: Path) -> None:
    log = f'path = "access.log"\nformat = "{log_format}"\nredact = {{ query = ["mine"], headers = ["X-Mine"] }}'
    if log_format == "json":
        log += f"\nfields = {json.dumps(FIELDS)}"
    upstreams = f'[upstreams.backend]\nendpoints = ["{backend.address}"]'
    text = config(log, upstreams=upstreams).replace('respond.body = "here"', 'upstream = "backend"')
    answer = (
        f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: session={SECRET}\r\nX-Mine: {SECRET}\r\n"
        f"Location: https://me:{SECRET}@a.test/cb#access_token={SECRET}\r\n\r\n"
    ).encode()
    backend.expect(*[Answer(answer)] * len(TARGETS))
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        for target in TARGETS:
            # The backend and the client get all of it.
            received = client.ask(get(target.encode(), *(line.encode() for line in HEADERS)))
            assert received.values(b"x-mine") == [SECRET.encode()]
        backend.wait_until_received(f"GET {TARGETS[-1]} HTTP".encode())
        with Client(gateway.address) as other:
            # What is refused is logged, too.
            other.send(f"GET http://me:{SECRET}@a.test/?token={SECRET} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            other.read_answer()
    written = (tmp_path / "access.log").read_text()
    assert written.count("\n") == len(TARGETS) + 1
    assert SECRET not in written
    assert SECRET not in gateway.stderr
    if log_format == "json":
        first, *_ = map(json.loads, written.splitlines())
        assert first == {
            "path": "/?token=REDACTED&a=1", "status": 302, "user_agent": None, "query:token": "REDACTED",
            "referer": "https://REDACTED@a.test/x?api_key=REDACTED&b=2", "query:to": None, "query:mine": None,
            "header:Authorization": "REDACTED", "header:Cookie": "REDACTED", "header:X-Api-Key": "REDACTED",
            "header:X-Mine": "REDACTED", "header:X-Original-URL": "/x?signature=REDACTED",
            "response:Set-Cookie": "REDACTED", "response:X-Mine": "REDACTED",
            "response:Location": "https://REDACTED@a.test/cb#access_token=REDACTED",
        }  # fmt: skip
