"""What one client may ask of a listener, and what the others notice of one that asks for more: nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, Received, get
from tests.support.flow import ZeroSender
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import connections_of, eventually
from tests.support.played import PlayedBackend

HEAD_SIZE = 2048
HEADER_COUNT = 10
TARGET_SIZE = 256
BODY_SIZE = 1000
REQUESTS = 5
CONNECTIONS = 4
DRIBBLING = 200
UPLOAD = b"POST / HTTP/1.1\r\nHost: a.test\r\n"


@pytest.fixture(scope="module")
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: RecordingBackend, played: PlayedBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    config = f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"
        [listeners.limits]
        head_size = "{HEAD_SIZE}B"
        header_count = {HEADER_COUNT}
        target_size = "{TARGET_SIZE}B"
        body_size = "{BODY_SIZE}B"
        head_timeout = "300ms"
        idle_timeout = "300ms"
        write_timeout = "300ms"
        requests_per_connection = {REQUESTS}

        [upstreams]
        recording.endpoints = ["{backend.address}"]
        played.endpoints = ["{played.address}"]

        [[routes]]
        host = "a.test"
        upstream = "recording"

        [[routes]]
        host = "played.test"
        upstream = "played"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("limits")) as running:
        yield running


@pytest.fixture(autouse=True)
def _forgets(backend: RecordingBackend, played: PlayedBackend) -> Iterator[None]:
    backend.expect()
    yield
    played.hang_up()


def refused(received: Received, status: int, reason: bytes) -> None:
    assert received.status == status
    assert b'"reason":"%b"' % reason in received.body
    assert received.values(b"connection") == [b"close"]


def is_refused(gateway: GatewayProcess, backend: RecordingBackend, sent: bytes, status: int, reason: bytes) -> None:
    with Client(gateway.address) as client:
        client.send(sent)
        refused(client.read_answer(), status, reason)
        assert client.read_to_end() == b""
    assert backend.received == b""


def passes(gateway: GatewayProcess, sent: bytes) -> None:
    with Client(gateway.address) as client:
        assert client.ask(sent).status == 200


# Sizes.


def test_a_head_may_be_so_large(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    room = HEAD_SIZE - len(get(b"/", b"X-A: "))
    passes(gateway, get(b"/", b"X-A: " + b"a" * room))
    backend.expect()
    is_refused(gateway, backend, get(b"/", b"X-A: " + b"a" * (room + 1)), 431, b"head-too-large")


def test_a_head_that_does_not_end_is_not_waited_for(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    is_refused(gateway, backend, UPLOAD + b"X-A: " + b"a" * HEAD_SIZE, 431, b"head-too-large")


def test_a_head_may_have_so_many_lines(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    lines = [b"X-%d: 1" % number for number in range(HEADER_COUNT - 1)]
    passes(gateway, get(b"/", *lines))
    backend.expect()
    is_refused(gateway, backend, get(b"/", *lines, b"X-More: 1"), 431, b"too-many-headers")


def test_a_target_may_be_so_long(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    path = b"/".ljust(TARGET_SIZE, b"a")
    passes(gateway, get(path))
    backend.expect()
    is_refused(gateway, backend, get(path + b"a"), 414, b"target-too-long")
    is_refused(gateway, backend, get(path[:-2] + b"?aa"), 414, b"target-too-long")


def test_a_target_that_does_not_end_is_not_waited_for(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    is_refused(gateway, backend, b"GET /" + b"a" * HEAD_SIZE, 414, b"target-too-long")


def test_a_body_may_be_so_long(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    passes(gateway, UPLOAD + b"Content-Length: %d\r\n\r\n" % BODY_SIZE + bytes(BODY_SIZE))
    backend.expect()
    # Before a byte of it has come.
    too_long = UPLOAD + b"Content-Length: %d\r\n\r\n" % (BODY_SIZE + 1)
    is_refused(gateway, backend, too_long, 413, b"body-too-large")


def test_a_client_that_sends_a_refused_body_all_the_same_reads_its_answer(gateway: GatewayProcess) -> None:
    size = 4 << 20
    with Client(gateway.address) as client:
        # A connection closed over unread bytes would be reset, and the answer be lost.
        client.send(UPLOAD + b"Content-Length: %d\r\n\r\n" % size)
        client.send(bytes(size))
        refused(client.read_answer(), 413, b"body-too-large")


def test_a_chunked_body_may_be_so_long(gateway: GatewayProcess, backend: RecordingBackend) -> None:
    head = UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"
    half = b"%x\r\n%b\r\n" % (BODY_SIZE // 2, bytes(BODY_SIZE // 2))
    passes(gateway, head + half + half + b"0\r\n\r\n")
    backend.expect()
    is_refused(gateway, backend, head + half + half + b"1\r\na\r\n0\r\n\r\n", 413, b"body-too-large")


def test_a_chunked_body_that_grows_too_long_is_broken_off(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: played.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = played.accept()
        upstream.read_head()
        client.send(b"%x\r\n%b\r\n" % (BODY_SIZE, bytes(BODY_SIZE)))
        assert upstream.read_chunk() == bytes(BODY_SIZE)
        client.send(b"1\r\na\r\n0\r\n\r\n")
        refused(client.read_answer(), 413, b"body-too-large")
        # Not a body that looks complete.
        assert upstream.ended()


# Time.


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n"])
def test_a_head_that_takes_too_long_is_told_so(sent: bytes, gateway: GatewayProcess, backend: RecordingBackend) -> None:
    is_refused(gateway, backend, sent, 408, b"head-timeout")


def test_a_second_head_that_takes_too_long_is_told_so(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        client.ask(get())
        client.send(b"GET / HTTP/1.1\r\n")
        refused(client.read_answer(), 408, b"head-timeout")


def test_a_client_that_says_nothing_is_left(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        assert client.read_to_end() == b""


def test_an_idle_client_is_left(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        assert client.ask(get()).status == 200
        assert client.read_to_end() == b""


@pytest.mark.slow
def test_a_body_that_comes_too_slowly_is_told_so(gateway: GatewayProcess, played: PlayedBackend) -> None:
    head = b"POST / HTTP/1.1\r\nHost: played.test\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.address, patience=15)) for _ in range(3)]
        clients[0].send(head + b"Content-Length: 500\r\n\r\n" + b"a" * 100)
        clients[1].send(head + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + b"a" * 100)
        clients[2].send(head + b"Content-Length: 500\r\n\r\n")
        upstreams = [played.accept() for _ in clients]
        for client in clients:
            refused(client.read_answer(), 408, b"body-too-slow")
        for upstream in upstreams:
            upstream.read_head()
            assert len(upstream.read_to_end()) < 500


@pytest.mark.parametrize("framing", [b"Content-Length: 67108864", b"Connection: close"])
def test_a_client_that_does_not_read_is_left(framing: bytes, gateway: GatewayProcess, played: PlayedBackend) -> None:
    size = 64 << 20
    with Client(gateway.address, receive_buffer=4096) as client:
        client.send(get(host=b"played.test"))
        upstream = played.accept()
        upstream.read_request()
        sender = ZeroSender(upstream.sock, b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing, size)
        sender.join()
        # The backend was told, before it had sent it all.
        assert sender.error is not None
        assert sender.sent < size
        assert len(client.read_to_end()) < size


# Numbers.


def test_a_connection_carries_so_many_requests(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        for _ in range(REQUESTS - 1):
            assert client.ask(get()).values(b"connection") == []
        assert client.ask(get()).values(b"connection") == [b"close"]
        assert client.read_to_end() == b""


def limited(directory: Path, backend: RecordingBackend, settings: str) -> GatewayProcess:
    config = f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"
        {settings}

        [upstreams]
        recording.endpoints = ["{backend.address}"]

        [[routes]]
        upstream = "recording"
    """
    return GatewayProcess(config, directory)


def test_a_listener_takes_so_many_connections(backend: RecordingBackend, tmp_path: Path) -> None:
    with (
        limited(tmp_path, backend, f"max_connections = {CONNECTIONS}") as gateway,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(Client(gateway.address)) for _ in range(CONNECTIONS)]
        assert [client.ask(get()).status for client in clients] == [200] * CONNECTIONS
        with Client(gateway.address) as one_more:
            received = one_more.read_answer()
            refused(received, 503, b"connection-limit")
            assert received.values(b"retry-after") == [b"1"]
            assert one_more.read_to_end() == b""
        # Those that are there are served, and when one leaves, another may come.
        assert [client.ask(get()).status for client in clients] == [200] * CONNECTIONS
        clients[0].close()
        worker = gateway.worker_pid()
        assert eventually(lambda: connections_of(worker, gateway.port) == CONNECTIONS - 1)
        passes(gateway, get())


def test_those_that_are_refused_for_their_number_do_not_keep_others_out(
    backend: RecordingBackend, tmp_path: Path
) -> None:
    with limited(tmp_path, backend, "max_connections = 1") as gateway, Client(gateway.address) as only:
        assert only.ask(get()).status == 200
        # It gets its refusal, and stays.
        with Client(gateway.address) as clinging:
            refused(clinging.read_answer(), 503, b"connection-limit")
            only.close()
            worker = gateway.worker_pid()
            assert eventually(lambda: connections_of(worker, gateway.port) <= 1)
            passes(gateway, get())


def test_many_that_dribble_their_heads_harm_nobody(backend: RecordingBackend, tmp_path: Path) -> None:
    slow_head = b"GET / HTTP/1.1\r\nHost: a.test\r\n" + b"X-A: b\r\n" * 20
    with (
        limited(tmp_path, backend, 'limits.head_timeout = "1s"') as gateway,
        contextlib.ExitStack() as stack,
        Client(gateway.address) as other,
    ):
        dribbling = [stack.enter_context(Client(gateway.address)) for _ in range(DRIBBLING)]
        for at in range(len(slow_head)):
            for client in dribbling:
                # Those whose time is over are closed under their hands.
                with contextlib.suppress(OSError):
                    client.send(slow_head[at : at + 1])
            assert other.ask(get()).body == b"ok"
            if at > 20 and has_answer(dribbling[0]):
                break
        for client in dribbling:
            refused(client.read_answer(), 408, b"head-timeout")
        assert other.ask(get()).body == b"ok"


def has_answer(client: Client) -> bool:
    client.sock.setblocking(False)
    try:
        client.buffer += client.sock.recv(65536)
    except BlockingIOError:
        return False
    finally:
        client.sock.settimeout(10)
    return True
