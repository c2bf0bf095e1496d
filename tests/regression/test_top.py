"""Defects of `fastgw top`, as it draws and as it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw.runtime.top import screen
from tests.runtime.test_top import look, route
from tests.support.admin import with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess

_CONFIG = f"""
    [server]
    workers = 1

    [[listeners]]
    address = "{LISTEN}"

    [[routes]]
    name = "fixed"
    respond.body = "ok"

"""


class Top:
    """It runs on a terminal, all three of its streams."""

    def __init__(self, gateway: GatewayProcess, rows: int = 20) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 70, 0, 0))
        command = [sys.executable, "-m", "fastgw", "top", str(gateway.config_path)]
        self.process = subprocess.Popen(command, env=gateway.environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.shown = ""

    def shows(self, words: str, times: int = 1, seconds: float = 10.0) -> bool:
        """Whether it does in time, and before its end."""
        os.set_blocking(self._ours, False)
        until = time.monotonic() + seconds
        while self.shown.count(words) < times and time.monotonic() < until:
            try:
                self.shown += os.read(self._ours, 1 << 16).decode()
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        return self.shown.count(words) >= times

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def top(gateway: GatewayProcess) -> Iterator[Top]:
    running = Top(gateway)
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize("height", [0, 1, 3, 5, 8])
def test_a_small_terminal_was_written_over_its_end(height: int) -> None:
    now = look(1.0, [route("a", 1)], events=[{"at": "t", "kind": "k", "outcome": "o", "detail": "d"}])
    assert len(screen(now, now, 80, height).split("\n")) <= max(height, 1)


def test_what_was_since_the_start_stood_under_the_name_of_a_rate() -> None:
    before, now = look(1.0, [route("a", 1)], 1), look(3.0, [route("a", 9)], 9)
    assert "REQ/S" in screen(before, now, 200, 50)
    assert "REQ/S" not in screen(now, now, 200, 50)
    assert screen(now, now, 200, 50).count("REQUESTS") == 3


def test_why_it_ends_was_told_on_the_screen_that_goes_with_it(tmp_path: Path) -> None:
    with GatewayProcess(_CONFIG, tmp_path) as gateway, top(gateway) as running:
        assert running.shows("WORKER")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert running.process.wait(10) == 1
        assert running.shows("no gateway runs")
        assert "no gateway runs" in running.shown.rpartition("\x1b[?1049l")[2]


def test_any_key_showed_counts_as_rates_and_an_arrow_ended_it(tmp_path: Path) -> None:
    text, _ = with_admin(_CONFIG)
    with GatewayProcess(text, tmp_path) as gateway:
        with Client(gateway.address) as client:
            for _ in range(5000):
                client.ask(get())
        time.sleep(1.0)
        with top(gateway) as running:
            assert running.shows("WORKER", 3)
            already = len(running.shown)
            for _ in range(10):
                running.press(b"x\x1b[A")
                time.sleep(0.05)
            assert running.shows("WORKER", 5)
            lines = re.findall(r"^fixed .*", running.shown[already:].replace("\r", ""), re.M)
            assert lines
            assert not [line for line in lines if "5,000" in line]
            running.press(b"q")
            assert running.process.wait(10) == 0
