from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw.runtime.systemd import Notifier, lent_sockets
from tests.support.client import Client
from tests.support.gateway import ROOT, free_port
from tests.support.observe import ends
from tests.support.programs import program

CONFIG = """
    [server]
    workers = 2
    [[listeners]]
    address = "127.0.0.1:{port}"
    [[routes]]
    path = "/*"
    respond = {{ body = "here" }}
"""
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service manager hears of its services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def test_the_state_is_told_in_lines(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "HOME": "/"}
    notifier = Notifier(environment)
    assert environment == {"HOME": "/"}
    notifier.ready("serving a.toml")
    assert heard(manager) == ["READY=1", "STATUS=serving a.toml"]
    notifier.reloading()
    reloading, at = heard(manager)
    assert reloading == "RELOADING=1"
    assert at.startswith("MONOTONIC_USEC=")
    notifier.stopping()
    assert heard(manager) == ["STOPPING=1"]
    notifier.replaced_by(17)
    assert heard(manager) == ["MAINPID=17"]
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]


def test_an_abstract_address_is_written_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0fastgw-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@fastgw-test-{os.getpid()}"}).stopping()
        assert heard(sock) == ["STOPPING=1"]


def test_without_a_manager_nothing_is_told_and_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    Notifier({}).ready("")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        # Meant for the process that has started this one.
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_fed_when_it_is_ours(environment: dict[str, str], seconds: float) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/none", **environment}).watchdog_s == seconds


def test_a_successor_is_told_where_the_manager_is() -> None:
    given = {"NOTIFY_SOCKET": "/run/none", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    ours = Notifier(given)
    theirs = ours.for_successor({"HOME": "/"})
    assert theirs == {"HOME": "/", "NOTIFY_SOCKET": "/run/none", "WATCHDOG_USEC": "2000000"}
    assert Notifier({}).for_successor({"HOME": "/"}) == {"HOME": "/"}


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "x"}])
def test_sockets_that_are_not_meant_for_us_are_left_alone(environment: dict[str, str]) -> None:
    assert lent_sockets(environment) is None
    assert environment == {}


def test_a_service_says_that_it_is_ready_fed_reloading_and_stopping(manager: socket.socket, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "600000000",
    }
    command = [sys.executable, "-m", "fastgw", "run", str(config)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        assert heard(manager) == ["WATCHDOG=1"]
        assert heard(manager) == ["READY=1", f"STATUS=serving {config}"]
        process.send_signal(signal.SIGHUP)
        assert heard(manager)[0] == "RELOADING=1"
        assert heard(manager)[0] == "READY=1"
        process.send_signal(signal.SIGTERM)
        assert heard(manager) == ["STOPPING=1"]
        assert process.wait(20) == 0


def test_a_manager_hears_that_another_process_is_the_service_now(manager: socket.socket, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": manager.getsockname()}
    command = [sys.executable, "-m", "fastgw", "run", str(config)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        assert heard(manager)[0] == "READY=1"
        process.send_signal(signal.SIGUSR2)
        (main,) = heard(manager)
        assert heard(manager)[0] == "READY=1"
        assert process.wait(20) == 0
        successor = int(main.removeprefix("MAINPID="))
        ending = os.pidfd_open(successor)
        os.kill(successor, signal.SIGTERM)
        assert heard(manager) == ["STOPPING=1"]
        assert ends(ending)
        os.close(ending)


def test_a_socket_of_systemd_is_served_and_left_to_it(tmp_path: Path) -> None:
    activate = program("systemd-socket-activate", "systemd")
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=port))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    fastgw = [sys.executable, "-m", "fastgw", "run", str(config)]
    command = [activate, "--setenv=PYTHONPATH", "-l", f"127.0.0.1:{port}", *fastgw]
    # It listens, and becomes the gateway when the first client comes.
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"Listening on" in process.stderr.readline()
        with Client(("127.0.0.1", port)) as client:
            assert client.ask(GET).body == b"here"
        with Client(("127.0.0.1", port)) as client:
            assert client.ask(GET).body == b"here"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert b"started with is no listener's" not in process.stderr.read()


def test_a_lent_socket_takes_clients_after_the_gateway_has_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as lent:
        config = tmp_path / "config.toml"
        config.write_text(CONFIG.format(port=lent.getsockname()[1]))
        # What a service manager does between fork and exec.
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
            "os.execv(sys.executable, [sys.executable, '-m', 'fastgw', 'run', sys.argv[2]])"
        )
        command = [sys.executable, "-c", start, str(lent.fileno()), str(config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment, pass_fds=[lent.fileno()], stdin=subprocess.DEVNULL) as process:
            with Client(lent.getsockname()) as client:
                assert client.ask(GET).body == b"here"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        # It waits to be accepted by whoever comes next.
        with Client(lent.getsockname()):
            lent.settimeout(10)
            lent.accept()[0].close()
