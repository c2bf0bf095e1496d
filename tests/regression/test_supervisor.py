"""What once ended the supervisor, kept it from ending, or let it say one thing and do another."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgw.runtime import control
from tests.runtime.test_demo import free_ports
from tests.support.client import Client, ConnectionEndedError, get
from tests.support.gateway import LISTEN, ROOT, GatewayProcess, free_port
from tests.support.observe import ends, eventually
from tests.support.played import PlayedBackend


def config(body: str, more: str = "", workers: int = 2) -> str:
    return f"""
        [server]
        workers = {workers}
        drain_timeout = "5s"

        [[listeners]]
        address = "{LISTEN}"
        {more}

        [[routes]]
        path = "/*"
        respond = {{ body = "{body}" }}
    """


def listener(address: str) -> str:
    return f'\n[[listeners]]\nname = "second"\naddress = "{address}"\n'


def serves(gateway: GatewayProcess, body: bytes = b"one") -> bool:
    try:
        with Client(gateway.address) as client:
            return client.ask(get()).body == body
    except (OSError, ConnectionEndedError):
        return False


def process_by_name(gateway: GatewayProcess, name: str) -> int:
    assert eventually(lambda: len(gateway.children(name)) >= 1)
    return gateway.children(name)[0]


@contextmanager
def run(tmp_path: Path, text: str, shell: str = 'exec "$@"', python: str = sys.executable) -> Iterator[GatewayProcess]:
    """A gateway behind a line of shell, for unusual surroundings; it is only killed in the end."""
    gateway = GatewayProcess(text, tmp_path)
    gateway.port = free_port()
    gateway.rewrite(text)
    command = ["sh", "-c", shell, "sh", python, "-m", "fastgw", "run", str(gateway.config_path)]
    with subprocess.Popen(command, env=gateway.environment, stdin=subprocess.DEVNULL) as process:
        gateway.process = process
        try:
            assert eventually(lambda: serves(gateway))
            yield gateway
        finally:
            for pid in {gateway.pid, process.pid}:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)


def test_a_process_that_can_t_be_started_is_tried_again(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # Its directory decides which packages it has, so that only the link's target is changed.
    bin_directory = Path(sys.executable).parent
    link = bin_directory / f"python-of-a-test-{os.getpid()}"
    link.symlink_to(sys.executable)
    try:
        with run(tmp_path, config("one"), python=str(link)) as gateway:
            # Until then, one with the standby's name may be on its way to be a worker.
            assert eventually(lambda: len(gateway.worker_pids()) == 2)
            standby = process_by_name(gateway, "fastgw-standby")
            link.rename(python)
            os.kill(standby, signal.SIGKILL)
            os.kill(gateway.worker_pids()[0], signal.SIGKILL)
            assert eventually(lambda: len(gateway.worker_pids()) == 1)
            python.rename(link)
            assert eventually(lambda: len(gateway.worker_pids()) == 2)
            assert all(serves(gateway) for _ in range(10))
    finally:
        link.unlink(missing_ok=True)


def test_a_refused_upgrade_leaves_unix_sockets_where_they_are(tmp_path: Path) -> None:
    path, new = tmp_path / "a.sock", tmp_path / "new.sock"
    with PlayedBackend() as taken, GatewayProcess(config("one", listener(f"unix:{path}")), tmp_path) as gateway:
        more = listener(f"unix:{path}") + listener(f"unix:{new}").replace("second", "third")
        gateway.rewrite(config("two", more + listener(taken.address).replace("second", "fourth")))
        assert gateway.command("upgrade").returncode == 1
        assert not new.exists()
        with Client(str(path)) as client:
            assert client.ask(get()).body == b"one"


def slow_source(tmp_path: Path, seconds: float) -> Path:
    """The program, with workers that take their time to start."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "fastgw", source / "fastgw", ignore=shutil.ignore_patterns("__pycache__"))
    worker = source / "fastgw/runtime/worker.py"
    worker.write_text(worker.read_text().replace("    _be_called(_WORKER_NAME)\n", f"    time.sleep({seconds})\n", 1))
    return source


def children_of(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_a_successor_that_is_told_to_stop_while_its_workers_start_leaves_the_old_one(tmp_path: Path) -> None:
    with GatewayProcess(config("one", workers=1), tmp_path, source=slow_source(tmp_path, 0)) as gateway:
        slow_again = tmp_path / "source/fastgw/runtime/worker.py"
        slow_again.write_text(slow_again.read_text().replace("time.sleep(0)", "time.sleep(5)"))
        gateway.signal(signal.SIGUSR2)
        successor = gateway.successor()
        assert eventually(lambda: children_of(successor) >= 1)
        os.kill(successor, signal.SIGTERM)
        assert gateway.wait_until_it_says("this gateway goes on")
        assert "upgrade refused" in gateway.stderr
        assert "it was told to stop" in gateway.stderr
        assert serves(gateway)


def test_a_successor_that_is_told_to_stop_in_the_last_moment_leaves_the_old_one(tmp_path: Path) -> None:
    with GatewayProcess(config("one", workers=1), tmp_path) as gateway:
        gateway.signal(signal.SIGUSR2)
        successor = gateway.successor()
        # It has what it needs by then, and can't be told that it may go.
        assert eventually(lambda: children_of(successor) >= 1)
        gateway.signal(signal.SIGSTOP)
        ending = os.pidfd_open(successor)
        worker = Path(f"/proc/{successor}/task/{successor}/children").read_text().split()[0]
        assert eventually(lambda: Path(f"/proc/{worker}/comm").read_text() == "fastgw-worker\n")
        os.kill(successor, signal.SIGTERM)
        assert ends(ending)
        os.close(ending)
        gateway.signal(signal.SIGCONT)
        assert gateway.wait_until_it_says("upgrade refused")
        assert serves(gateway)


@pytest.mark.parametrize("shell", ['exec "$@" 2>/dev/full', '"$@" 2>&1 | true', 'exec "$@" 2>&- <&- >&-'])
def test_a_standard_error_that_can_t_be_written_to_harms_nobody(shell: str, tmp_path: Path) -> None:
    with run(tmp_path, config("one"), shell) as gateway:

        def status() -> dict[str, int]:
            told: dict[str, int] = json.loads(gateway.command("status").stdout)
            return told

        gateway.is_replaced_by(status()["pid"])
        os.kill(process_by_name(gateway, "fastgw-worker"), signal.SIGKILL)
        assert eventually(lambda: len(gateway.worker_pids()) == 2)
        gateway.rewrite(config("two"))
        assert gateway.command("reload").returncode == 0
        assert serves(gateway, b"two")
        old = os.pidfd_open(gateway.pid)
        assert gateway.command("upgrade").returncode == 0
        assert ends(old)
        os.close(old)
        gateway.is_replaced_by(status()["pid"])
        assert serves(gateway, b"two")


def test_a_unix_socket_whose_file_can_t_be_removed_keeps_nothing_running(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    gateway = GatewayProcess(config("one", listener(f"unix:{path}")), tmp_path).start()
    path.unlink()
    path.mkdir()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    assert f"can't remove unix:{path}: is a directory" in gateway.stderr


def test_more_words_to_stop_killed_what_had_ended_well(tmp_path: Path) -> None:
    gateway = GatewayProcess(config("one"), tmp_path).start()
    ended = threading.Event()

    def ask_to_stop() -> None:
        while not ended.wait(0.002):
            with contextlib.suppress(ProcessLookupError):
                gateway.signal(signal.SIGTERM)

    asking = threading.Thread(target=ask_to_stop)
    asking.start()
    try:
        assert gateway.wait() == 0
    finally:
        ended.set()
        asking.join()


def test_a_silent_client_of_the_control_socket_holds_up_no_stop(tmp_path: Path) -> None:
    gateway = GatewayProcess(config("one"), tmp_path).start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(control.name_of(gateway.config_path, os.geteuid()))
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway in the middle of a reload, which waits for what somebody writes into a pipe."""
    (tmp_path / "body").write_text("one")
    gateway = GatewayProcess(config("${file:body}"), tmp_path).start()
    (tmp_path / "body").unlink()
    os.mkfifo(tmp_path / "body")
    gateway.signal(signal.SIGHUP)
    yield gateway
    gateway.kill()


def test_a_reload_that_does_not_end_holds_up_no_stop(reading: GatewayProcess, tmp_path: Path) -> None:
    with (tmp_path / "body").open("wb"):
        reading.signal(signal.SIGTERM)
        assert reading.wait() == 0


def test_a_reload_under_way_changes_nothing_after_a_stop(reading: GatewayProcess, tmp_path: Path) -> None:
    port = free_port()
    with PlayedBackend() as backend:
        more = f'\n[upstreams.slow]\nendpoints = ["{backend.address}"]\n[[routes]]\npath = "/slow"\nupstream = "slow"\n'
        with (tmp_path / "body").open("wb") as pipe:
            pipe.write(b"one")
        assert reading.wait_until_it_says("reload done")
        (tmp_path / "body").unlink()
        (tmp_path / "body").write_text("one")
        reading.rewrite(config("${file:body}") + more)
        assert reading.command("reload").returncode == 0
        with Client(reading.address) as client:
            client.send(get(b"/slow"))
            connection = backend.accept()
            connection.read_request()
            (tmp_path / "body").unlink()
            os.mkfifo(tmp_path / "body")
            reading.rewrite(config("${file:body}", listener(f"127.0.0.1:{port}")) + more)
            reading.signal(signal.SIGHUP)
            with (tmp_path / "body").open("wb") as pipe:
                reading.signal(signal.SIGTERM)
                assert eventually(lambda: not serves(reading))
                pipe.write(b"two")
            assert reading.wait_until_it_says("the gateway stops")
            assert "reload refused" in reading.stderr
            with pytest.raises(ConnectionRefusedError):
                Client(("127.0.0.1", port))
            connection.answer(b"late")
            assert client.read_answer().body == b"late"
    assert reading.wait() == 0


def test_what_is_asked_during_an_upgrade_is_asked_of_the_new_gateway(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        outcomes: list[subprocess.CompletedProcess[str]] = []
        gateway.signal(signal.SIGUSR2)
        successor = gateway.successor()
        asking = threading.Thread(target=lambda: outcomes.append(gateway.command("reload")))
        asking.start()
        gateway.signal(signal.SIGHUP)
        asking.join()
        assert (outcomes[0].returncode, outcomes[0].stderr) == (0, "")
        assert gateway.wait_until_it_says("event 3: reload done")
        gateway.is_replaced_by(successor)
        kinds = [event["kind"] for event in json.loads(gateway.command("status").stdout)["events"]]
        assert kinds == ["upgrade", "reload", "reload"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_come_before_their_time_end_nobody(number: signal.Signals, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "body")
    gateway = GatewayProcess(config("${file:body}"), tmp_path)
    gateway.port = free_port()
    gateway.rewrite(config("${file:body}"))
    command = [sys.executable, "-m", "fastgw", "run", str(gateway.config_path)]
    with subprocess.Popen(command, env=gateway.environment, stdin=subprocess.DEVNULL) as process:
        # It reads its configuration.
        with (tmp_path / "body").open("wb") as pipe:
            (tmp_path / "body").unlink()
            (tmp_path / "body").write_text("one")
            process.send_signal(number)
            pipe.write(b"one")
        assert eventually(lambda: serves(gateway))
        for pid in (
            process.pid,
            *(int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()),
        ):
            with_it = os.pidfd_open(pid)
            os.close(with_it)
        status = json.loads(gateway.command("status").stdout)
        os.kill(status["pid"], signal.SIGTERM)
        assert eventually(lambda: not Path(f"/proc/{status['pid']}/exe").exists())
        assert process.wait(20) == 0


def test_an_old_gateway_that_drains_ends_nothing_at_the_first_word(tmp_path: Path) -> None:
    with PlayedBackend() as backend:
        more = f'\n[upstreams.slow]\nendpoints = ["{backend.address}"]\n[[routes]]\npath = "/slow"\nupstream = "slow"\n'
        gateway = GatewayProcess(config("one") + more, tmp_path).start()
        with Client(gateway.address) as client:
            client.send(get(b"/slow"))
            connection = backend.accept()
            connection.read_request()
            old = gateway.pid
            assert gateway.command("upgrade").returncode == 0
            os.kill(old, signal.SIGTERM)
            assert gateway.wait_until_it_says("another process is the gateway now")
            connection.answer(b"late")
            assert client.read_answer().body == b"late"
        gateway.is_replaced_by(json.loads(gateway.command("status").stdout)["pid"])
        gateway.stop()


def test_a_container_that_would_end_with_the_gateway_keeps_it(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("a PID namespace takes unshare (Debian: apt-get install util-linux), and root")
    shell = 'exec unshare -pf --mount-proc --kill-child sh -c \'"$@"; true\' sh "$@"'
    with run(tmp_path, config("one"), shell) as gateway:
        answer = gateway.command("upgrade")
        assert answer.returncode == 1
        assert "the container ends with this process" in answer.stdout
        assert serves(gateway)


def test_the_demo_is_not_replaced(tmp_path: Path) -> None:
    port, backends = free_ports()
    command = [sys.executable, "-m", "fastgw"]
    demo = [*command, "demo", "--port", str(port), "--backends-port", str(backends)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(demo, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:

        def refused() -> str:
            ask = [*command, "upgrade", "fastgw-demo.toml"]
            asked = subprocess.run(ask, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            return asked.stderr

        assert eventually(lambda: "more than the gateway runs in this process" in refused())
        process.terminate()
        assert process.wait(20) == 0
