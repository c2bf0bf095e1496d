"""Workers that die or hang: replaced on the same sockets, and nobody else is harmed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.support.client import Client, ConnectionEndedError
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import connections_of, eventually

CONFIG = f"""
    [server]
    workers = 2
    hang_timeout = "500ms"

    [[listeners]]
    address = "{LISTEN}"

    [[routes]]
    path = "/*"
    respond = {{ body = "here" }}
"""
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
KILLS = 5
# Far more than it takes, for machines under load; a client that waited for a back-off would wait longer.
REPLACED_S = 1.0


def is_served(gateway: GatewayProcess) -> bool:
    with Client(gateway.address) as client:
        return client.ask(GET).body == b"here"


def standbys(gateway: GatewayProcess) -> int:
    return len(gateway.children("fastgw-standby"))


def test_a_killed_worker_is_replaced_at_once_and_new_clients_are_never_refused(tmp_path: Path) -> None:
    with GatewayProcess(CONFIG, tmp_path) as gateway:
        for _ in range(KILLS):
            assert eventually(lambda: standbys(gateway) == 1)
            victim = gateway.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            # Half of them come to the socket of the worker that is dead.
            assert all(is_served(gateway) for _ in range(20))
            assert time.monotonic() - killed < 20 * REPLACED_S
            assert eventually(lambda: len(gateway.worker_pids()) == 2)
        assert gateway.stderr.count("ended with signal 9; another takes over") == KILLS


def test_connections_of_the_other_worker_go_on_when_one_is_killed(tmp_path: Path) -> None:
    with GatewayProcess(CONFIG, tmp_path) as gateway, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.address)) for _ in range(32)]
        assert all(client.ask(GET).body == b"here" for client in clients)
        victim, other = gateway.worker_pids()
        theirs = connections_of(other, gateway.port)
        assert 0 < theirs < len(clients)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: gateway.worker_pids()[:1] != [victim])
        served = 0
        for client in clients:
            with contextlib.suppress(ConnectionEndedError, ConnectionError):
                served += client.ask(GET).body == b"here"
        assert served == theirs


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with GatewayProcess(CONFIG, tmp_path) as gateway:
        assert eventually(lambda: standbys(gateway) == 1)
        victim = gateway.worker_pids()[0]
        os.kill(victim, signal.SIGSTOP)
        assert gateway.wait_until_it_says("hangs: its loop has not turned for")
        assert eventually(lambda: len(gateway.worker_pids()) == 2 and victim not in gateway.worker_pids())
        assert all(is_served(gateway) for _ in range(20))


def test_a_worker_that_keeps_dying_is_replaced_more_and_more_slowly(tmp_path: Path) -> None:
    with GatewayProcess(CONFIG.replace("workers = 2", "workers = 1"), tmp_path) as gateway:
        until = time.monotonic() + 20
        while "die one after the other" not in gateway.stderr and time.monotonic() < until:
            for pid in gateway.worker_pids():
                # One that was killed a moment ago may be gone by now.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert "workers die one after the other: the next starts in 0.2 s" in gateway.stderr
        assert eventually(lambda: len(gateway.worker_pids()) == 1)
        assert is_served(gateway)


def test_each_worker_may_have_a_processor_of_its_own(tmp_path: Path) -> None:
    with GatewayProcess(CONFIG.replace("[server]", "[server]\n    pin_workers = true"), tmp_path) as gateway:
        usable = sorted(os.sched_getaffinity(0))
        pinned = [os.sched_getaffinity(pid) for pid in gateway.worker_pids()]
        assert sorted(min(cpus) for cpus in pinned) == sorted(usable[number % len(usable)] for number in range(2))
        assert all(len(cpus) == 1 for cpus in pinned)


def test_when_the_supervisor_is_killed_the_workers_end_too(tmp_path: Path) -> None:
    gateway = GatewayProcess(CONFIG, tmp_path).start()
    assert eventually(lambda: standbys(gateway) == 1)
    pids = [*gateway.worker_pids(), *gateway.children("fastgw-standby")]
    gateway.kill()
    assert eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))
