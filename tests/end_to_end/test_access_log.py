"""The access log: a line for each exchange, wherever it goes, whatever clients send, and whether or not it is read."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually

COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/20\d\d:\d\d:\d\d:\d\d \+0000\] "([^"]*)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"'
)


def gateway(directory: Path, backend: RecordingBackend, log: str, stdout: int | None = None) -> GatewayProcess:
    config = f"""
        [server]
        workers = 1
        trusted_proxies = ["127.0.0.1"]

        [[listeners]]
        name = "front"
        address = "{LISTEN}"
        limits.head_timeout = "300ms"

        [access_log]
        {log}

        [upstreams]
        backend.endpoints = ["{backend.address}"]

        [[routes]]
        name = "there"
        host = "a.test"
        upstream = "backend"

        [[routes]]
        name = "here"
        host = "here.test"
        respond = {{ body = "here" }}
    """
    return GatewayProcess(config, directory, stdout)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def logged(path: Path, count: int) -> list[Any]:
    """The first `count` lines, once they are there, read as JSON."""
    assert eventually(lambda: len(lines_of(path)) >= count), lines_of(path)
    lines = lines_of(path)
    assert len(lines) == count
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("where", ["stdout", "access.log"])
def test_a_line_of_json_says_what_was_asked_and_answered(where: str, backend: RecordingBackend, tmp_path: Path) -> None:
    with gateway(tmp_path, backend, f'path = "{where}"') as running, Client(running.address) as client:
        sent = get(b"/a/b?c=d", b"Content-Length: 4", host=b"a.test", method=b"POST") + b"body"
        first = client.ask(sent)
        client.ask(get(host=b"here.test"))
        client.ask(get(b"/missing", host=b"nobody.test"))
        there, here, nowhere = logged(tmp_path / where, 3)
    assert there.items() >= {
        "client": "127.0.0.1", "method": "POST", "host": "a.test", "path": "/a/b?c=d", "status": 200, "bytes": 2,
        "route": "there", "endpoint": backend.address, "consumer": None, "cache": None, "reason": None,
        "request_id": first.values(b"x-request-id")[0].decode(),
    }.items()  # fmt: skip
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", there["time"])
    assert 0 < there["upstream_us"] <= there["duration_us"]
    assert here.items() >= {"route": "here", "endpoint": None, "status": 200, "bytes": 4, "upstream_us": 0}.items()
    assert nowhere.items() >= {"route": None, "status": 404, "reason": "no-route", "path": "/missing"}.items()


def test_the_fields_are_those_of_the_configuration(backend: RecordingBackend, tmp_path: Path) -> None:
    fields = ["status", "listener", "bytes_in", "upstream", "protocol", "user_agent", "referer", "method"]
    log = f'path = "access.log"\nfields = {json.dumps(fields)}'
    with gateway(tmp_path, backend, log) as running, Client(running.address) as client:
        client.ask(get(b"/", b"User-Agent: me/1", b"Content-Length: 2", host=b"a.test", method=b"PUT") + b"ab")
        (line,) = logged(tmp_path / "access.log", 1)
    assert list(line) == fields
    assert list(line.values()) == [200, "front", 2, "backend", "HTTP/1.1", "me/1", None, "PUT"]


@pytest.mark.parametrize("where", ["stdout", "access.log"])
def test_the_combined_format_is_that_of_apache(where: str, backend: RecordingBackend, tmp_path: Path) -> None:
    log = f'path = "{where}"\nformat = "combined"'
    with gateway(tmp_path, backend, log) as running, Client(running.address) as client:
        client.ask(get(b"/a?b", b"Referer: http://c.test/", b"User-Agent: me/1"))
        client.ask(get(b"/", b'User-Agent: "\\x" evil'))
        assert eventually(lambda: len(lines_of(tmp_path / where)) == 2)
    plain, quoted = (COMBINED.fullmatch(line) for line in lines_of(tmp_path / where))
    assert plain is not None
    assert plain.groups() == ("GET /a?b HTTP/1.1", "200", "2", "http://c.test/", "me/1")
    assert quoted is not None
    assert quoted.group(5) == r"\x22\x5Cx\x22 evil"


FORGERIES = [
    get(b'/"}{"forged":1', b'User-Agent: "}\\'),
    get(b"/\\u000a%0a%0dforged", b"User-Agent: \xff\xfe\xc3"),
    get(b"/\xc3\xa4\xff", b"Referer: \x7f"),
    get(b"/", b'X-Forwarded-For: 1.2.3.4","forged":"1'),
    get(b"/", b'X-Forwarded-For: "forged"', b'X-Request-Id: ","forged":"1'),
    get(b"/", b'User-Agent: \t"forged":1,\t'),
    b'GET / HTTP/1.1\r\nHost: a.test","forged":"1\r\n\r\n',
    b'G"forged / HTTP/1.1\r\nHost: a.test\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: a.test\r\nX: {"forged":1}\nforged\r\n\r\n',
    b'{"forged":1}\n{"forged":1}\n\r\n\r\n',
    b'GET http://a.test/"forged HTTP/1.1\r\nHost: a.test\r\n\r\n',
]


@pytest.mark.parametrize("log_format", ["json", "combined"])
def test_clients_forge_no_line(log_format: str, backend: RecordingBackend, tmp_path: Path) -> None:
    everything = ["client", "method", "host", "path", "status", "request_id", "user_agent", "referer", "reason"]
    log = f'path = "access.log"\nformat = "{log_format}"'
    if log_format == "json":
        log += f"\nfields = {json.dumps(everything)}"
    path = tmp_path / "access.log"
    with gateway(tmp_path, backend, log) as running:
        for sent in FORGERIES:
            with Client(running.address) as client:
                client.send(sent)
                client.read_answer()
    for line, sent in zip(lines_of(path), FORGERIES, strict=True):
        if log_format == "json":
            assert list(json.loads(line)) == everything, (line, sent)
        else:
            assert re.fullmatch(r'[^" ]+ - - \[[^]]+\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*"', line), (line, sent)


def test_what_was_refused_or_broken_off_is_logged_with_its_reason(backend: RecordingBackend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with gateway(tmp_path, backend, 'path = "access.log"') as running:
        for sent in (b"BAD\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\n"):
            with Client(running.address) as client:
                client.send(sent)
                client.read_answer()
        malformed, slow = logged(path, 2)
    assert (malformed["status"], malformed["reason"]) == (400, "malformed-request")
    assert (slow["status"], slow["reason"]) == (408, "head-timeout")


def test_a_signal_makes_it_open_its_file_anew(backend: RecordingBackend, tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with gateway(tmp_path, backend, 'path = "access.log"') as running, Client(running.address) as client:
        client.ask(get(b"/before"))
        logged(path, 1)
        path.rename(moved)
        running.signal(signal.SIGUSR1)
        client.ask(get(b"/after"))
        assert [line["path"] for line in logged(path, 1)] == ["/after"]
        assert [line["path"] for line in logged(moved, 1)] == ["/before"]
        # The file that was moved is let go.
        assert str(moved) not in open_files(running.worker_pid())


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_file_that_is_moved_away_is_noticed(how: str, backend: RecordingBackend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with gateway(tmp_path, backend, 'path = "access.log"') as running, Client(running.address) as client:
        client.ask(get(b"/before"))
        logged(path, 1)
        if how == "moved":
            path.rename(tmp_path / "access.log.1")
        else:
            path.unlink()
        client.ask(get(b"/after"))
        assert [line["path"] for line in logged(path, 1)] == ["/after"]


def open_files(pid: int) -> list[str]:
    directory = Path(f"/proc/{pid}/fd")
    return [os.readlink(directory / name) for name in os.listdir(directory)]


def test_no_line_is_missing_after_a_stop(backend: RecordingBackend, tmp_path: Path) -> None:
    count = 500
    with gateway(tmp_path, backend, 'path = "access.log"') as running, Client(running.address) as client:
        client.send(b"".join(get(b"/%d" % number, host=b"here.test") for number in range(count)))
        for _ in range(count):
            client.read_answer()
    paths = [line["path"] for line in logged(tmp_path / "access.log", count)]
    assert paths == [f"/{number}" for number in range(count)]


def test_off_is_off(backend: RecordingBackend, tmp_path: Path) -> None:
    with gateway(tmp_path, backend, 'path = "off"') as running, Client(running.address) as client:
        assert client.ask(get()).status == 200
    assert lines_of(tmp_path / "stdout") == []


def test_a_full_disk_is_told_and_stops_nothing(backend: RecordingBackend, tmp_path: Path) -> None:
    with gateway(tmp_path, backend, 'path = "/dev/full"') as running, Client(running.address) as client:
        for _ in range(3):
            assert client.ask(get()).status == 200
        assert running.wait_until_it_says("access log /dev/full: No space left on device")
        assert client.ask(get()).status == 200


def test_traffic_goes_on_when_nobody_reads_the_log_and_what_is_lost_is_counted(
    backend: RecordingBackend, tmp_path: Path
) -> None:
    # With what the pipe holds and what may wait for it, 8 MiB, these are more than enough.
    path, count = b"/" + b"a" * 8000, 1500
    reader, writer = os.pipe()
    try:
        with gateway(tmp_path, backend, 'path = "stdout"', stdout=writer) as running:
            with Client(running.address) as client:
                for _ in range(count):
                    assert client.ask(get(path, host=b"here.test")).body == b"here"
            os.close(writer)
            writer = -1
            written = read_lines(reader, until=lambda: "lines were lost" in running.stderr)
            told = re.findall(r"(\d+) lines were lost", running.stderr)
            running.signal(signal.SIGTERM)
            written += read_to_end(reader)
        lost = sum(int(number) for number in told)
        assert lost > 0
        lines = written.splitlines()
        assert len(lines) + lost == count
        # Whole ones, each.
        assert all(json.loads(line)["status"] == 200 for line in lines)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def told_losses(running: GatewayProcess) -> int:
    """As many lines as it has said were lost."""
    return sum(int(number) for number in re.findall(r"(\d+) lines were lost", running.stderr))


@pytest.mark.slow
def test_a_pipe_that_is_blocked_for_ten_seconds_harms_no_traffic(backend: RecordingBackend, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    path, slowest, count = b"/" + b"a" * 8000, 0.0, 0
    try:
        with gateway(tmp_path, backend, 'path = "stdout"', stdout=writer) as running:
            os.close(writer)
            writer = -1
            until = time.monotonic() + 10.0
            while time.monotonic() < until:
                with Client(running.address) as client:
                    for _ in range(500):
                        began = time.monotonic()
                        assert client.ask(get(path, host=b"here.test")).body == b"here"
                        slowest = max(slowest, time.monotonic() - began)
                        count += 1
            assert running.stderr.count("access log stdout: lines come faster than they are taken") == 1
            read_lines(reader, until=lambda: "access log stdout is well again" in running.stderr)
            lost = told_losses(running)
            # It goes on as if nothing had been.
            with Client(running.address) as client:
                client.ask(get(b"/after", host=b"here.test"))
            running.signal(signal.SIGTERM)
            after = read_to_end(reader)
        assert [json.loads(line)["path"] for line in after.splitlines()] == ["/after"]
        assert 0 < lost < count
        # The machine may be busy; a wait for the pipe would have lasted for seconds.
        assert slowest < 2.0
        assert running.stderr.count("access log stdout") == 2
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_a_disk_that_is_full_for_a_while_costs_lines_that_are_counted_and_nothing_else(
    backend: RecordingBackend, tmp_path: Path
) -> None:
    path, full = tmp_path / "access.log", 4000
    with gateway(tmp_path, backend, 'path = "access.log"') as running, Client(running.address) as client:
        before = resource.prlimit(running.worker_pid(), resource.RLIMIT_FSIZE)
        resource.prlimit(running.worker_pid(), resource.RLIMIT_FSIZE, (full, before[1]))
        count = 0
        while "access log" not in running.stderr:
            assert client.ask(get(host=b"here.test")).body == b"here"
            count += 1
        assert path.stat().st_size == full
        # Room again, and it is used without anybody's help.
        resource.prlimit(running.worker_pid(), resource.RLIMIT_FSIZE, before)
        assert client.ask(get(b"/after", host=b"here.test")).body == b"here"
        assert running.wait_until_it_says("is well again")
        lost = told_losses(running)
    *lines, last = lines_of(path)
    assert json.loads(last)["path"] == "/after"
    whole = [line for line in lines if line.endswith("}")]
    # One line was torn by the disk's end.
    assert len(lines) - len(whole) <= 1
    assert len(whole) + lost == count
    assert running.stderr.count("access log") == 2


def read_lines(descriptor: int, until: Callable[[], bool]) -> bytes:
    data = b""
    os.set_blocking(descriptor, False)

    def more() -> bool:
        nonlocal data
        try:
            data += os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return until()
        return False

    assert eventually(more), "it tells of no loss"
    os.set_blocking(descriptor, True)
    return data


def read_to_end(descriptor: int) -> bytes:
    data = b""
    while piece := os.read(descriptor, 1 << 20):
        data += piece
    return data
