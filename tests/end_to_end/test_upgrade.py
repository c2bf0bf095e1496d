"""Tunnels: WebSocket with a real library on both ends, and what passes, ends and is refused, byte by byte."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import connections_of, descriptors, eventually
from tests.support.played import PlayedBackend, PlayedConnection
from tests.support.websocket import SWITCHED, WEBSOCKET

MIB = 1 << 20
PATIENCE_S = 10.0


def talk(connection: ServerConnection) -> None:
    """Sends back what comes; a few words are orders."""
    for message in connection:
        if message == "leave":
            connection.close(4321, "as ordered")
        elif message == "subprotocol":
            connection.send(str(connection.subprotocol))
        else:
            connection.send(message)


def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((one for one in offered if one == "chat.v2"), None)


def guard(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(HTTPStatus.FORBIDDEN, "not you") if request.path == "/closed" else None


@pytest.fixture(scope="module")
def websockets() -> Iterator[Server]:
    with serve(talk, "127.0.0.1", 0, max_size=64 * MIB, select_subprotocol=choose, process_request=guard) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield server
        server.shutdown()
        serving.join(PATIENCE_S)


@pytest.fixture(scope="module")
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(played: PlayedBackend) -> Iterator[None]:
    yield
    played.hang_up()


@pytest.fixture(scope="module")
def gateway(
    websockets: Server, played: PlayedBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    port = websockets.socket.getsockname()[1]
    config = f"""
        [server]
        workers = 1
        drain_timeout = "2s"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        played.endpoints = ["{played.address}"]
        websockets.endpoints = ["127.0.0.1:{port}"]
        brief = {{ endpoints = ["{played.address}"], tunnel_timeout = "300ms" }}

        [[routes]]
        host = "brief.test"
        upstream = "brief"

        [[routes]]
        host = "*.test"
        upstream = "played"

        [[routes]]
        host = "127.0.0.1"
        upstream = "websockets"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("upgrade")) as running:
        yield running


def websocket(gateway: GatewayProcess, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{gateway.port}/talk", proxy=None, max_size=64 * MIB, **options)


# With a real library.


def test_text_and_binary_messages_pass_both_ways(gateway: GatewayProcess) -> None:
    with websocket(gateway) as client:
        for message in ("Grüße, 世界", b"\x00\xff" * 100, "", b""):
            client.send(message)
            assert client.recv(PATIENCE_S) == message


def test_a_large_message_passes_both_ways(gateway: GatewayProcess) -> None:
    message = bytes(range(256)) * (16 * MIB // 256)
    with websocket(gateway, compression=None) as client:
        client.send(message)
        assert client.recv(PATIENCE_S) == message


def test_pings_and_fragments_pass(gateway: GatewayProcess) -> None:
    with websocket(gateway) as client:
        assert client.ping().wait(PATIENCE_S)
        client.send(["in ", "three ", "parts"])
        assert client.recv(PATIENCE_S) == "in three parts"


def test_the_client_closes_and_gets_its_handshake(gateway: GatewayProcess) -> None:
    with websocket(gateway) as client:
        client.close(4000, "done")
        assert (client.close_code, client.close_reason) == (4000, "done")


def test_the_server_closes_and_its_reason_arrives(gateway: GatewayProcess) -> None:
    with websocket(gateway) as client:
        client.send("leave")
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE_S)
        assert (client.close_code, client.close_reason) == (4321, "as ordered")


def test_a_subprotocol_is_negotiated_end_to_end(gateway: GatewayProcess) -> None:
    with websocket(gateway, subprotocols=[Subprotocol("chat.v1"), Subprotocol("chat.v2")]) as client:
        client.send("subprotocol")
        assert client.recv(PATIENCE_S) == "chat.v2"
        assert client.subprotocol == "chat.v2"


def test_many_tunnels_end_without_a_trace(gateway: GatewayProcess) -> None:
    worker = gateway.worker_pid()
    assert eventually(lambda: connections_of(worker, gateway.port) == 0)
    before = descriptors(worker)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(websocket(gateway)) for _ in range(20)]
        assert descriptors(worker) >= before + 40
        for client in clients[::2]:
            client.close()
        for client in clients[1::2]:
            client.send("leave")
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE_S)
    assert eventually(lambda: descriptors(worker) <= before), f"{descriptors(worker)} open, {before} before"


# Byte by byte.


def tunnel(
    gateway: GatewayProcess, played: PlayedBackend, host: bytes = b"a.test", receive_buffer: int | None = None
) -> tuple[Client, PlayedConnection]:
    client = Client(gateway.address, receive_buffer=receive_buffer)
    client.send(get(b"/tunnel", *WEBSOCKET, host=host))
    upstream = played.accept()
    upstream.read_head()
    upstream.send(SWITCHED)
    assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return client, upstream


def test_the_upgrade_is_asked_for_and_granted_in_full(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/tunnel", *WEBSOCKET))
        upstream = played.accept()
        asked = upstream.read_head()
        assert asked.line == b"GET /tunnel HTTP/1.1"
        assert [value.lower() for value in asked.values(b"connection")] == [b"upgrade"]
        assert asked.values(b"upgrade") == [b"websocket"]
        assert asked.values(b"sec-websocket-key") == [b"dGhlIHNhbXBsZSBub25jZQ=="]
        assert asked.values(b"sec-websocket-version") == [b"13"]
        upstream.send(SWITCHED)
        granted = client.read_answer()
        assert granted.status == 101
        assert [value.lower() for value in granted.values(b"connection")] == [b"upgrade"]
        assert granted.values(b"upgrade") == [b"websocket"]
        assert granted.values(b"sec-websocket-accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]


def test_bytes_sent_ahead_of_the_101_arrive_after_it(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/tunnel", *WEBSOCKET) + b"ahead, in the packet of the head")
        upstream = played.accept()
        upstream.read_head()
        client.send(b" and in another")
        # Not before the 101: until then they could be a request, and it would be for the gateway to read them.
        upstream.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            upstream.sock.recv(1)
        upstream.sock.settimeout(PATIENCE_S)
        upstream.send(SWITCHED + b"first of the server")
        assert upstream.read_until(b"in another") == b"ahead, in the packet of the head and in another"
        client.read_until(b"\r\n\r\n")
        assert client.read_until(b"server") == b"first of the server"


def test_whatever_bytes_pass_a_tunnel_as_they_are(gateway: GatewayProcess, played: PlayedBackend) -> None:
    client, upstream = tunnel(gateway, played)
    with client:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\r\n\r\n0\r\n\r\n", bytes(range(256)) * 1000):
            client.send(data)
            assert upstream.read_exactly(len(data)) == data
            upstream.send(data)
            assert client.read_exactly(len(data)) == data


@pytest.mark.parametrize("first", ["client", "backend"])
def test_one_side_may_go_on_after_the_other_has_ended(
    first: str, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    client, upstream = tunnel(gateway, played)
    with client:
        early, late = (client, upstream) if first == "client" else (upstream, client)
        early.send(b"my last words")
        early.half_close()
        assert late.read_to_end() == b"my last words"
        late.send(b"mine too")
        late.close()
        assert early.read_to_end() == b"mine too"


@pytest.mark.parametrize("who", ["client", "backend"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_when_one_side_is_gone_the_other_learns_it(
    who: str, how: str, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    client, upstream = tunnel(gateway, played)
    with client:
        gone, left = (client, upstream) if who == "client" else (upstream, client)
        getattr(gone, how)()
        assert left.read_to_end() == b""


def test_a_slow_reader_holds_the_sender_back_and_loses_nothing(gateway: GatewayProcess, played: PlayedBackend) -> None:
    client, upstream = tunnel(gateway, played, receive_buffer=64 * 1024)
    size = 64 * MIB
    with client:
        sending = threading.Thread(target=upstream.send, args=(bytes(size),), daemon=True)
        sending.start()
        sending.join(0.3)
        assert sending.is_alive()
        received = 0
        while received < size:
            received += len(client.sock.recv(MIB))
        sending.join(PATIENCE_S)
        assert received == size


def test_a_tunnel_through_which_nothing_passes_is_closed(gateway: GatewayProcess, played: PlayedBackend) -> None:
    client, upstream = tunnel(gateway, played, host=b"brief.test")
    with client:
        assert client.read_to_end() == b""
        assert upstream.ended()


def test_a_refused_upgrade_is_an_ordinary_answer(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/tunnel", *WEBSOCKET))
        upstream = played.accept()
        upstream.read_head()
        upstream.answer(b"not you", b"X-Why: because", status=b"403 Forbidden")
        received = client.read_answer()
        assert (received.status, received.body) == (403, b"not you")
        assert received.values(b"x-why") == [b"because"]
        # Both connections go on speaking HTTP.
        client.send(get(b"/after"))
        assert upstream.read_request().line == b"GET /after HTTP/1.1"
        upstream.answer(b"after")
        assert client.read_answer().body == b"after"


def test_a_library_sees_a_refused_upgrade_as_one(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{gateway.port}/closed", proxy=None)
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"not you"


def test_an_upgrade_that_is_ignored_is_an_ordinary_answer(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/tunnel", *WEBSOCKET))
        upstream = played.accept()
        upstream.read_head()
        upstream.answer(b"plain")
        received = client.read_answer()
        assert (received.status, received.body) == (200, b"plain")
        assert received.values(b"upgrade") == []


def test_http2_in_plain_text_is_never_asked_for(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"))
        upstream = played.accept()
        asked = upstream.read_head()
        assert asked.values(b"upgrade") == asked.values(b"connection") == asked.values(b"http2-settings") == []
        upstream.answer(b"plain")
        assert client.read_answer().body == b"plain"
