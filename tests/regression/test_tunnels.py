"""Defects of tunnels, each named after what was wrong."""

from __future__ import annotations

import pytest

from tests.net.rig import Rig
from tests.support.client import Client, get
from tests.support.gateway import GatewayProcess
from tests.support.observe import connections_of, descriptors, eventually
from tests.support.played import PlayedBackend, PlayedConnection

WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")


def tunnel(gateway: GatewayProcess, played: PlayedBackend, client: Client) -> PlayedConnection:
    client.send(get(b"/", *WEBSOCKET))
    upstream = played.accept()
    upstream.read_head()
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.read_answer().status == 101
    return upstream


@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_tunnels_descriptors_stayed_open_after_both_sides_had_ended(
    first: str, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    worker = gateway.worker_pid()
    assert eventually(lambda: connections_of(worker, gateway.port) == 0)
    before = descriptors(worker)
    with Client(gateway.address) as client:
        upstream = tunnel(gateway, played, client)
        early, late = (client, upstream) if first == "client" else (upstream, client)
        # Neither closes: each only says that it has said all.
        early.half_close()
        assert late.read_to_end() == b""
        late.half_close()
        assert early.read_to_end() == b""
        assert eventually(lambda: descriptors(worker) <= before), f"{descriptors(worker)} open, {before} before"


@pytest.mark.parametrize("switched", [b"Upgrade: other", b"Upgrade: websocket, other", b"X-A: 1"])
def test_a_switch_to_a_protocol_that_was_not_asked_for_was_passed_on(
    switched: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/", *WEBSOCKET))
        upstream = played.accept()
        upstream.read_head()
        upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n%b\r\n\r\n" % switched)
        assert client.read_answer().status == 502
        assert upstream.ended()


def test_a_switch_that_was_not_asked_for_at_all_was_passed_on(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get())
        upstream = played.accept()
        upstream.read_head()
        upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.read_answer().status == 502
        assert upstream.ended()


def test_an_upstream_that_switched_before_the_request_was_complete_was_followed() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(get(b"/", *WEBSOCKET, b"Content-Length: 9", method=b"PUT"))
    backend.receive(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert backend.closed
