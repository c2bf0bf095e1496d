"""A WebSocket that outlasts a stop's drain_timeout: both ends are told in their own language that it ends."""

from __future__ import annotations

import queue
import signal
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend
from tests.support.websocket import SWITCHED, WEBSOCKET

# Text of five bytes, as a server sends it, and as a client does.
HELLO = b"\x81\x05hello"
MASKED_HELLO = b"\x81\x85\0\0\0\0hello"
GOING_AWAY = b"\x88\x02\x03\xe9"
MASKED_GOING_AWAY = b"\x88\x82\0\0\0\0\x03\xe9"
CLOSE = b"\x88\x02\x03\xe8"


def config(upstream: str) -> str:
    return f"""
        [server]
        workers = 1
        drain_timeout = "300ms"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = ["{upstream}"]

        [[routes]]
        upstream = "backend"
    """


def stop(gateway: GatewayProcess) -> None:
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def test_client_and_server_hear_that_the_gateway_goes_away(tmp_path: Path) -> None:
    heard: queue.Queue[int] = queue.Queue()

    def talk(connection: ServerConnection) -> None:
        try:
            for message in connection:
                connection.send(message)
        finally:
            # What the iteration ends with for 1001 is no exception.
            heard.put(connection.close_code or 0)

    with serve(talk, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        gateway = GatewayProcess(config(f"127.0.0.1:{server.socket.getsockname()[1]}"), tmp_path).start()
        with connect(f"ws://127.0.0.1:{gateway.port}/", compression=None) as client:
            client.send("hello")
            assert client.recv() == "hello"
            stop(gateway)
            with pytest.raises(ConnectionClosed) as caught:
                client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        assert heard.get(timeout=10) == 1001
        server.shutdown()
        serving.join(10)


@pytest.mark.parametrize(
    ("from_client", "from_server", "to_client", "to_server"),
    [
        (MASKED_HELLO, HELLO, GOING_AWAY, MASKED_GOING_AWAY),
        # In the middle of a frame nothing can be said.
        (MASKED_HELLO, HELLO[:4], b"", MASKED_GOING_AWAY),
        (MASKED_HELLO[:1], HELLO, GOING_AWAY, b""),
        # It has been said.
        (b"", CLOSE, b"", MASKED_GOING_AWAY),
    ],
)
def test_what_is_said_last_stands_behind_whole_frames(
    from_client: bytes, from_server: bytes, to_client: bytes, to_server: bytes, tmp_path: Path
) -> None:
    with PlayedBackend() as played:
        gateway = GatewayProcess(config(played.address), tmp_path).start()
        with Client(gateway.address) as client:
            client.send(get(b"/", *WEBSOCKET))
            server = played.accept()
            server.read_head()
            # The first frame may come with the head.
            server.send(SWITCHED + from_server)
            assert client.read_answer().status == 101
            assert client.read_exactly(len(from_server)) == from_server
            client.send(from_client)
            assert server.read_exactly(len(from_client)) == from_client
            stop(gateway)
            assert client.read_to_end() == to_client
            assert server.read_to_end() == to_server


def test_another_protocol_is_left_alone(tmp_path: Path) -> None:
    with PlayedBackend() as played:
        gateway = GatewayProcess(config(played.address), tmp_path).start()
        with Client(gateway.address) as client:
            client.send(get(b"/", b"Connection: Upgrade", b"Upgrade: echo"))
            server = played.accept()
            server.read_head()
            server.send(SWITCHED.replace(b"websocket", b"echo"))
            assert client.read_answer().status == 101
            stop(gateway)
            assert client.read_to_end() == b""
            assert server.ended()
