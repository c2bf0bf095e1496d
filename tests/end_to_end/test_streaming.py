"""Bodies pass as they arrive, large ones without a trace in the worker's memory, and both ends learn of a break."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, ConnectionEndedError, get
from tests.support.flow import Receiver, ZeroSender, pattern
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import resident_bytes
from tests.support.played import PlayedBackend, PlayedConnection

MIB = 1 << 20
# What the worker's memory may grow by, however much passes.
GROWTH_MAX = 10 * MIB
# What a slow receiver takes at once, and what its socket may hold; the kernel doubles the latter.
BURST = 32 * MIB
BUFFER = 32 * 1024
# A 100 MB body that is compared by its checksum.
COMPARED = 100_000_000


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(scope="module")
def slow() -> Iterator[PlayedBackend]:
    """A backend that can't take much ahead."""
    with PlayedBackend(receive_buffer=BUFFER) as running:
        yield running


@pytest.fixture(scope="module")
def prompt() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    slow: PlayedBackend, prompt: PlayedBackend, backend: RecordingBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    config = f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        slow.endpoints = ["{slow.address}"]
        prompt.endpoints = ["{prompt.address}"]
        small.endpoints = ["{backend.address}"]

        [[routes]]
        host = "slow.test"
        upstream = "slow"

        [[routes]]
        host = "prompt.test"
        upstream = "prompt"

        [[routes]]
        host = "small.test"
        upstream = "small"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("streaming")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(slow: PlayedBackend, prompt: PlayedBackend) -> Iterator[None]:
    yield
    slow.hang_up()
    prompt.hang_up()


class Bystander:
    """Another client: it asks for something small, and gets it, while the worker's memory is looked at."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._client = Client(gateway.address)
        self._worker = gateway.worker_pid()
        self.asked = 0
        self.ask()
        self._before = self._peak = resident_bytes(self._worker)

    @property
    def growth(self) -> int:
        return self._peak - self._before

    def ask(self) -> None:
        received = self._client.ask(get(host=b"small.test"))
        assert (received.status, received.body) == (200, b"ok")
        self.asked += 1

    def look(self) -> None:
        self.ask()
        self._peak = max(self._peak, resident_bytes(self._worker))

    def close(self) -> None:
        self._client.close()


def pass_slowly(gateway: GatewayProcess, sender: ZeroSender, receiver: Receiver, size: int) -> None:
    """Takes `size` bytes in bursts, each only after all before it is stuck; another client is served meanwhile."""
    bystander = Bystander(gateway)
    at = 0
    while at < size:
        at = min(at + BURST, size)
        sender.wait_until_blocked()
        bystander.look()
        assert bystander.growth <= GROWTH_MAX, f"{bystander.growth} more, after {receiver.received} of {size}"
        assert receiver.read_to(at), f"cut off after {receiver.received} of {size}: {sender.error}"
    bystander.look()
    bystander.close()
    sender.join()
    assert bystander.growth <= GROWTH_MAX


def begin_download(gateway: GatewayProcess, backend: PlayedBackend, client: Client) -> PlayedConnection:
    client.send(get(host=b"prompt.test"))
    upstream = backend.accept()
    upstream.read_request()
    return upstream


@pytest.mark.slow
@pytest.mark.parametrize("gib", [2])
def test_a_huge_download_to_a_slow_client_leaves_the_memory_alone(
    gib: int, gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    size = gib * 1024 * MIB
    with Client(gateway.address, receive_buffer=BUFFER) as client:
        upstream = begin_download(gateway, prompt, client)
        sender = ZeroSender(upstream.sock, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, size)
        head = client.read_until(b"\r\n\r\n")
        assert b"\r\nContent-Length: %d\r\n" % size in head
        pass_slowly(gateway, sender, Receiver(client.sock, client.buffer, checked=False), size)
        client.buffer = b""
        # The connections of both sides are as good as before.
        client.send(get(host=b"prompt.test"))
        upstream.read_request()
        upstream.answer(b"after")
        assert client.read_answer().body == b"after"


@pytest.mark.slow
@pytest.mark.parametrize("gib", [2])
def test_a_huge_upload_to_a_slow_backend_leaves_the_memory_alone(
    gib: int, gateway: GatewayProcess, slow: PlayedBackend
) -> None:
    size = gib * 1024 * MIB
    with Client(gateway.address) as client:
        head = b"PUT / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: %d\r\n\r\n" % size
        sender = ZeroSender(client.sock, head, size)
        upstream = slow.accept()
        assert upstream.read_head().values(b"content-length") == [b"%d" % size]
        pass_slowly(gateway, sender, Receiver(upstream.sock, upstream.buffer, checked=False), size)
        upstream.buffer = b""
        upstream.answer(b"stored")
        assert client.read_answer().body == b"stored"
        client.send(get(host=b"slow.test"))
        assert upstream.read_request().line == b"GET / HTTP/1.1"
        upstream.answer(b"after")
        assert client.read_answer().body == b"after"


@pytest.mark.slow
def test_a_body_of_unknown_length_to_a_slow_client_leaves_the_memory_alone(
    gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    size = 256 * MIB
    with Client(gateway.address, receive_buffer=BUFFER) as client:
        client.send(get(host=b"prompt.test").replace(b"HTTP/1.1", b"HTTP/1.0"))
        upstream = prompt.accept()
        upstream.read_request()
        sender = ZeroSender(upstream.sock, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", size)
        client.read_until(b"\r\n\r\n")
        pass_slowly(gateway, sender, Receiver(client.sock, client.buffer, checked=False), size)
        upstream.close()
        assert client.sock.recv(1) == b""


def test_a_large_download_arrives_as_it_was_sent(gateway: GatewayProcess, prompt: PlayedBackend) -> None:
    body = pattern(COMPARED)
    with Client(gateway.address) as client:
        upstream = begin_download(gateway, prompt, client)
        sending = threading.Thread(target=upstream.answer, args=(body,), daemon=True)
        sending.start()
        client.read_until(b"\r\n\r\n")
        receiver = Receiver(client.sock, client.buffer, checked=True)
        assert receiver.read_to(COMPARED)
        sending.join()
        assert receiver.checksum == zlib.crc32(body)


def test_a_large_upload_arrives_as_it_was_sent(gateway: GatewayProcess, prompt: PlayedBackend) -> None:
    body = pattern(COMPARED)
    head = b"POST / HTTP/1.1\r\nHost: prompt.test\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Client(gateway.address) as client:
        sending = threading.Thread(target=lambda: (client.send(head), client.send(body)), daemon=True)
        sending.start()
        upstream = prompt.accept()
        upstream.read_head()
        receiver = Receiver(upstream.sock, upstream.buffer, checked=True)
        upstream.buffer = b""
        assert receiver.read_to(COMPARED)
        sending.join()
        assert receiver.checksum == zlib.crc32(body)
        upstream.answer(b"stored")
        assert client.read_answer().body == b"stored"


def test_what_is_pipelined_behind_a_large_upload_is_answered_after_it(
    gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    body = pattern(2 * MIB)
    head = b"POST /first HTTP/1.1\r\nHost: prompt.test\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Client(gateway.address) as client:
        sent = head + body + get(b"/second", host=b"prompt.test")
        sending = threading.Thread(target=client.send, args=(sent,), daemon=True)
        sending.start()
        upstream = prompt.accept()
        assert upstream.read_request().body == body
        upstream.answer(b"first")
        assert client.read_answer().body == b"first"
        assert upstream.read_request().line == b"GET /second HTTP/1.1"
        upstream.answer(b"second")
        assert client.read_answer().body == b"second"
        sending.join()


def test_a_large_upload_that_is_answered_early_ends_with_that_answer(
    gateway: GatewayProcess, slow: PlayedBackend
) -> None:
    size = 64 * MIB
    with Client(gateway.address) as client:
        head = b"PUT / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: %d\r\n\r\n" % size
        sender = ZeroSender(client.sock, head, size)
        upstream = slow.accept()
        upstream.read_head()
        sender.wait_until_blocked()
        upstream.answer(b"enough", status=b"413 Content Too Large")
        received = client.read_answer()
        assert (received.status, received.body) == (413, b"enough")
        assert received.values(b"connection") == [b"close"]
        client.close()
        sender.join()


def test_events_arrive_one_by_one(gateway: GatewayProcess, prompt: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin_download(gateway, prompt, client)
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        head = client.read_until(b"\r\n\r\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in head
        for number in range(20):
            # The next event is sent only after this one has arrived.
            event = b"id: %d\ndata: tick\n\n" % number
            upstream.send(b"%x\r\n%b\r\n" % (len(event), event))
            assert client.read_chunk() == event
            assert client.buffer == b""
        upstream.send(b"0\r\n\r\n")
        assert client.read_chunk() == b""
        assert client.read_line() == b""


def test_events_without_chunks_arrive_one_by_one(gateway: GatewayProcess, prompt: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin_download(gateway, prompt, client)
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        for number in range(20):
            event = b"data: %d\n\n" % number
            upstream.send(event)
            assert client.read_chunk() == event
        upstream.close()
        assert client.read_chunk() == b""


def test_a_request_body_arrives_piece_by_piece(gateway: GatewayProcess, prompt: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: prompt.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = prompt.accept()
        upstream.read_head()
        for number in range(20):
            client.send(b"4\r\n%04d\r\n" % number)
            assert upstream.read_chunk() == b"%04d" % number
        client.send(b"0\r\n\r\n")
        assert upstream.read_chunk() == b""
        upstream.answer(b"twenty")
        assert client.read_answer().body == b"twenty"


@pytest.mark.parametrize("when", ["before the head", "in a chunked body", "in a body of a length", "while spliced"])
def test_a_client_that_leaves_cancels_the_upstream_exchange(
    when: str, gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        upstream = begin_download(gateway, prompt, client)
        if when == "in a chunked body":
            upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            client.read_until(b"ab\r\n")
        elif when != "before the head":
            upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
            client.read_until(b"\r\n\r\n")
        if when == "while spliced":
            upstream.send(bytes(MIB))
            client.read_exactly(MIB)
    assert upstream.ended()


def test_a_client_that_leaves_inside_its_upload_cancels_the_upstream_exchange(
    gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: prompt.test\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        upstream = prompt.accept()
        upstream.read_head()
        client.send(bytes(MIB))
        upstream.read_exactly(MIB)
    assert upstream.ended()


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("body", ["short", "spliced", "chunked"])
def test_an_upstream_that_breaks_off_inside_a_body_makes_the_gateway_break_off(
    how: str, body: str, gateway: GatewayProcess, prompt: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        upstream = begin_download(gateway, prompt, client)
        if body == "chunked":
            upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            client.buffer = client.read_until(b"half\r\n")
        else:
            length = 8 if body == "short" else 64 * MIB
            upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhalf" % length)
            client.buffer = client.read_until(b"half")
        if how == "resets":
            upstream.reset()
        else:
            upstream.close()
        with pytest.raises(ConnectionEndedError):
            client.read_answer()
