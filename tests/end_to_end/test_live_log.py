"""The log as it is made, over the admin API: who sees what, and that traffic does not notice."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.admin import Admin, with_admin
from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.load import Load
from tests.support.observe import descriptors, eventually, resident_bytes


def config(log: str = 'path = "off"') -> str:
    return f"""
        [server]
        workers = 2

        [access_log]
        {log}
        redact.query = ["ticket"]

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "one" }}

        [[routes]]
        name = "closed"
        path = "/closed"
        respond = {{ status = 503, body = "closed" }}

    """


class Tail:
    """Looks at the log, in a thread; `lines` and `dropped` are what has come."""

    def __init__(self, admin: Admin, query: str = "") -> None:
        self.lines: list[dict[str, Any]] = []
        self.dropped = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=20)
        self._connection.request("GET", f"/api/log{query}")
        self.response = self._connection.getresponse()
        self._socket = self._connection.sock or self.response.fp.raw._sock  # type: ignore[union-attr]
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        kind = ""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for line in self.response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "line":
                    self.lines.append(json.loads(value))
                elif name == "data":
                    self.dropped += json.loads(value)["count"]

    def paths(self) -> set[str]:
        return {line["path"] for line in self.lines}

    def __enter__(self) -> Self:
        assert self.response.status == 200
        assert self.response.headers["content-type"].startswith("text/event-stream")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._connection.close()


def ask(gateway: GatewayProcess, *paths: bytes) -> None:
    for path in paths:
        with Client(gateway.address) as client:
            assert client.ask(get(path)).status in (200, 404, 503)


def is_seen(gateway: GatewayProcess, tail: Tail, path: bytes) -> bool:
    """Whether a line comes for it, in the end: workers are told to send them in a moment."""

    def comes() -> bool:
        ask(gateway, path)
        return path.decode() in tail.paths()

    return eventually(comes)


def all_workers_send(gateway: GatewayProcess, tail: Tail) -> bool:
    """Each worker's ids begin with something else."""

    def both() -> bool:
        ask(gateway, *[b"/fixed"] * 4)
        return len({line["request_id"][:16] for line in tail.lines}) >= 2

    return eventually(both)


def test_lines_of_all_workers_come_with_secrets_hidden(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway, Tail(admin) as tail:
        assert all_workers_send(gateway, tail)
        ask(gateway, b"/fixed?ticket=hush&token=hush&a=1", b"/nowhere?jwt=hush", b"/closed")
        seen = {"/fixed?ticket=REDACTED&token=REDACTED&a=1", "/nowhere?jwt=REDACTED", "/closed"}
        assert eventually(lambda: seen <= tail.paths())
        assert "hush" not in json.dumps(tail.lines)
        [line] = [line for line in tail.lines if line["path"] == "/closed"]
        assert (line["status"], line["route"], line["client"], line["method"]) == (503, "closed", "127.0.0.1", "GET")
        # The log itself is off.
        assert (tmp_path / "stdout").read_bytes() == b""


def test_a_route_or_a_status_is_looked_at_alone_and_each_as_it_is_asked_for(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with (
        GatewayProcess(text, tmp_path) as gateway,
        Tail(admin, "?route=closed") as closed,
        Tail(admin, "?status=404") as missing,
        Tail(admin, "?route=") as nobody_s,
        Tail(admin, "?status=2xx&route=fixed") as fixed,
    ):
        assert is_seen(gateway, closed, b"/closed?0")
        assert is_seen(gateway, missing, b"/nowhere?0")
        assert is_seen(gateway, nobody_s, b"/nowhere?1")
        assert is_seen(gateway, fixed, b"/fixed?0")
        for tail, path in ((closed, "/closed"), (missing, "/nowhere"), (nobody_s, "/nowhere"), (fixed, "/fixed")):
            assert {seen.partition("?")[0] for seen in tail.paths()} == {path}


def test_all_exchanges_are_seen_with_the_fields_of_the_log_though_that_has_few_of_them(tmp_path: Path) -> None:
    log = 'sample = "0%"\nfields = ["path", "request_id", "header:X-A"]'
    text, admin = with_admin(config(log))
    with GatewayProcess(text, tmp_path) as gateway, Tail(admin, "?route=fixed") as tail:
        assert is_seen(gateway, tail, b"/fixed?0")
        assert set(tail.lines[0]) == {"path", "request_id", "header:X-A", "sampled"}
    assert "/fixed" not in (tmp_path / "stdout").read_text()


def test_whoever_asks_for_what_there_is_not_is_told_what_there_is(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path):
        status, headers, body = admin.ask("/api/log?route=fixd")
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["detail"] == 'There is no route "fixd"; did you mean "fixed"?'
        detail = json.loads(admin.ask("/api/log?route=unheard-of")[2])["detail"]
        assert detail == 'There is no route "unheard-of"; there are "closed", "fixed"'
        assert admin.ask("/api/log?status=5x")[0] == 400


def test_there_are_only_so_many_who_look(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway, contextlib.ExitStack() as looking:
        tails = [looking.enter_context(Tail(admin)) for _ in range(16)]
        assert admin.ask("/api/log")[0] == 503
        assert is_seen(gateway, tails[-1], b"/fixed?0")
        tails[0].__exit__(None, None, None)
        # A place is free again.

        def is_free() -> bool:
            with contextlib.suppress(AssertionError), Tail(admin):
                return True
            return False

        assert eventually(is_free)


def test_it_goes_on_through_reloads_and_without_a_worker_that_was_killed(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway, Tail(admin) as tail:
        assert all_workers_send(gateway, tail)
        # The log changes under it, and it has other fields.
        log = 'path = "access.log"\nfields = ["path", "request_id", "upstream"]'
        gateway.rewrite(text.replace('path = "off"', log))
        assert admin.post("/api/reload", None)[0] == 200
        ask(gateway, b"/fixed?reloaded")
        assert eventually(lambda: "/fixed?reloaded" in tail.paths())
        [line] = [line for line in tail.lines if line["path"] == "/fixed?reloaded"]
        assert set(line) == {"path", "request_id", "upstream"}
        written = tmp_path / "access.log"
        assert eventually(lambda: written.exists() and b"/fixed?reloaded" in written.read_bytes())
        before = len({line["request_id"][:16] for line in tail.lines})
        victim = gateway.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: len(gateway.worker_pids()) == 2 and victim not in gateway.worker_pids())

        def successor_is_seen() -> bool:
            # One of these may be that of a worker that has ended.
            with contextlib.suppress(ConnectionError, AssertionError):
                ask(gateway, *[b"/fixed"] * 4)
            return len({line["request_id"][:16] for line in tail.lines}) == before + 1

        assert eventually(successor_is_seen)


LONG = b"/fixed?" + b"a" * 7000


def lost(admin: Admin) -> float:
    return sum(value for (name, *_), value in admin.samples().items() if name == "worker_lost_news_total")


def loaded(gateway: GatewayProcess) -> Load:
    def is_right(answer: Received) -> bool:
        return answer.status == 200 and answer.body == b"one"

    return Load([lambda: Client(gateway.address)], 8, lambda _number: get(LONG), is_right)


def loses_while_nobody_hears(gateway: GatewayProcess, admin: Admin) -> bool:
    """Whether workers lose what they tell when their supervisor is stopped, for long enough: so they tell something."""
    before = lost(admin)
    gateway.signal(signal.SIGSTOP)
    try:
        with loaded(gateway) as load:
            until = time.monotonic() + 1.5
            assert eventually(lambda: time.monotonic() > until)
        assert load.wrong == []
    finally:
        gateway.signal(signal.SIGCONT)
    # What they have counted is there half a second later.
    return eventually(lambda: lost(admin) > before, 1.5)


def test_workers_send_nothing_any_more_when_the_last_one_who_looks_is_gone(tmp_path: Path) -> None:
    text, admin = with_admin(config().replace("workers = 2", "workers = 1"))
    with GatewayProcess(text, tmp_path) as gateway:
        assert not loses_while_nobody_hears(gateway, admin)
        with Tail(admin) as tail:
            assert is_seen(gateway, tail, b"/fixed?0")
            assert loses_while_nobody_hears(gateway, admin)
            assert is_seen(gateway, tail, b"/fixed?1")
        # He was in the middle of lines, and did not say goodbye.
        assert eventually(lambda: not loses_while_nobody_hears(gateway, admin))


def test_who_does_not_read_loses_lines_and_neither_traffic_nor_the_supervisor_suffers(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway, Tail(admin, "?status=404") as other, Tail(admin) as quick:
        stuck = Tail(admin)
        memory = resident_bytes(gateway.pid)
        until = time.monotonic() + 8
        with loaded(gateway) as load:
            # For long enough to fill what there is between the two.
            assert eventually(lambda: load.asked >= 10_000 and time.monotonic() > until, 60)
            # Others who look see what they want all the while.
            assert is_seen(gateway, other, b"/nowhere?0")
        assert load.wrong == []
        assert resident_bytes(gateway.pid) - memory < 32 * 1024 * 1024
        assert admin.get("/readyz") == {"status": "ok"}
        with stuck:
            assert eventually(lambda: stuck.dropped > quick.dropped + 100)
            assert len(stuck.lines) < len(quick.lines)
            # And what is new, when it reads again.
            assert is_seen(gateway, stuck, b"/fixed?1")


def test_whoever_looks_keeps_no_gateway_from_stopping_and_leaves_nothing_open(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        with Tail(admin) as tail:
            assert is_seen(gateway, tail, b"/fixed?0")
        before = descriptors(gateway.pid)
        for _ in range(10):
            with Tail(admin):
                pass
        assert eventually(lambda: descriptors(gateway.pid) <= before)
        last = Tail(admin)
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        gateway.wait()
        assert time.monotonic() - began < 10
        with last:
            pass
