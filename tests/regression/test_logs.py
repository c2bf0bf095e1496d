"""Defects of the access log, each named after what was wrong."""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from fastgw import errors
from fastgw.exchange import Exchange
from fastgw.net import log_writer
from fastgw.net.log_writer import LinesLost, Writer
from fastgw.policy.access_log import PHASES, LineEncoder
from tests.fakes import FakeConnection, FakePool, Line, records
from tests.net.rig import CONFIG, Rig
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually

_CONFIG = f"""
    [server]
    workers = 2

    [[listeners]]
    address = "{LISTEN}"

    [[routes]]
    respond.body = "ok"
"""
_CLIENTS = 8
_REQUESTS = 1500


def read_to_end(descriptor: int, pieces: list[bytes]) -> None:
    while piece := os.read(descriptor, 65536):
        pieces.append(piece)


def test_the_lines_of_several_workers_tore_each_other_on_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pieces: list[bytes] = []
    reading = threading.Thread(target=read_to_end, args=(reader, pieces))
    with GatewayProcess(_CONFIG, tmp_path, stdout=writer) as gateway:
        os.close(writer)
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(gateway.address)) for _ in range(_CLIENTS)]
            for client in clients:
                client.send(get() * _REQUESTS)
            for client in clients:
                for _ in range(_REQUESTS):
                    assert client.read_answer().status == 200
        # Only now, when all of them wait for room in the pipe.
        reading.start()
    reading.join(20.0)
    os.close(reader)
    lines = b"".join(pieces).splitlines()
    assert len(lines) == _CLIENTS * _REQUESTS
    assert all(json.loads(line)["status"] == 200 for line in lines)


def test_a_client_over_the_limit_was_refused_without_a_line() -> None:
    rig = Rig('[[listeners]]\naddress = "127.0.0.1:0"\nmax_connections = 1\n' + CONFIG)
    rig.client()
    refused = rig.client(("192.0.2.9", 4712))
    assert b"\r\nRetry-After: 1\r\n" in refused.take()
    (line,) = rig.logged
    assert (line.client, line.status, line.reason) == (b"192.0.2.9", 503, errors.CONNECTION_LIMIT.reason)


def told(exchange: Exchange, *fields: str) -> dict[str, float | str]:
    """Its line."""
    return dict(json.loads(LineEncoder("json", fields).encode(records(exchange), 0.0)))


class AtOnce:
    """Everything is sent again, without a wait."""

    max_body = 100

    def wait_s(self, exchange: Exchange, condition: int, status: int, retry_after: bytes | None) -> float:
        return 0.0


@pytest.mark.parametrize("reused", [False, True])
def test_a_second_try_without_a_connection_was_told_with_phases_longer_than_the_whole(reused: bool) -> None:
    pool = FakePool("a", FakeConnection(), None, endpoints=2)
    pool.retries = cast(Any, AtOnce())
    line = Line(CONFIG, pool)
    exchange = line.get("/")
    line.clock.now += 1.0
    # On a connection that was used before, that is no retry.
    exchange.upstream_failed(errors.UPSTREAM_RESET, True, reused)
    line.clock.now += 2.0
    exchange.queued_s = 2.0
    exchange.not_connected(errors.QUEUE_TIMEOUT, -1)
    phases = told(exchange, "duration_us", *PHASES)
    times = (phases["duration_us"], phases["queue_us"], phases["upstream_us"])
    assert times == pytest.approx((3_000_000, 2_000_000, 0), abs=1)
    assert sum(float(phases[name]) for name in PHASES) == pytest.approx(phases["duration_us"], abs=len(PHASES))


class Stuck:
    """Has no room, ever."""

    name = "there"

    def write(self, lines: memoryview) -> int:
        return 0

    def close(self) -> None:
        pass


def test_lines_that_a_stuck_target_had_not_taken_at_the_end_were_lost_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_writer, "_CLOSE_S", 0.01)
    reports: list[str] = []
    writer = Writer(Stuck(), reports.append)
    writer.put(b"a\nb\n")
    writer.put(b"c\n")
    writer.close()
    assert writer.dropped == 3
    assert reports[-1] == "access log there ends: 3 lines were lost"


_USER = b"GET / HTTP/1.1\r\nHost: a.test\r\nReferer: https://me:hunter2@b.test/x?a=1"
_RESPOND = '[[routes]]\nrespond.body = "x"\n'


@pytest.mark.parametrize("field", ["referer", "header:Referer"])
def test_the_user_and_the_password_in_a_url_were_shown(field: str) -> None:
    line = LineEncoder("json", (field,)).encode(records(Line(_RESPOND).request(_USER)), 0.0)
    assert json.loads(line)[field] == "https://REDACTED@b.test/x?a=1"
    assert b"hunter2" not in LineEncoder("combined", ()).encode(records(Line(_RESPOND).request(_USER)), 0.0)


def test_a_token_in_the_url_that_a_parameter_holds_was_shown_in_its_own_field() -> None:
    exchange = Line(_RESPOND).get("/?next=%2Fcb%3Ftoken%3Dsecret")
    assert told(exchange, "path", "query:next") == {
        "path": "/?next=%2Fcb%3Ftoken%3DREDACTED",
        "query:next": "/cb?token=REDACTED",
    }


class Refused:
    """Takes a line, and says with the next one that it was lost, as UDP does where nobody listens."""

    name = "there"

    def __init__(self) -> None:
        self.is_there = False
        self.has_lost = False
        self.taken = 0

    def write(self, lines: memoryview) -> int:
        if self.has_lost:
            self.has_lost = False
            raise LinesLost("refused", 0, 1)
        self.has_lost = not self.is_there
        self.taken += 1
        return len(lines)

    def close(self) -> None:
        pass


def test_a_trouble_that_lasts_was_told_as_over_whenever_there_was_no_line_for_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_writer, "_CALM_S", 0.01)
    reports: list[str] = []
    target = Refused()
    writer = Writer(target, reports.append)
    for number in range(1, 5):
        writer.put(b"a\n")
        assert eventually(lambda number=number: target.taken == number)  # type: ignore[misc]
        # All the time that it takes to be well again.
        threading.Event().wait(0.03)
    assert reports == ["access log there: refused; lines may get lost until that is over"]
    target.is_there = True
    for number in range(5, 7):
        writer.put(b"a\n")
        assert eventually(lambda number=number: target.taken == number)  # type: ignore[misc]
    assert eventually(lambda: len(reports) == 2)
    assert reports[1] == "access log there is well again: 4 lines were lost"
    writer.close()
