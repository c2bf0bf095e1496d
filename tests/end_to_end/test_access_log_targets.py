"""The access log at a syslog that comes and goes; and which exchanges get a line, and what it hides."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.troubled import WELL_S, Troubled

# RFC 5424 §6: local7 and informational, the program, the process, our MSGID, no structured data.
RECORD = re.compile(rb"<190>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]+ fastgw \d+ access - (\{.*\})", re.DOTALL)


@pytest.fixture
def backend() -> Iterator[Troubled]:
    with Troubled() as running:
        yield running


def config(log: str, backend: str = "127.0.0.1:1", routes: str = "") -> str:
    return f"""
        [server]
        workers = 1

        [access_log]
        {log}

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = ["{backend}"]

        {routes}

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "ok" }}

        [[routes]]
        name = "rest"
        upstream = "a"
    """


class Receiver:
    """A syslog that takes records, one by one, and keeps their messages."""

    def __init__(self, kind: str, port: int = 0, path: str = "") -> None:
        self._is_stream = kind == "tcp"
        family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM if self._is_stream else socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(path if kind == "unix" else ("127.0.0.1", port))
        if self._is_stream:
            self._socket.listen()
        self.messages: list[Any] = []
        self.wrong: list[bytes] = []
        self._socket.settimeout(0.05)
        self._stopping = threading.Event()
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self._thread = threading.Thread(target=self._run)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                if self._is_stream:
                    connection, _ = self._socket.accept()
                    reader = threading.Thread(target=self._read, args=(connection,))
                    self._connections.append((connection, reader))
                    reader.start()
                else:
                    self._take(self._socket.recv(1 << 16))

    def _read(self, connection: socket.socket) -> None:
        """RFC 6587 §3.4.1: the length in octets, a space, and the record."""
        try:
            with connection.makefile("rb") as stream:
                while digit := stream.read(1):
                    length = b""
                    while digit != b" ":
                        length += digit
                        digit = stream.read(1)
                    record = stream.read(int(length))
                    # One that is torn by its end is none.
                    if len(record) == int(length):
                        self._take(record)
        except (OSError, ValueError) as error:
            self.wrong.append(repr(error).encode())

    def _take(self, record: bytes) -> None:
        found = RECORD.fullmatch(record)
        if found is None:
            self.wrong.append(record)
        else:
            self.messages.append(json.loads(found[1]))

    def kill(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()
        for connection, reader in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            reader.join()
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def ask(gateway: GatewayProcess, count: int, path: bytes = b"/fixed", *lines: bytes) -> list[int]:
    with Client(gateway.address) as client:
        return [client.ask(get(path, *lines)).status for _ in range(count)]


def lines_of(directory: Path) -> list[Any]:
    return [json.loads(line) for line in (directory / "access.log").read_text().splitlines()]


def logged(directory: Path, count: int) -> list[Any]:
    assert eventually(lambda: (directory / "access.log").exists() and len(lines_of(directory)) >= count)
    time.sleep(0.7)
    return lines_of(directory)


# Syslog.


@pytest.mark.parametrize("kind", ["udp", "tcp", "unix"])
def test_each_line_is_a_record(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "log.sock")
    with Receiver(kind, path=path) as receiver:
        where = f"syslog:unix:{path}" if kind == "unix" else f"syslog:{kind}://127.0.0.1:{receiver.port}"
        with GatewayProcess(config(f'path = "{where}"'), tmp_path) as gateway:
            assert ask(gateway, 40, b"/fixed?a=%22b%0a") == [200] * 40
            assert eventually(lambda: len(receiver.messages) == 40)
        assert receiver.wrong == []
        assert {(one["route"], one["status"], one["path"]) for one in receiver.messages} == {
            ("fixed", 200, "/fixed?a=%22b%0a")
        }


def test_a_receiver_that_comes_late_dies_and_comes_back_harms_no_traffic(tmp_path: Path) -> None:
    port = free_port()
    with GatewayProcess(config(f'path = "syslog:tcp://127.0.0.1:{port}"'), tmp_path) as gateway:
        # Nobody is there: they wait.
        assert ask(gateway, 50) == [200] * 50
        assert gateway.wait_until_it_says("Connection refused")
        with Receiver("tcp", port) as first:
            assert eventually(lambda: len(first.messages) == 50)
            assert ask(gateway, 30) == [200] * 30
            assert eventually(lambda: len(first.messages) == 80)
            first.kill()
        assert ask(gateway, 20) == [200] * 20
        time.sleep(1.2)
        with Receiver("tcp", port) as second:
            assert ask(gateway, 10) == [200] * 10
            # What the first was given in its last moment may be lost; the rest is not.
            assert eventually(lambda: len(second.messages) >= 10)
            time.sleep(1.0)
            assert len({one["request_id"] for one in second.messages}) >= 10
        assert first.wrong == second.wrong == []
        # Each trouble is told when it begins, and when it is over.
        assert gateway.stderr.count("Connection refused") <= 2


def test_a_reload_changes_where_lines_go(tmp_path: Path) -> None:
    with Receiver("tcp") as receiver, GatewayProcess(config('path = "access.log"'), tmp_path) as gateway:
        assert ask(gateway, 5) == [200] * 5
        gateway.rewrite(config(f'path = "syslog:tcp://127.0.0.1:{receiver.port}"'))
        assert gateway.command("reload").returncode == 0
        assert ask(gateway, 7) == [200] * 7
        assert eventually(lambda: len(receiver.messages) == 7)
        assert len(lines_of(tmp_path)) == 5


# Which.


def test_of_what_is_well_a_share_gets_a_line_and_all_errors_do(backend: Troubled, tmp_path: Path) -> None:
    routes = """
        [[routes]]
        name = "silent"
        path = "/silent"
        respond = {}
        log = false

        [[routes]]
        name = "loud"
        path = "/loud"
        respond = {}
        log = true
    """
    log = 'path = "access.log"\nsample = "20%"'
    with GatewayProcess(config(log, backend.address, routes), tmp_path) as gateway:
        assert set(ask(gateway, 1000)) == {200}
        assert set(ask(gateway, 100, b"/silent")) == {200}
        assert set(ask(gateway, 100, b"/loud")) == {200}
        backend.be("503")
        assert set(ask(gateway, 50, b"/broken")) == {503}
        lines = logged(tmp_path, 300)
    by_route: dict[str, list[Any]] = {}
    for line in lines:
        by_route.setdefault(line["route"], []).append(line)
    assert "silent" not in by_route
    assert (len(by_route["loud"]), len(by_route["rest"])) == (100, 50)
    # 200 are to be expected; four standard deviations are 51.
    assert 149 <= len(by_route["fixed"]) <= 251
    assert {line["sampled"] for line in by_route["fixed"]} == {0.2}
    assert {line["sampled"] for line in by_route["rest"]} == {1}
    # So counts can be scaled.
    assert 745 <= sum(1 / line["sampled"] for line in by_route["fixed"]) <= 1255


def test_what_is_slow_gets_a_line_that_says_where_the_time_has_gone(backend: Troubled, tmp_path: Path) -> None:
    log = f'path = "access.log"\nsample = "0%"\nslow = "{int(WELL_S * 4000)}ms"'
    with GatewayProcess(config(log, backend.address), tmp_path) as gateway:
        assert set(ask(gateway, 20, b"/quick")) == {200}
        backend.be("slow")
        assert set(ask(gateway, 3, b"/slow")) == {200}
        lines = logged(tmp_path, 3)
    assert [line["path"] for line in lines] == ["/slow"] * 3
    for line in lines:
        phases = ("queue_ms", "connect_ms", "upstream_ms", "body_ms", "earlier_ms", "gateway_ms")
        assert sum(line[phase] for phase in phases) == pytest.approx(line["duration_ms"], abs=0.01)
        assert line["upstream_ms"] > 0.9 * line["duration_ms"]


# What it hides.


def test_credentials_stand_in_no_line(backend: Troubled, tmp_path: Path) -> None:
    fields = '["path", "status", "referer", "header:Authorization", "header:X-Mine", "query:token", "query:page"]'
    log = f'path = "access.log"\nfields = {fields}\nredact = {{ headers = ["X-Mine"], query = ["otp"] }}'
    with GatewayProcess(config(log, backend.address), tmp_path) as gateway:
        secret = b"hunter2"
        targets = [
            b"/a?page=1&token=%b" % secret,
            b"/a?page=1&%%74o%%6Ben=%b" % secret,
            b"/a?TOKEN=%b&page=1" % secret,
            b"/a?user%%5Bpassword%%5D=%b" % secret,
            b"/a?otp=%b" % secret,
        ]
        headers = (
            b"Authorization: Bearer " + secret,
            b"X-Mine: " + secret,
            b"Referer: https://b.test/?access_token=" + secret,
        )
        for target in targets:
            assert ask(gateway, 1, target, *headers) == [200]
        lines = logged(tmp_path, len(targets))
    text = (tmp_path / "access.log").read_text()
    assert "hunter2" not in text
    assert {line["header:Authorization"] for line in lines} == {"REDACTED"}
    assert (lines[0]["query:page"], lines[0]["path"]) == ("1", "/a?page=1&token=REDACTED")
