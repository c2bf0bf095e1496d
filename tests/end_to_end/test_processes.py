"""The supervisor and its workers: how they start, stop, die and are replaced, and what clients see of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, ROOT, GatewayProcess
from tests.support.observe import connections_of, ends, eventually
from tests.support.played import PlayedBackend

IN_FLIGHT = 64
IDLE = 32
# Of an answer of which a part is sent before the stop, and the rest after it.
BODY = b"the whole answer"


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


class Start(Protocol):
    def __call__(self, config: str) -> GatewayProcess: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway that the test stops itself."""
    started: list[GatewayProcess] = []

    def start(config: str) -> GatewayProcess:
        started.append(GatewayProcess(config, tmp_path))
        return started[-1].start()

    yield start
    for gateway in started:
        gateway.kill()


def config(address: str, workers: int = 1) -> str:
    return f"""
        [server]
        workers = {workers}
        drain_timeout = "10s"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = ["{address}"]

        [[routes]]
        path = "/here"
        respond = {{ body = "here" }}

        [[routes]]
        path = "/*"
        upstream = "backend"
    """


def run_to_the_end(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`fastgw run` where it can't start."""
    return subprocess.run(
        [sys.executable, "-m", "fastgw", "run", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def accepts(gateway: GatewayProcess) -> bool:
    """Whether somebody listens on its port."""
    try:
        Client(gateway.address).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_lets_every_exchange_in_flight_end(number: int, played: PlayedBackend, start: Start) -> None:
    gateway = start(config(played.address))
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Client(gateway.address)) for _ in range(IDLE)]
        for client in idle:
            assert client.ask(get(b"/here")).body == b"here"
        busy = [stack.enter_context(Client(gateway.address)) for _ in range(IN_FLIGHT)]
        for client in busy:
            client.send(get())
        waiting = [played.accept() for _ in busy]
        for connection in waiting:
            connection.read_request()
        # Half of them have a part of their answer already.
        for connection in waiting[::2]:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY[:4]))
        gateway.signal(number)
        for client in idle:
            assert client.read_to_end() == b""
        for connection in waiting[::2]:
            connection.send(BODY[4:])
        for connection in waiting[1::2]:
            connection.answer(BODY)
        received = [client.read_answer() for client in busy]
        assert [(one.status, one.body) for one in received] == [(200, BODY)] * IN_FLIGHT
        assert all(client.read_to_end() == b"" for client in busy)
    gateway.stop()


def test_a_second_stop_waits_for_nobody(played: PlayedBackend, start: Start) -> None:
    gateway = start(config(played.address))
    with Client(gateway.address) as client:
        client.send(get())
        played.accept().read_request()
        gateway.signal(signal.SIGTERM)
        # Of the first it is told when the port closes.
        assert eventually(lambda: not accepts(gateway))
        gateway.signal(signal.SIGTERM)
        assert client.read_to_end() == b""
    assert gateway.wait() == 0
    assert "what is in flight is broken off" in gateway.stderr


def test_what_is_on_its_way_when_the_stop_begins_is_answered(backend: RecordingBackend, start: Start) -> None:
    gateway = start(config(backend.address))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.address)) for _ in range(IDLE)]
        for client in clients[::2]:
            client.ask(get(b"/here"))
        worker = gateway.worker_pid()
        os.kill(worker, signal.SIGSTOP)
        try:
            for client in clients:
                client.send(get(b"/here"))
            gateway.signal(signal.SIGTERM)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert [client.read_answer().body for client in clients] == [b"here"] * IDLE
    gateway.stop()


def test_a_stop_does_not_wait_longer_than_it_is_told(played: PlayedBackend, start: Start) -> None:
    text = config(played.address).replace('drain_timeout = "10s"', 'drain_timeout = "300ms"')
    gateway = start(text)
    with Client(gateway.address) as client:
        client.send(get())
        connection = played.accept()
        connection.read_request()
        gateway.signal(signal.SIGTERM)
        assert client.read_to_end() == b""
        assert connection.ended()
    assert gateway.wait() == 0
    assert "drain_timeout is over: 1 connections are closed as they are" in gateway.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_during_a_stop_new_clients_are_refused_at_once(workers: int, played: PlayedBackend, start: Start) -> None:
    gateway = start(config(played.address, workers))
    with Client(gateway.address) as client:
        client.send(get())
        connection = played.accept()
        connection.read_request()
        gateway.signal(signal.SIGTERM)

        assert eventually(lambda: not accepts(gateway))
        connection.answer(BODY)
        assert client.read_answer().body == BODY
    gateway.stop()


def test_a_worker_that_is_stopped_alone_is_replaced_on_the_same_socket(
    backend: RecordingBackend, tmp_path: Path
) -> None:
    with GatewayProcess(config(backend.address), tmp_path) as gateway:
        os.kill(gateway.worker_pid(), signal.SIGTERM)
        assert gateway.wait_until_it_says("another takes over")

        def is_served() -> bool:
            try:
                with Client(gateway.address) as client:
                    return client.ask(get(b"/here")).body == b"here"
            except OSError:
                return False

        assert eventually(is_served)


def test_any_free_port_is_the_same_one_for_all_workers_and_is_told(tmp_path: Path, start: Start) -> None:
    gateway = start(config("127.0.0.1:1", workers=2).replace(LISTEN, "127.0.0.1:0"))
    (told,) = [line for line in gateway.stderr.splitlines() if "serving" in line]
    port = int(told.rpartition(":")[2].rstrip(")"))
    assert port
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(("127.0.0.1", port))) for _ in range(IDLE)]
        assert [client.ask(get(b"/here")).body for client in clients] == [b"here"] * IDLE
        held = [connections_of(pid, port) for pid in gateway.worker_pids()]
        assert sum(held) == IDLE
        assert all(held), held
    gateway.stop()


def test_a_second_gateway_on_the_same_port_says_so_and_leaves_the_first_alone(
    backend: RecordingBackend, tmp_path: Path
) -> None:
    with GatewayProcess(config(backend.address), tmp_path) as gateway:
        done = run_to_the_end(tmp_path, str(gateway.config_path))
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert f"can't listen on 127.0.0.1:{gateway.port}: address already in use; stop the program" in done.stderr
        with Client(gateway.address) as client:
            assert client.ask(get(b"/here")).body == b"here"


def test_a_bad_configuration_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[[listeners]]\naddress = "127.0.0.1:0x"\nlimit = 1\n\n[[routes]]\nupstream = "nowhere"\n')
    done = run_to_the_end(tmp_path, str(path))
    assert done.returncode == 1
    places = [line for line in done.stderr.splitlines() if "bad.toml:" in line]
    assert [line.split("bad.toml:")[1].split(":")[0] for line in places] == ["2", "3", "6"]


def test_a_missing_configuration_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run_to_the_end(tmp_path, "missing.toml")
    assert done.returncode == 1
    assert "missing.toml: there is no such file" in done.stderr


def test_a_worker_that_dies_is_replaced_while_the_port_stays_open(backend: RecordingBackend, tmp_path: Path) -> None:
    with GatewayProcess(config(backend.address), tmp_path) as gateway:
        dead = gateway.worker_pid()
        with Client(gateway.address) as lost:
            assert lost.ask(get()).status == 200
            os.kill(dead, signal.SIGKILL)
            assert lost.read_to_end() == b""
        # The kernel holds them until the next worker takes them.
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(gateway.address)) for _ in range(IDLE)]
            assert [client.ask(get()).body for client in clients] == [b"ok"] * IDLE
        assert gateway.worker_pid() != dead
        assert gateway.wait_until_it_says("another takes over")


def test_a_worker_does_not_outlive_its_supervisor(backend: RecordingBackend, start: Start) -> None:
    gateway = start(config(backend.address))
    worker = gateway.worker_pid()
    watch = os.pidfd_open(worker)
    try:
        gateway.signal(signal.SIGKILL)
        assert gateway.wait() == -signal.SIGKILL
        assert ends(watch)
    finally:
        os.close(watch)


def test_two_workers_both_serve(backend: RecordingBackend, tmp_path: Path) -> None:
    with GatewayProcess(config(backend.address, workers=2), tmp_path) as gateway:
        pids = gateway.worker_pids()
        assert len(pids) == 2
        with contextlib.ExitStack() as stack:
            # The kernel shares connections out by their addresses: of so many, both get some.
            clients = [stack.enter_context(Client(gateway.address)) for _ in range(IDLE)]
            assert [client.ask(get(b"/here")).body for client in clients] == [b"here"] * IDLE
            held = {pid: connections_of(pid, gateway.port) for pid in pids}
            assert sum(held.values()) == IDLE
            assert all(held.values()), held


def test_two_workers_are_both_replaced_and_both_stopped(backend: RecordingBackend, tmp_path: Path) -> None:
    with GatewayProcess(config(backend.address, workers=2), tmp_path) as gateway:
        dead = gateway.worker_pids()
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(gateway.address)) for _ in range(IDLE)]
            assert [client.ask(get(b"/here")).body for client in clients] == [b"here"] * IDLE
        assert eventually(lambda: len(set(gateway.worker_pids()) - set(dead)) == 2)


def unix_config(path: Path) -> str:
    return f"""
        [server]
        workers = 2
        [[listeners]]
        address = "{LISTEN}"
        [[listeners]]
        address = "unix:{path}"
        [[routes]]
        respond = {{ body = "here" }}
    """


def test_one_worker_that_is_stopped_leaves_the_unix_socket_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with GatewayProcess(unix_config(path), tmp_path) as gateway:
        stopped = gateway.worker_pids()[0]
        watch = os.pidfd_open(stopped)
        os.kill(stopped, signal.SIGTERM)
        assert ends(watch)
        os.close(watch)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(str(path))) for _ in range(IDLE)]
            assert [client.ask(get()).body for client in clients] == [b"here"] * IDLE


def test_the_file_of_a_unix_socket_is_gone_when_a_stop_begins(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "gateway.sock"
    gateway = start(unix_config(path))
    with Client(str(path)) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        gateway.signal(signal.SIGTERM)
        assert eventually(lambda: not path.exists())
        # What comes there meanwhile is another gateway's.
        path.touch()
        client.send(b"Host: a.test\r\n\r\n")
        assert client.read_answer().body == b"here"
    gateway.stop()
    assert path.exists()
