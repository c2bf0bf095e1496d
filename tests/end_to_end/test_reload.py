"""SIGHUP: a new configuration in all workers or in none, and no connection is harmed."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bodies import bodies, config, second_listener
from tests.support.client import Client, get
from tests.support.gateway import GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.played import PlayedBackend
from tests.support.tls import Authority, TlsClient

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FORWARDED = b"GET /forwarded HTTP/1.1\r\nHost: a\r\n\r\n"
RELOADS = 20


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


def reload(gateway: GatewayProcess, text: str, number: int, outcome: str = "done") -> None:
    gateway.rewrite(text)
    gateway.signal(signal.SIGHUP)
    assert gateway.wait_until_it_says(f"event {number}: reload {outcome}"), gateway.stderr


def test_all_workers_have_the_new_configuration_and_connections_go_on(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(GET).body == b"one"
        reload(gateway, config("two"), 1)
        assert eventually(lambda: client.ask(GET).body == b"two")
        assert eventually(lambda: bodies(gateway) == {b"two"})


def test_an_exchange_in_flight_ends_on_what_it_began_with(played: PlayedBackend, tmp_path: Path) -> None:
    with GatewayProcess(config("one", played.address), tmp_path) as gateway, Client(gateway.address) as client:
        client.send(FORWARDED)
        connection = played.accept()
        connection.read_request()
        # Its upstream goes meanwhile, and its route is another.
        reload(gateway, config("two"), 1)
        connection.answer(b"from the old one")
        assert client.read_answer().body == b"from the old one"
        assert eventually(lambda: client.ask(GET).body == b"two")
        assert client.ask(FORWARDED).status == 502


def test_connections_to_an_upstream_that_stays_as_it_is_are_kept(played: PlayedBackend, tmp_path: Path) -> None:
    with (
        GatewayProcess(config("one", played.address, workers=1), tmp_path) as gateway,
        Client(gateway.address) as client,
    ):
        client.send(FORWARDED)
        connection = played.accept()
        connection.read_request()
        connection.answer(b"1")
        assert client.read_answer().body == b"1"
        reload(gateway, config("two", played.address, workers=1), 1)
        assert eventually(lambda: client.ask(GET).body == b"two")
        client.send(FORWARDED)
        connection.read_request()
        connection.answer(b"2")
        assert client.read_answer().body == b"2"


def test_connections_to_an_endpoint_that_stays_are_kept_when_others_come(played: PlayedBackend, tmp_path: Path) -> None:
    text = config("one", played.address, workers=1)
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        client.send(FORWARDED)
        connection = played.accept()
        connection.read_request()
        connection.answer(b"1")
        assert client.read_answer().body == b"1"
        # A backup gets nothing, and so the connection has to be the one from before.
        endpoints = f'["{played.address}", {{ address = "127.0.0.1:1", backup = true }}]'
        reload(gateway, text.replace(f'["{played.address}"]', endpoints), 1)
        client.send(FORWARDED)
        connection.read_request()
        connection.answer(b"2")
        assert client.read_answer().body == b"2"


def test_a_configuration_with_problems_changes_nothing_and_all_problems_are_said(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        reload(gateway, config("two", more="colour = 1\nshape = 2"), 1, "refused")
        assert gateway.wait_until_it_says("the configuration from before goes on")
        assert "listeners[1].colour: unknown key" in gateway.stderr
        assert "listeners[1].shape: unknown key" in gateway.stderr
        assert bodies(gateway) == {b"one"}
        reload(gateway, config("three"), 2)
        assert eventually(lambda: bodies(gateway) == {b"three"})


def test_a_configuration_whose_own_tests_fail_is_refused(tmp_path: Path) -> None:
    test = '\n[[tests]]\nrequest = "GET http://a/"\nexpect.status = 404\n'
    with GatewayProcess(config("one"), tmp_path) as gateway:
        reload(gateway, config("two") + test, 1, "refused")
        assert "tests[1]" in gateway.stderr
        assert bodies(gateway) == {b"one"}


def test_listeners_come_and_go(tmp_path: Path) -> None:
    port = free_port()
    more = second_listener(f"127.0.0.1:{port}")
    with GatewayProcess(config("one"), tmp_path) as gateway:
        reload(gateway, config("two", more=more), 1)
        with Client(("127.0.0.1", port)) as client:
            assert client.ask(GET).body == b"two"
            reload(gateway, config("three"), 2)
            # It is idle, and its listener is gone.
            assert client.read_to_end() == b""

        def is_refused() -> bool:
            try:
                Client(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return True
            return False

        assert eventually(is_refused)
        assert eventually(lambda: bodies(gateway) == {b"three"})


def test_a_listener_that_can_t_be_had_refuses_the_reload(played: PlayedBackend, tmp_path: Path) -> None:
    more = f"""
        [[listeners]]
        name = "taken"
        address = "{played.address}"
    """
    with GatewayProcess(config("one"), tmp_path) as gateway:
        reload(gateway, config("two", more=more), 1, "refused")
        assert "listener 'taken': can't listen on" in gateway.stderr
        assert bodies(gateway) == {b"one"}


def test_what_needs_an_upgrade_is_said(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        reload(gateway, config("two", workers=1), 1)
        assert "server.workers changed, which takes a restart or: fastgw upgrade" in gateway.stderr
        assert len(gateway.worker_pids()) == 2


def test_a_worker_that_dies_after_a_reload_comes_back_with_the_new_configuration(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        assert eventually(lambda: len(gateway.children("fastgw-standby")) == 1)
        reload(gateway, config("two"), 1)
        for pid in gateway.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert bodies(gateway) == {b"two"}


def test_a_tunnel_of_a_listener_that_is_gone_ends_with_the_drain_time_out(
    played: PlayedBackend, tmp_path: Path
) -> None:
    port = free_port()
    more = second_listener(f"127.0.0.1:{port}")
    text = config("one", played.address, more=more).replace('"5s"', '"1s"')
    with GatewayProcess(text, tmp_path) as gateway, Client(("127.0.0.1", port)) as client:
        client.send(get(b"/forwarded", b"Connection: upgrade", b"Upgrade: echo"))
        backend = played.accept()
        backend.read_head()
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        assert client.read_answer().status == 101
        reload(gateway, config("two", played.address).replace('"5s"', '"1s"'), 1)
        client.send(b"still there")
        assert backend.read_exactly(11) == b"still there"
        assert client.read_to_end() == b""
        assert backend.ended()


def test_requests_under_way_are_not_lost_by_many_reloads(tmp_path: Path) -> None:
    clients, asked, wrong, stop = 8, [0], [], threading.Event()

    def ask_on_one_connection() -> None:
        with Client(gateway.address) as client:
            while not stop.is_set():
                answer = client.ask(GET)
                asked[0] += 1
                if answer.status != 200 or not answer.body.isdigit():
                    wrong.append(answer)

    def ask_on_new_connections() -> None:
        while not stop.is_set():
            with Client(gateway.address) as client:
                if client.ask(GET).status != 200:
                    wrong.append("new")

    def guarded(ask: object) -> None:
        try:
            ask()  # type: ignore[operator]
        except OSError as error:
            wrong.append(error)

    with GatewayProcess(config("0"), tmp_path) as gateway:
        asking = [threading.Thread(target=guarded, args=(ask_on_one_connection,)) for _ in range(clients)]
        asking.append(threading.Thread(target=guarded, args=(ask_on_new_connections,)))
        for thread in asking:
            thread.start()
        for number in range(1, RELOADS + 1):
            reload(gateway, config(str(number)), number)
        stop.set()
        for thread in asking:
            thread.join()
        assert wrong == []
        assert asked[0] > RELOADS * clients


def resident_kib(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def test_two_hundred_reloads_take_no_more_memory_and_files_than_ten(tmp_path: Path) -> None:
    with GatewayProcess(config("0"), tmp_path) as gateway:
        assert eventually(lambda: len(gateway.children("fastgw-standby")) == 1)
        pids = [gateway.pid, *gateway.worker_pids()]
        for number in range(1, 11):
            reload(gateway, config(str(number)), number)
        memory = [resident_kib(pid) for pid in pids]
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
        for number in range(11, 201):
            reload(gateway, config(str(number)), number)
        assert bodies(gateway) == {b"200"}
        assert [resident_kib(pid) / before for pid, before in zip(pids, memory, strict=True)] == [
            pytest.approx(1.0, abs=0.05)
        ] * 3
        assert eventually(lambda: [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids] == files)


TLS = """
    [listeners.tls]
    certificates = [{ cert = "a.pem", key = "a.key" }]
"""


def serial(client: TlsClient) -> object:
    certificate = client.tls.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_certificates_are_replaced_and_no_connection_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    context = authority.client()
    with (
        GatewayProcess(config("one", more=TLS), tmp_path) as gateway,
        TlsClient(gateway.address, context) as early,
    ):
        before = serial(early)
        assert early.ask(GET).body == b"one"
        authority.issue("a", "a.test")
        reload(gateway, config("two", more=TLS), 1)
        assert eventually(lambda: early.ask(GET).body == b"two")
        with TlsClient(gateway.address, context) as late:
            assert late.ask(GET).body == b"two"
            assert serial(late) != before


def test_a_key_that_does_not_belong_to_its_certificate_leaves_the_old_pair(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    authority.issue("b", "b.test")
    context = authority.client()
    with GatewayProcess(config("one", more=TLS), tmp_path) as gateway:
        with TlsClient(gateway.address, context) as client:
            before = serial(client)
        (tmp_path / "a.key").write_bytes((tmp_path / "b.key").read_bytes())
        reload(gateway, config("one", more=TLS), 1, "refused")
        assert "name the one that was made with it" in gateway.stderr
        with TlsClient(gateway.address, context) as client:
            assert serial(client) == before
            assert client.ask(GET).body == b"one"


def test_a_changed_certificate_is_found_and_the_rest_of_the_configuration_stays(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    context = authority.client()
    with GatewayProcess(config("one", more=TLS), tmp_path) as gateway:
        with TlsClient(gateway.address, context) as client:
            before = serial(client)
        gateway.rewrite(config("two", more=TLS))
        authority.issue("a", "a.test")
        assert gateway.wait_until_it_says("the files of TLS are read again")
        with TlsClient(gateway.address, context) as client:
            assert serial(client) != before
            assert client.ask(GET).body == b"one"


def test_a_changed_configuration_is_found_where_it_asks_for_that(tmp_path: Path) -> None:
    def watched(body: str) -> str:
        return config(body).replace("[server]", "[server]\n    watch = true")

    with GatewayProcess(watched("one"), tmp_path) as gateway:
        gateway.rewrite(watched("two"))
        assert gateway.wait_until_it_says("event 1: reload done")
        assert eventually(lambda: bodies(gateway) == {b"two"})


def test_a_change_that_was_told_is_not_found_again(tmp_path: Path) -> None:
    def watched(body: str) -> str:
        return config(body).replace("[server]", "[server]\n    watch = true")

    with GatewayProcess(watched("one"), tmp_path) as gateway:
        reload(gateway, watched("two"), 1)
        # Were it found, that would be so within two looks; this is found by the next two.
        gateway.rewrite(watched("three"))
        assert gateway.wait_until_it_says("event 2: reload done")
        assert eventually(lambda: bodies(gateway) == {b"three"})
        assert "event 3" not in gateway.stderr


def test_a_session_is_resumed_after_a_reload(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", "a.test")
    context = authority.client(ssl.TLSVersion.TLSv1_2)
    with GatewayProcess(config("one", more=TLS), tmp_path) as gateway:
        with TlsClient(gateway.address, context) as client:
            assert client.ask(GET).body == b"one"
            session = client.tls.session
        authority.issue("a", "a.test")
        reload(gateway, config("two", more=TLS), 1)
        with TlsClient(gateway.address, context, session=session) as client:
            assert client.tls.session_reused
            assert client.ask(GET).status == 200
