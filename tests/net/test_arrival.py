"""PROXY headers and handshakes ahead of the first request, over transports that only take notes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from typing import cast

import pytest

from fastgw.counters import FAILED_HANDSHAKES, HANDSHAKES
from fastgw.net.proxy_header import header
from fastgw.snapshot import KeyPair
from tests.net.rig import Rig, Wire, messages
from tests.net.tls_peers import NAME, MemoryClient, authority, client_context, listener_files

CLIENT, DESTINATION = ("198.51.100.7", 4711), ("203.0.113.1", 443)
TLS = 'tls = { certificates = [{ cert = "@DIR@/a.pem" }] }'
REQUEST = b"GET /own HTTP/1.1\r\nHost: a.test\r\n\r\n"


class SwitchingWire(Wire):
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast(asyncio.Protocol, protocol)


def rig(listener: str) -> Rig:
    return Rig(
        f"""
        [server]
        trusted_proxies = ["192.0.2.0/24"]
        [[listeners]]
        name = "in"
        address = "127.0.0.1:0"
        {listener.replace("@DIR@", listener_files())}
        [upstreams.a]
        endpoints = ["b:1"]
        [[routes]]
        upstream = "a"
        [[routes]]
        path = "/own"
        respond.body = "own"
        """
    )


def arrive(made: Rig, peername: object = ("192.0.2.7", 4711)) -> SwitchingWire:
    arrival = made.server.connect()
    wire = SwitchingWire(made.loop, arrival, peername)
    arrival.connection_made(wire)
    made.loop.run()
    return wire


def bodies(wire: Wire) -> list[bytes]:
    return [message.body for message in messages(wire.sent)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_header_may_come_with_the_request_or_in_pieces(version: str) -> None:
    made = rig("proxy_protocol = true")
    sent = header(version, CLIENT, DESTINATION) + REQUEST
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        wire = arrive(made)
        wire.receive(*pieces)
        assert bodies(wire) == [b"own"]
        wire.lose()
    assert [exchange.client for exchange in made.logged] == [b"198.51.100.7"] * 2
    assert made.logged[0].downstream.addresses() == (CLIENT, DESTINATION)
    assert made.server.connections == set()


@pytest.mark.parametrize("sent", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
def test_a_header_that_tells_of_nobody_leaves_the_peer_s_address(sent: bytes) -> None:
    made = rig("proxy_protocol = true")
    wire = arrive(made)
    wire.receive(sent, REQUEST)
    assert bodies(wire) == [b"own"]
    assert made.logged[0].client == b"192.0.2.7"
    # A trusted proxy itself.
    assert made.logged[0].downstream.trusted


def test_whom_a_header_tells_of_is_only_believed_when_trusted_itself() -> None:
    made = rig("proxy_protocol = true")
    wire = arrive(made)
    claim = REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    wire.receive(header("v2", CLIENT, DESTINATION) + claim)
    assert made.logged[0].client == b"198.51.100.7"


def test_a_header_from_nobody_who_is_trusted_is_refused_and_told() -> None:
    made = rig("proxy_protocol = true")
    wire = arrive(made, ("198.51.100.1", 1))
    assert (wire.closed, wire.sent) == (True, b"")
    (line,) = made.told
    assert line.startswith("listener in: connection from 198.51.100.1 refused: it is none of server.trusted_proxies")
    assert made.server.connections == set()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (REQUEST, "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n", "a malformed PROXY line"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c", "an unknown version or command in the PROXY header"),
    ],
)
def test_what_is_no_header_is_refused_and_told_once(sent: bytes, why: str) -> None:
    made = rig("proxy_protocol = true")
    wire = arrive(made)
    wire.receive(sent)
    assert (wire.closed, wire.sent, made.logged) == (True, b"", [])
    assert made.told == [f"listener in: connection from 192.0.2.7 refused: {why}"]


def test_the_time_for_a_header_ends() -> None:
    made = rig("proxy_protocol = true")
    wire = arrive(made)
    wire.receive(b"PROXY TCP4")
    made.after(9.0)
    assert not wire.closed
    made.after(1.5)
    assert wire.closed
    assert made.told == ["listener in: connection from 192.0.2.7 refused: no PROXY header came within head_timeout"]
    assert made.server.connections == set()


def test_a_client_that_goes_inside_its_header_is_told_and_one_that_says_nothing_is_not() -> None:
    made = rig("proxy_protocol = true")
    arrive(made).half_close()
    arrive(made).lose()
    assert made.told == []
    wire = arrive(made)
    wire.receive(b"PROXY ")
    wire.half_close()
    assert made.told == [
        "listener in: connection from 192.0.2.7 refused: the client closed the connection inside the PROXY header"
    ]


def test_a_client_that_is_gone_already_is_nobody_s_business() -> None:
    made = rig("proxy_protocol = true")
    assert arrive(made, None).closed
    assert (made.told, made.server.connections) == ([], set())


def shake(wire: Wire, client: MemoryClient) -> None:
    while not client.shake():
        wire.receive(client.to_server.read())
        client.from_server.write(wire.take())
    if client.to_server.pending:
        wire.receive(client.to_server.read())


@pytest.mark.parametrize("ahead", [b"", header("v1", CLIENT, DESTINATION), header("v2", CLIENT, DESTINATION)])
def test_tls_comes_behind_the_header(ahead: bytes) -> None:
    made = rig(f"proxy_protocol = {str(ahead != b'').lower()}\n{TLS}")
    wire = arrive(made)
    client = MemoryClient(client_context())
    client.shake()
    wire.receive(ahead + client.to_server.read())
    client.from_server.write(wire.take())
    shake(wire, client)
    client.side.write(REQUEST)
    wire.receive(client.to_server.read())
    client.from_server.write(wire.take())
    assert client.read().endswith(b"\r\n\r\nown")
    (exchange,) = made.logged
    assert exchange.client == (b"198.51.100.7" if ahead else b"192.0.2.7")
    assert exchange.downstream.scheme == b"https"
    assert (made.gateway.counters[HANDSHAKES], made.gateway.counters[FAILED_HANDSHAKES]) == (1, 0)
    session = exchange.downstream.session
    assert session is not None
    assert (session.version, session.server_name) == ("TLSv1.3", b"a.test")


def test_a_failed_handshake_is_counted_and_told() -> None:
    made = rig(TLS)
    wire = arrive(made)
    wire.receive(b"\x16\x03\x01\x00\x05hello")
    assert wire.closed
    # An alert says why.
    assert wire.sent[:1] == b"\x15"
    assert (made.gateway.counters[HANDSHAKES], made.gateway.counters[FAILED_HANDSHAKES]) == (1, 1)
    (line,) = made.told
    assert line.startswith("listener in: connection from 192.0.2.7 refused: the TLS handshake failed: [SSL")


def test_a_handshake_that_takes_too_long_is_counted_and_told() -> None:
    made = rig(TLS)
    silent, slow = arrive(made), arrive(made)
    slow.receive(b"\x16")
    made.after(10.5)
    assert (silent.closed, slow.closed) == (True, True)
    assert made.gateway.counters[FAILED_HANDSHAKES] == 1
    assert len(made.told) == 1


def test_plain_text_on_a_tls_listener_gets_400_and_is_logged() -> None:
    made = rig(TLS)
    wire = arrive(made)
    wire.receive(REQUEST)
    (message,) = messages(wire.sent)
    assert message.start == b"HTTP/1.1 400 Bad Request"
    assert b"This port speaks HTTPS" in message.body
    assert [exchange.reason for exchange in made.logged] == ["plain-text"]


def test_over_the_limit_nobody_gets_a_handshake() -> None:
    made = rig(f"max_connections = 1\n{TLS}")
    first, second = arrive(made), arrive(made)
    assert (first.closed, second.closed) == (False, True)
    assert "as many connections as it may have" in made.told[0]
    shake(first, MemoryClient(client_context()))
    assert len(made.server.connections) == 1
    first.lose()
    assert made.server.connections == set()


def test_a_stop_gives_who_has_just_connected_a_second() -> None:
    made = rig(TLS)
    wire = arrive(made)
    made.server.drain()
    made.after(1.5)
    assert (wire.closed, made.told) == (True, [])
    other = arrive(made)
    made.server.abort()
    assert other.aborted


def test_the_client_s_certificate_may_be_refused() -> None:
    made = rig('tls = { certificates = [{ cert = "@DIR@/a.pem" }], client_ca = "@DIR@/ca.pem" }')
    wire = arrive(made)
    client = MemoryClient(client_context(ssl.TLSVersion.TLSv1_2))
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake failure"):
        shake(wire, client)
    assert "peer did not return a certificate" in made.told[0]


def test_who_gets_through_its_handshake_while_the_gateway_stops_has_a_second_for_its_request() -> None:
    made = rig(TLS)
    wire = arrive(made)
    made.server.draining = True
    shake(wire, MemoryClient(client_context()))
    made.after(0.9)
    assert not wire.closed
    made.after(0.2)
    assert wire.closed


@pytest.mark.parametrize("adopted", ["", TLS.replace(" }]", ' }], hsts = "1h"')])
def test_a_handshake_ends_with_what_it_began_with_whatever_was_adopted_meanwhile(adopted: str) -> None:
    made = rig(TLS)
    wire = arrive(made)
    client = MemoryClient(client_context())
    client.shake()
    wire.receive(client.to_server.read())
    client.from_server.write(wire.take())
    made.server.adopt(rig(adopted).server.listener)
    shake(wire, client)
    client.side.write(REQUEST)
    wire.receive(client.to_server.read())
    client.from_server.write(wire.take())
    assert client.read().endswith(b"\r\n\r\nown")
    assert made.logged[0].downstream.scheme == b"https"


def test_a_header_s_unknown_client_is_not_on_our_unix_socket() -> None:
    made = rig("proxy_protocol = true")
    made.gateway.snapshot = replace(made.gateway.snapshot, trusts_unix=True)
    wire = arrive(made)
    wire.receive(b"\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216) + REQUEST)
    assert (made.logged[0].client, made.logged[0].downstream.trusted) == (b"unknown", False)


# An ACME authority among the clients (RFC 8737).


def awaiting_authority() -> Rig:
    made = rig(TLS)
    issued = authority().issue_cert(NAME, organization_name="challenge")
    pair = KeyPair(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())
    made.gateway.snapshot = replace(made.gateway.snapshot, tls_challenges={NAME.encode(): pair})
    return made


def offering(*protocols: str, name: str = NAME) -> MemoryClient:
    context = client_context()
    context.set_alpn_protocols(protocols)
    return MemoryClient(context, name=name)


def organizations(client: MemoryClient) -> list[str]:
    subject = client.side.getpeercert()["subject"]
    return [value for part in subject for key, value in part if key == "organizationName" and value == "challenge"]


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_authority_sees_its_certificate_and_the_connection_ends(step: int) -> None:
    made = awaiting_authority()
    wire = arrive(made)
    client = offering("acme-tls/1")
    client.shake()
    hello = client.to_server.read()
    wire.receive(*(hello[at : at + step] for at in range(0, len(hello), step)))
    client.from_server.write(wire.take())
    shake(wire, client)
    assert client.side.selected_alpn_protocol() == "acme-tls/1"
    assert organizations(client) == ["challenge"]
    assert (wire.closed, made.logged, made.told) == (True, [], [])
    assert made.server.connections == set()


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize("protocols", [("http/1.1",), ("h2", "http/1.1")])
def test_all_others_are_served_as_ever_meanwhile(step: int, protocols: tuple[str, ...]) -> None:
    made = awaiting_authority()
    wire = arrive(made)
    client = offering(*protocols)
    client.shake()
    hello = client.to_server.read()
    wire.receive(*(hello[at : at + step] for at in range(0, len(hello), step)))
    client.from_server.write(wire.take())
    shake(wire, client)
    assert client.side.selected_alpn_protocol() == "http/1.1"
    assert organizations(client) == []
    client.side.write(REQUEST)
    wire.receive(client.to_server.read())
    client.from_server.write(wire.take())
    assert client.read().endswith(b"\r\n\r\nown")


def test_who_asks_as_an_authority_for_another_name_or_at_another_time_is_a_client_as_all() -> None:
    for made, name in ((awaiting_authority(), "b.test"), (rig(TLS), NAME)):
        wire = arrive(made)
        client = offering("acme-tls/1", name=name)
        with contextlib.suppress(ssl.SSLCertVerificationError):
            shake(wire, client)
        assert client.side.selected_alpn_protocol() is None
        assert b"challenge" not in wire.sent


def test_a_hello_goes_on_when_the_challenge_is_over() -> None:
    made = awaiting_authority()
    wire = arrive(made)
    client = offering("http/1.1")
    client.shake()
    hello = client.to_server.read()
    wire.receive(hello[:100])
    made.gateway.snapshot = replace(made.gateway.snapshot, tls_challenges={})
    wire.receive(hello[100:])
    client.from_server.write(wire.take())
    shake(wire, client)
    assert client.side.selected_alpn_protocol() == "http/1.1"


def test_who_goes_inside_its_hello_is_told_while_an_authority_is_awaited() -> None:
    made = awaiting_authority()
    wire = arrive(made)
    wire.receive(b"\x16\x03\x01")
    wire.lose()
    assert made.told == [
        "listener in: connection from 192.0.2.7 refused: the client closed the connection inside the TLS handshake"
    ]
