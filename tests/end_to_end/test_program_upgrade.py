"""`fastgw upgrade` and SIGUSR2: another process takes the sockets, nothing is lost, or the old one goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.bodies import bodies, config, second_listener
from tests.support.client import Client, get
from tests.support.gateway import ROOT, GatewayProcess, free_port
from tests.support.observe import ends, eventually
from tests.support.played import PlayedBackend
from tests.support.tls import Authority, TlsClient

TLS = """
    [listeners.tls]
    certificates = [{ cert = "a.pem", key = "a.key" }]
"""


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


def refused(gateway: GatewayProcess) -> str:
    """Why it was not replaced."""
    before = gateway.pid
    answer = gateway.command("upgrade")
    assert answer.returncode == 1
    told = json.loads(answer.stdout)
    assert told["outcome"] == "refused"
    assert f"event {told['number']}: upgrade refused" in gateway.stderr
    assert json.loads(gateway.command("status").stdout)["pid"] == before
    return str(told["detail"])


@pytest.mark.parametrize("workers", [2, 1, 3])
def test_another_process_serves_with_the_configuration_as_it_is_now(workers: int, tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        assert bodies(gateway) == {b"one"}
        gateway.rewrite(config("two", workers=workers))
        gateway.upgrade()
        assert bodies(gateway) == {b"two"}
        assert len(gateway.worker_pids()) == workers
        assert "event 1: upgrade done" in gateway.stderr
        gateway.signal(signal.SIGHUP)
        assert gateway.wait_until_it_says("event 2: reload done")


def test_exchanges_in_flight_end_in_the_old_process(played: PlayedBackend, tmp_path: Path) -> None:
    with (
        GatewayProcess(config("one", played.address, workers=1), tmp_path) as gateway,
        Client(gateway.address) as client,
        Client(gateway.address) as idle,
    ):
        client.send(get(b"/forwarded"))
        connection = played.accept()
        connection.read_request()
        upgrading = threading.Thread(target=gateway.upgrade)
        upgrading.start()
        # The old one drains.
        assert idle.read_to_end() == b""
        connection.answer(b"late")
        answer = client.read_answer()
        assert (answer.body, answer.values(b"connection")) == (b"late", [b"close"])
        upgrading.join()


def test_a_session_is_resumed_in_the_new_process(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    context = authority.client(ssl.TLSVersion.TLSv1_2)
    with GatewayProcess(config("one", more=TLS), tmp_path) as gateway:
        with TlsClient(gateway.address, context) as client:
            assert client.ask(get()).body == b"one"
            session = client.tls.session
        gateway.upgrade()
        with TlsClient(gateway.address, context, session=session) as client:
            assert client.tls.session_reused
            assert client.ask(get()).status == 200


def test_listeners_come_and_go_with_an_upgrade(tmp_path: Path) -> None:
    gone, new = free_port(), free_port()
    with GatewayProcess(config("one", more=second_listener(f"127.0.0.1:{gone}")), tmp_path) as gateway:
        with Client(("127.0.0.1", gone)) as client:
            assert client.ask(get()).body == b"one"
            gateway.rewrite(config("two", more=second_listener(f"127.0.0.1:{new}")))
            gateway.upgrade()
            # It is idle, and its listener is gone.
            assert client.read_to_end() == b""
        with pytest.raises(ConnectionRefusedError):
            Client(("127.0.0.1", gone))
        with Client(("127.0.0.1", new)) as client:
            assert client.ask(get()).body == b"two"


def test_a_unix_socket_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with GatewayProcess(config("one", more=second_listener(f"unix:{path}")), tmp_path) as gateway:
        inode = path.stat().st_ino
        gateway.upgrade()
        assert path.stat().st_ino == inode
        with Client(str(path)) as client:
            assert client.ask(get()).body == b"one"
    assert not path.exists()


def test_problems_of_the_configuration_are_told_and_the_old_one_goes_on(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        gateway.rewrite(config("two", more="colour = 1\n"))
        assert "listeners[1].colour: unknown key" in refused(gateway)
        assert "listeners[1].colour: unknown key" in gateway.stderr
        assert bodies(gateway) == {b"one"}
        gateway.rewrite(config("three"))
        gateway.upgrade()
        assert bodies(gateway) == {b"three"}


def test_an_address_that_can_t_be_had_is_told_and_the_old_one_goes_on(played: PlayedBackend, tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        gateway.rewrite(config("two", more=second_listener(played.address)))
        assert f"listener 'second': can't listen on {played.address}" in refused(gateway)
        assert bodies(gateway) == {b"one"}


def test_new_code_takes_over_and_broken_code_does_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "fastgw", source / "fastgw", ignore=shutil.ignore_patterns("__pycache__"))
    init, worker, cli = (source / "fastgw" / name for name in ("__init__.py", "runtime/worker.py", "cli.py"))
    with GatewayProcess(config("one"), tmp_path, source=source) as gateway:
        assert eventually(lambda: len(gateway.children("fastgw-standby")) == 1)
        whole = worker.read_text()
        worker.write_text("raise RuntimeError('the wrong file')\n")
        assert refused(gateway).startswith("the new gateway does not come up: its workers don't start")
        assert bodies(gateway) == {b"one"}
        worker.write_text(whole)
        whole = cli.read_text()
        cli.write_text(whole.replace("    path = _config_path(config)\n    loaded", "    1 / 0\n    loaded", 1))
        assert "ZeroDivisionError" in refused(gateway)
        assert bodies(gateway) == {b"one"}
        cli.write_text(whole)
        init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
        gateway.rewrite(config("two"))
        gateway.upgrade()
        assert json.loads(gateway.command("status").stdout)["version"].startswith("9.")
        assert bodies(gateway) == {b"two"}


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway whose successor waits in the middle of its configuration, until somebody writes into a pipe."""
    (tmp_path / "body").write_text("one")
    gateway = GatewayProcess(config("${file:body}"), tmp_path).start()
    (tmp_path / "body").unlink()
    os.mkfifo(tmp_path / "body")
    gateway.signal(signal.SIGUSR2)
    yield gateway
    gateway.kill()


def reader_of(path: Path) -> BinaryIO:
    """The pipe to whoever reads there; waits until somebody does."""
    found: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):
            found.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    assert eventually(is_read)
    return os.fdopen(found[0], "wb")


def test_a_successor_that_is_killed_changes_nothing(slow: GatewayProcess) -> None:
    os.kill(slow.successor(), signal.SIGKILL)
    assert slow.wait_until_it_says("upgrade refused")
    assert "it ended with status -9 and said nothing" in slow.stderr
    assert bodies(slow) == {b"one"}


def test_a_gateway_that_is_told_to_stop_takes_its_successor_along(slow: GatewayProcess) -> None:
    successor = os.pidfd_open(slow.successor())
    slow.signal(signal.SIGTERM)
    assert slow.wait() == 0
    assert ends(successor)
    os.close(successor)


def test_a_gateway_that_is_killed_in_the_middle_is_replaced_all_the_same(slow: GatewayProcess, tmp_path: Path) -> None:
    successor = slow.successor()
    with reader_of(tmp_path / "body") as pipe:
        slow.signal(signal.SIGKILL)
        slow.is_replaced_by(successor)
        pipe.write(b"two")
    assert eventually(lambda: slow.stderr.count("serving") == 2)
    assert eventually(lambda: bodies(slow) == {b"two"})
