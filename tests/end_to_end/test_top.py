"""`fastgw top`, on a terminal and elsewhere, and what it draws from."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.support.admin import with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually

COUNT = 30


def config() -> str:
    return f"""
        [server]
        workers = 2

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = ["127.0.0.1:1"]

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "ok" }}

        [[routes]]
        name = "rest"
        upstream = "a"

    """


def ask(gateway: GatewayProcess, path: bytes, count: int = COUNT) -> None:
    for _ in range(count):
        with Client(gateway.address) as client:
            client.ask(get(path))


def top(gateway: GatewayProcess, *arguments: str) -> str:
    command = [sys.executable, "-m", "fastgw", "top", str(gateway.config_path), *arguments]
    done = subprocess.run(
        command,
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_counted_is_shown(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed")
        ask(gateway, b"/rest", 3)

        def routes() -> dict[str, list[str]]:
            lines = [line.split() for line in top(gateway).splitlines()]
            return {words[0]: words for words in lines if words and words[0] in ("fixed", "rest")}

        assert eventually(lambda: routes().get("fixed", [""])[1:4] == [str(COUNT), "0", "%"])
        assert routes()["rest"][1:4] == ["3", "100", "%"]
        shown = top(gateway, "--once")
        assert f"{COUNT + 3} requests" in shown
        assert "127.0.0.1:1  up" in shown
        told = json.loads(top(gateway, "--json"))
        over_http = admin.get("/api/summary")
        assert [route["name"] for route in over_http["routes"]] == [route["name"] for route in told["routes"]]
        assert over_http["upstreams"][0]["endpoints"][0]["failures"]["connect-failure"] == 3


def test_without_an_admin_api_workers_are_shown_all_the_same(tmp_path: Path) -> None:
    with GatewayProcess(config(), tmp_path) as gateway:
        ask(gateway, b"/fixed")
        assert eventually(lambda: f"{COUNT} requests" in top(gateway))
        assert "ROUTE" not in top(gateway)


def test_on_a_terminal_it_is_drawn_again_and_again_until_q(tmp_path: Path) -> None:
    text, _ = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        ask(gateway, b"/fixed")
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "fastgw", "top", str(gateway.config_path)]
        process = subprocess.Popen(command, env=gateway.environment, stdin=theirs, stdout=theirs, stderr=theirs)
        shown = b""

        def has_drawn(times: int) -> bool:
            nonlocal shown
            os.set_blocking(ours, False)
            try:
                shown += os.read(ours, 1 << 16)
            except BlockingIOError:
                time.sleep(0.05)
            return shown.count(b"WORKER") >= times

        assert eventually(lambda: has_drawn(3), 20)
        ask(gateway, b"/fixed", 5)
        os.write(ours, b"q")
        assert process.wait(10) == 0
        has_drawn(99)
        # The screen and the keyboard are as they were.
        assert termios.tcgetattr(theirs) == before
        assert shown.startswith(b"\x1b[?1049h")
        assert shown.endswith(b"\x1b[?1049l")
        lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode().split("\r\n")
        assert max(map(len, lines)) <= 60
        assert any(line.startswith("fixed ") for line in lines)
        os.close(ours)
        os.close(theirs)


def test_it_ends_with_the_gateway(tmp_path: Path) -> None:
    with GatewayProcess(config(), tmp_path) as gateway:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        command = [sys.executable, "-m", "fastgw", "top", str(gateway.config_path)]
        process = subprocess.Popen(
            command, env=gateway.environment, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True
        )
        assert eventually(lambda: b"WORKER" in os.read(ours, 1 << 16), 20)
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert process.wait(10) == 1
        assert process.stderr is not None
        with process.stderr:
            assert "no gateway runs" in process.stderr.read()
        os.close(ours)
        os.close(theirs)
