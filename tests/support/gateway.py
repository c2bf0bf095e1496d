"""The gateway as its users run it: `python -m fastgw run`, on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path
from types import TracebackType

from tests.support.observe import eventually

ROOT = Path(__file__).parents[2]
# Stands for the listener's address in a configuration.
LISTEN = "@LISTEN@"

_START_S = 20.0
_STOP_S = 20.0
# Between finding a free port and binding it, somebody else may take it.
_ATTEMPTS = 5


# Below the range that the kernel picks client ports from, and so that tests which run beside these have others.
_PORTS_OF_ONE = 1000
_FIRST_PORT = 10_000 + _PORTS_OF_ONE * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10)
_ports = cycle(random.sample(range(_FIRST_PORT, _FIRST_PORT + _PORTS_OF_ONE), _PORTS_OF_ONE))


def free_port() -> int:
    """One that was not given lately: two that are asked for in turn are to be two."""
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle has no end")


def _name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class GatewayProcess:
    """A running gateway; leaving the context stops it and sees to it that it ended well.

    `config` is the TOML text, with LISTEN where the listener's address goes. Its standard output goes to the file
    `stdout` in `directory`, or to the descriptor `stdout`. Its code is that in the directory `source`.
    """

    def __init__(self, config: str, directory: Path, stdout: int | None = None, source: Path = ROOT) -> None:
        self._config = config
        self._stdout = stdout
        self._source = source
        self._successor: int | None = None
        self.directory = directory
        self.config_path = directory / "config.toml"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._told: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        with self._news:
            return "".join(self._told)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._source)}

    def start(self) -> GatewayProcess:
        for _ in range(_ATTEMPTS):
            self.port = free_port()
            self.config_path.write_text(self._config.replace(LISTEN, f"127.0.0.1:{self.port}"))
            self._launch()
            if self.wait_until_it_says("serving", _START_S):
                return self
            self._end_of(self._running())
            if "can't listen" not in self.stderr:
                break
        raise AssertionError(f"the gateway does not start:\n{self.stderr}")

    def _launch(self) -> None:
        self._told, self._ended = [], False
        with (self.directory / "stdout").open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fastgw", "run", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=file if self._stdout is None else self._stdout,
                stderr=subprocess.PIPE,
                cwd=self.directory,
                env=self.environment,
            )
        self._reader = threading.Thread(target=self._read_stderr, args=(self.process,), daemon=True)
        self._reader.start()

    def _read_stderr(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._news:
                    self._told.append(line.decode())
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def wait_until_it_says(self, words: str, seconds: float = 10.0) -> bool:
        """Whether `words` come on standard error in time, and before its end."""
        until = time.monotonic() + seconds
        with self._news:
            while not any(words in line for line in self._told):
                left = until - time.monotonic()
                if self._ended or left <= 0:
                    return False
                self._news.wait(left)
        return True

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._running().pid if self._successor is None else self._successor

    def command(self, name: str) -> subprocess.CompletedProcess[str]:
        """What a command says to this gateway."""
        return subprocess.run(
            [sys.executable, "-m", "fastgw", name, str(self.config_path), "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def upgrade(self) -> None:
        """Has another process take its place, by the command."""
        done = self.command("upgrade")
        assert done.returncode == 0, done.stderr + done.stdout + self.stderr
        before, status = self.pid, json.loads(self.command("status").stdout)
        assert status["pid"] != before
        if self._successor is None:
            assert self._running().wait(_STOP_S) == 0
        self.is_replaced_by(int(status["pid"]))

    def is_replaced_by(self, pid: int) -> None:
        """From now on this is about that process."""
        self._successor = pid

    def worker_pids(self) -> list[int]:
        """The processes that carry the traffic."""
        return self.children("fastgw-worker")

    def children(self, name: str) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if _name_of(child) == name]

    def successor(self) -> int:
        """The process that is to take its place; waits until it is there."""
        found: list[int] = []

        def is_there() -> bool:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children}
            found[:] = [pid for pid, command in commands.items() if b"run" in command]
            return len(found) == 1

        assert eventually(is_there)
        return found[0]

    def rewrite(self, config: str) -> None:
        """Changes the configuration's file, but does not tell."""
        self.config_path.write_text(config.replace(LISTEN, f"127.0.0.1:{self.port}"))

    def worker_pid(self) -> int:
        """The process that carries the traffic, when there is one."""
        pids = self.worker_pids()
        assert len(pids) == 1, f"one worker, not {pids}"
        return pids[0]

    def wait(self) -> int:
        """Its exit status."""
        return self._end_of(self._running())

    def _end_of(self, process: subprocess.Popen[bytes]) -> int:
        try:
            status = process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway does not stop:\n{self.stderr}") from None
        if self._reader is not None:
            self._reader.join(_STOP_S)
        return status

    def kill(self) -> None:
        """Ends it, whatever it does; for tests in which it may be gone or hang. Its workers end by themselves."""
        if self._successor is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
        process = self.process
        if process is not None and process.poll() is None:
            process.kill()
            self.wait()

    def stop(self) -> None:
        """Drains it, and asserts that it ended well and met no bug of its own."""
        if self._successor is not None or self._running().poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f"the gateway ended with {status}:\n{self.stderr}"
        # All that belong to it have ended, a successor too, which is nobody's child here.
        assert self._ended, self.stderr
        assert "a bug:" not in self.stderr, self.stderr
        assert "drain_timeout is over" not in self.stderr, self.stderr

    def __enter__(self) -> GatewayProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
