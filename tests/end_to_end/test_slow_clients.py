"""slowhttptest attacks in all its ways: other clients don't notice, and the attackers are left."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import connections_of, eventually, resident_bytes
from tests.support.programs import program, running
from tests.support.tls import Authority, TlsClient

pytestmark = pytest.mark.slow

_NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    large_client_header_buffers 4 32k;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {directory};
        location = /own {{ return 200 "own"; }}
        location = /upload {{ proxy_pass http://127.0.0.1:{port}/own; }}
    }}
}}
"""
# More than the sockets between the backend and a client who reads nothing hold.
LARGE = 12 << 20
# An attack may last this long; all but a slow reader sees before that it has been left.
BOUND_S = 20
# One request of another client; all of them took milliseconds.
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Attack:
    """What slowhttptest does, on how many connections, and of what; what it costs the worker at the most."""

    options: tuple[str, ...]
    connections: int
    path: str
    memory: int = 32 << 20


HEADS = Attack(("-H", "-i", "1"), 400, "/own")
# Less in each second than body_min_rate.
BODIES = Attack(("-B", "-i", "1", "-s", "8192"), 400, "/upload")
RANGES = Attack(("-R", "-a", "5", "-b", "2000"), 400, "/large")
READERS = Attack(("-X", "-w", "10", "-y", "20", "-n", "1", "-z", "10"), 100, "/large", 96 << 20)


@dataclass
class Seen:
    """What came of it: what slowhttptest says, and what others saw meanwhile."""

    told: str
    # Whether it got answers to requests of its own, second by second.
    available: list[bool]
    most_connections: int
    memory: int
    # All of its connections were closed by the gateway, and not by itself.
    left: bool
    served: int


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx, with a large file."""
    directory = tmp_path_factory.mktemp("backend")
    directory.chmod(0o755)
    port = free_port()
    (directory / "large").write_bytes(bytes(LARGE))
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=port))
    with running([program("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(config)], port):
        yield port


def config(backend: int, tls: bool) -> str:
    return f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        {'tls.certificates = [{ cert = "ec.pem", key = "ec.key" }]' if tls else ""}
        [listeners.limits]
        head_timeout = "2s"
        write_timeout = "2s"
        [upstreams.nginx]
        endpoints = ["127.0.0.1:{backend}"]
        max_connections = 1000
        [[routes]]
        upstream = "nginx"
    """


def attacked(attack: Attack, gateway: GatewayProcess, authority: Authority | None) -> Seen:
    """Lets slowhttptest attack, and asks for something on a kept and a new connection again and again."""
    directory, worker = gateway.directory, gateway.worker_pid()
    url = f"{'http' if authority is None else 'https'}://127.0.0.1:{gateway.port}{attack.path}"
    number = str(attack.connections)
    command = [program("slowhttptest"), *attack.options, "-u", url, "-c", number, "-r", number]
    command += ["-l", str(BOUND_S), "-p", str(int(PATIENCE_S)), "-g", "-o", str(directory / "attack")]
    seen = Seen("", [], 0, 0, False, 0)

    def client() -> Client:
        if authority is None:
            return Client(gateway.address, PATIENCE_S)
        return TlsClient(gateway.address, authority.client())

    with ExitStack() as stack, (directory / "told").open("wb") as told:
        kept = stack.enter_context(client())
        assert kept.ask(get(b"/own")).body == b"own"
        before = resident_bytes(worker)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        stack.callback(process.kill)
        while not seen.left and process.poll() is None:
            answers = [kept.ask(get(b"/own"))]
            # Only now: it has no more time for its head than the others.
            with client() as new:
                answers.append(new.ask(get(b"/own")))
            assert [(one.status, one.body) for one in answers] == [(200, b"own")] * 2
            seen.served += 2
            now = connections_of(worker, gateway.port)
            seen.most_connections = max(seen.most_connections, now)
            seen.memory = max(seen.memory, resident_bytes(worker) - before)
            # The kept one, and one that slowhttptest asks with whether others are served.
            seen.left = seen.most_connections > attack.connections / 2 and now <= 2
        # Interrupted, it still writes its report.
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    seen.told = re.sub(r"\x1b\[[0-9;]*m", "", (directory / "told").read_text())
    seen.left = seen.left or "No open connections left" in seen.told
    with (directory / "attack.csv").open(newline="") as table:
        seen.available = [int(row["Service Available"]) > 0 for row in csv.DictReader(table)]
    return seen


def harmed_nobody(attack: Attack, seen: Seen) -> None:
    assert re.findall(r"service available:\s+(\w+)", seen.told)[-1] == "YES", seen.told
    assert seen.available, seen.told
    assert all(seen.available), seen.available
    assert seen.served > 5
    assert seen.memory < attack.memory


def lines_of(gateway: GatewayProcess) -> list[dict[str, object]]:
    return [json.loads(line) for line in (gateway.directory / "stdout").read_text().splitlines()]


@pytest.mark.parametrize(
    ("attack", "tls", "reason"),
    [
        pytest.param(HEADS, False, "head-timeout", id="heads"),
        pytest.param(HEADS, True, "head-timeout", id="heads over TLS"),
        pytest.param(BODIES, False, "body-too-slow", id="bodies"),
        pytest.param(READERS, False, "client-too-slow", id="readers"),
        pytest.param(READERS, True, "client-too-slow", id="readers over TLS"),
    ],
)
def test_slow_clients_harm_nobody_and_are_left(
    attack: Attack, tls: bool, reason: str, backend: int, tmp_path: Path
) -> None:
    authority = Authority(tmp_path) if tls else None
    if authority is not None:
        authority.issue("ec", "a.test")
    with GatewayProcess(config(backend, tls), tmp_path) as gateway:
        seen = attacked(attack, gateway, authority)
        harmed_nobody(attack, seen)
        assert seen.left, seen.told
        assert eventually(lambda: connections_of(gateway.worker_pid(), gateway.port) == 0)
    given_up = sum(line["reason"] == reason for line in lines_of(gateway))
    assert given_up > attack.connections * 0.9


def test_requests_for_a_thousand_ranges_harm_nobody(backend: int, tmp_path: Path) -> None:
    with GatewayProcess(config(backend, tls=False), tmp_path) as gateway:
        harmed_nobody(RANGES, attacked(RANGES, gateway, None))
        assert eventually(lambda: connections_of(gateway.worker_pid(), gateway.port) == 0)
    assert sum(line["method"] == "HEAD" for line in lines_of(gateway)) > RANGES.connections * 0.9
