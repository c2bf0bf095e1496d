"""Endpoints that come and go in DNS and files while clients ask: nobody notices but the endpoints."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client, Received, get
from tests.support.dns import NameServer
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.load import Load
from tests.support.observe import eventually
from tests.support.troubled import Troubled

CONNECTIONS = 64
# How long each list of endpoints is in force, under load.
STEP_S = 0.5
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

# Puts a list in force, by one way of discovery.
Publish = Callable[[list[Troubled]], None]


@pytest.fixture
def backends() -> Iterator[list[Troubled]]:
    """On one port, so that addresses alone tell them apart."""
    port = free_port()
    with ExitStack() as stack:
        yield [stack.enter_context(Troubled(port, host)) for host in HOSTS]


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def config(discover: str, more: str = "", workers: int = 1) -> str:
    return f"""
        [server]
        workers = {workers}

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        discover = {discover}
        {more}

        [[routes]]
        upstream = "a"
    """


def in_dns(backends: list[Troubled], server: NameServer, ttl: int = 0) -> str:
    """The configuration for endpoints that `publish_addresses` serves."""
    publish_addresses(server, backends, ttl)
    return f'{{ dns = "app.test:{backends[0].port}", server = "{server.address}", min_refresh = "100ms" }}'


def publish_addresses(server: NameServer, backends: list[Troubled], ttl: int = 0) -> None:
    server.serve("\n".join(f"app.test. {ttl} A {backend.host}" for backend in backends))


def publish_services(server: NameServer, backends: list[Troubled]) -> None:
    lines = [f"_http._tcp.app.test. 0 SRV 0 5 {one.port} {one.host[-1]}.test." for one in backends]
    lines += [f"{one.host[-1]}.test. 0 A {one.host}" for one in backends]
    server.serve("\n".join(lines))


def listing(backends: list[Troubled]) -> str:
    return "endpoints = [" + ", ".join(f'"{backend.address}"' for backend in backends) + "]\n"


def statuses(gateway: GatewayProcess, count: int = 12) -> set[int]:
    with Client(gateway.address) as client:
        return {client.ask(get()).status for _ in range(count)}


def serves(gateway: GatewayProcess) -> bool:
    return statuses(gateway, 1) == {200}


def rewritten(file: Path) -> Publish:
    """In place: for a moment it is empty."""

    def publish(backends: list[Troubled]) -> None:
        file.write_text(listing(backends))

    return publish


def replaced(file: Path) -> Publish:
    """Another file takes its name, in one step."""

    def publish(backends: list[Troubled]) -> None:
        new = file.with_suffix(".new")
        new.write_text(listing(backends))
        new.replace(file)

    return publish


def linked(file: Path) -> Publish:
    """As Kubernetes changes a ConfigMap: the file is a link into a directory that is a link, and that one leads
    elsewhere from one moment on."""
    data = file.parent / "..data"
    file.symlink_to(data / file.name)

    def publish(backends: list[Troubled]) -> None:
        version = file.parent / f"..{time.monotonic_ns()}"
        version.mkdir()
        (version / file.name).write_text(listing(backends))
        link = file.parent / "..new"
        link.symlink_to(version)
        os.replace(link, data)

    return publish


def loaded(gateway: GatewayProcess) -> Load:
    def is_right(answer: Received) -> bool:
        return answer.status == 200

    return Load([lambda: Client(gateway.address)], CONNECTIONS, lambda _number: get(), is_right)


def come_and_go(gateway: GatewayProcess, backends: list[Troubled], publish: Publish) -> None:
    """Nobody who asks meanwhile notices. `publish` has put the first two in force already."""
    with loaded(gateway) as load:
        time.sleep(STEP_S)
        for some in (backends, backends[1:], backends[2:], backends[:1], backends):
            before = len(gateway.stderr)
            publish(some)
            assert eventually(lambda before=before, some=some: f"; now {len(some)} endpoint" in gateway.stderr[before:])
            time.sleep(STEP_S)
        # Those that are listed are used, and no others.
        publish(backends[:2])
        assert eventually(lambda: gateway.stderr.rstrip().endswith("; now 2 endpoints"))
        time.sleep(STEP_S)
        served = [backend.served() for backend in backends]
        time.sleep(STEP_S)
        now = [backend.served() for backend in backends]
        assert now[0] > served[0]
        assert now[1] > served[1]
        assert now[2] == served[2]
    assert load.wrong == []
    assert load.asked > 10 * CONNECTIONS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["A", "SRV"])
def test_names_change_under_load(kind: str, backends: list[Troubled], server: NameServer, tmp_path: Path) -> None:
    def publish(some: list[Troubled]) -> None:
        if kind == "A":
            publish_addresses(server, some)
        else:
            publish_services(server, some)

    discover = in_dns(backends, server)
    if kind == "SRV":
        discover = f'{{ srv = "_http._tcp.app.test", server = "{server.address}", min_refresh = "100ms" }}'
    publish(backends[:2])
    with GatewayProcess(config(discover), tmp_path) as gateway:
        come_and_go(gateway, backends, publish)


@pytest.mark.slow
@pytest.mark.parametrize("way", [rewritten, replaced, linked])
def test_files_change_under_load(way: Callable[[Path], Publish], backends: list[Troubled], tmp_path: Path) -> None:
    publish = way(tmp_path / "e.toml")
    publish(backends[:2])
    with GatewayProcess(config('{ file = "e.toml" }'), tmp_path) as gateway:
        come_and_go(gateway, backends, publish)


def test_a_broken_file_is_told_with_its_place_and_changes_nothing(backends: list[Troubled], tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    with GatewayProcess(config('{ file = "e.toml" }'), tmp_path) as gateway:
        assert gateway.wait_until_it_says("there is no such file; nothing was found so far")
        assert statuses(gateway) == {503}
        file.write_text(listing(backends))
        assert eventually(lambda: serves(gateway))
        file.write_text("endpoints = [\n")
        assert gateway.wait_until_it_says("e.toml:1:14: not valid TOML")
        assert statuses(gateway) == {200}
        file.unlink()
        assert gateway.wait_until_it_says("there is no such file; the last good list goes on, 3 endpoints")
        assert statuses(gateway) == {200}
        file.write_text(listing(backends[:1]))
        assert gateway.wait_until_it_says("is well again, and has 1 endpoint")


@pytest.mark.slow
def test_whatever_happens_to_the_name_server_the_last_good_answer_serves(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    with GatewayProcess(config(in_dns(backends, server)), tmp_path) as gateway, loaded(gateway) as load:
        time.sleep(STEP_S)
        server.serve("")
        assert gateway.wait_until_it_says("the answer is empty; the last good list goes on, 3 endpoints")
        publish_addresses(server, backends)
        assert gateway.wait_until_it_says("is well again, and has 3 endpoints")
        server.broken = {"A", "AAAA"}
        assert eventually(lambda: gateway.stderr.count("the last good list goes on") == 2)
        server.broken, server.silent = set(), True
        time.sleep(2 * STEP_S)
        server.silent = False
        assert eventually(lambda: gateway.stderr.count("is well again") == 2)
    assert load.wrong == []


def test_a_start_does_not_wait_for_a_name_server_that_does_not_answer(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    discover = in_dns(backends, server)
    server.silent = True
    fallback = f'endpoints = ["{backends[0].address}"]'
    with GatewayProcess(config(discover, fallback), tmp_path) as gateway:
        # Those that are written serve until others are found.
        assert statuses(gateway) == {200}
        assert [backend.served() > 0 for backend in backends] == [True, False, False]
        server.silent = False
        assert eventually(lambda: statuses(gateway) == {200} and all(backend.served() for backend in backends))


def test_what_was_found_outlives_reloads_upgrades_and_workers(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    discover = in_dns(backends, server)
    with GatewayProcess(config(discover, workers=2), tmp_path) as gateway:
        assert statuses(gateway) == {200}
        server.silent = True
        # Of another setting: the pool is a new one.
        gateway.rewrite(config(discover, 'balance = "random"', workers=2))
        assert gateway.command("reload").returncode == 0
        assert statuses(gateway) == {200}
        for pid in gateway.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: serves(gateway))
        assert statuses(gateway) == {200}
        gateway.upgrade()
        assert statuses(gateway) == {200}


def test_a_reload_looks_elsewhere_and_one_that_is_refused_goes_on(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    (tmp_path / "e.toml").write_text(listing(backends[:1]))
    with GatewayProcess(config(in_dns(backends[1:], server)), tmp_path) as gateway:
        gateway.rewrite(config('{ file = "nowhere", dns = "app.test:1" }'))
        assert gateway.command("reload").returncode == 1
        assert statuses(gateway) == {200}
        assert [backend.served() > 0 for backend in backends] == [False, True, True]
        gateway.rewrite(config('{ file = "e.toml" }'))
        assert gateway.command("reload").returncode == 0
        asked = len(server.asked)
        served = [backend.served() for backend in backends]
        assert statuses(gateway) == {200}
        assert [now.served() - before for now, before in zip(backends, served, strict=True)] == [12, 0, 0]
        # Nobody looks for what nobody uses.
        time.sleep(STEP_S)
        assert len(server.asked) <= asked + 2


def test_who_is_found_is_checked_and_who_fails_gets_nothing(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    health = 'health = { path = "/healthz", interval = "100ms", rise = 1, fall = 1 }'
    discover = in_dns(backends[:2], server)
    backends[2].be("503")
    with GatewayProcess(config(discover, health), tmp_path) as gateway:
        publish_addresses(server, backends)
        assert gateway.wait_until_it_says(f"{backends[2].address} fails its checks")
        served = backends[2].served()
        assert statuses(gateway) == {200}
        assert backends[2].served() == served
        backends[2].be("well")
        assert gateway.wait_until_it_says(f"{backends[2].address} passes its checks again")
        assert eventually(lambda: statuses(gateway) == {200} and backends[2].served() > served)


def test_a_client_comes_back_to_its_endpoint_wherever_that_stands_in_the_list(
    backends: list[Troubled], server: NameServer, tmp_path: Path
) -> None:
    sticky = 'sticky = { secret = "0123456789abcdef" }'
    with GatewayProcess(config(in_dns(backends[1:2], server), sticky), tmp_path) as gateway:
        with Client(gateway.address) as client:
            cookie = client.ask(get()).values(b"set-cookie")[0].partition(b";")[0]
        publish_addresses(server, backends)
        assert gateway.wait_until_it_says("; now 3 endpoints")
        served = [backend.served() for backend in backends]
        with Client(gateway.address) as client:
            assert {client.ask(get(b"/", b"Cookie: " + cookie)).status for _ in range(9)} == {200}
        assert [now.served() - before for now, before in zip(backends, served, strict=True)] == [0, 9, 0]


def test_a_gateway_that_looks_for_endpoints_stops_at_once(server: NameServer, tmp_path: Path) -> None:
    server.silent = True
    discover = f'{{ dns = "app.test:1", server = "{server.address}" }}'
    with GatewayProcess(config(discover), tmp_path) as gateway:
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        # A look-up may take ten.
        assert time.monotonic() - began < 5
