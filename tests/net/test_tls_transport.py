from __future__ import annotations

import asyncio
import ssl
import weakref
from typing import cast

import pytest

from fastgw.net.tls_transport import TlsTransport
from tests.net.rig import FakeLoop, Wire
from tests.net.tls_peers import MemoryClient, client_context, server_context


class Talk(asyncio.Protocol):
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.keeps_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class TlsWire(Wire):
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast(asyncio.Protocol, protocol)


class Pair:
    """A client and a server that have shaken hands."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.talk = Talk()
        self.wire = TlsWire(self.loop, self.talk, ("192.0.2.7", 4711))
        self.transport = TlsTransport(self.wire, server_context())
        self.client = MemoryClient(client_context())
        done = False
        while not done:
            self.client.shake()
            done = self.transport.handshake(self.client.to_server.read())
            self.client.from_server.write(self.wire.take())
        self.transport.carry(self.talk)

    def send(self, data: bytes) -> None:
        self.client.side.write(data)
        self.wire.receive(self.client.to_server.read())

    def received(self) -> bytes:
        self.client.from_server.write(self.wire.take())
        return self.client.read()


def test_bytes_pass_both_ways() -> None:
    pair = Pair()
    pair.send(b"hello")
    pair.transport.write(b"world")
    assert (pair.talk.received, pair.received(), pair.talk.events) == (b"hello", b"world", ["made"])


def test_what_is_longer_than_a_record_is_whole() -> None:
    pair = Pair()
    body = bytes(range(256)) * 1000
    for at in range(0, len(body), 16000):
        pair.client.side.write(body[at : at + 16000])
    pair.wire.receive(pair.client.to_server.read())
    pair.transport.write(body)
    assert (pair.talk.received == body, pair.received() == body) == (True, True)


def test_a_record_that_comes_in_pieces_is_delivered_when_it_is_whole() -> None:
    pair = Pair()
    pair.client.side.write(b"hello")
    record = pair.client.to_server.read()
    for at in range(len(record)):
        assert pair.talk.received == b""
        pair.wire.receive(record[at : at + 1])
    assert pair.talk.received == b"hello"


def test_closing_one_half_says_so_and_goes_on_reading() -> None:
    pair = Pair()
    pair.transport.write(b"last")
    pair.transport.write_eof()
    assert (pair.received(), pair.wire.sent_eof, pair.wire.closed) == (b"lastEOF", True, False)
    pair.send(b"still there")
    pair.transport.write(b"nobody hears it")
    assert (pair.talk.received, pair.received()) == (b"still there", b"EOF")


def test_closing_says_goodbye_first() -> None:
    pair = Pair()
    pair.transport.close()
    assert (pair.received(), pair.wire.closed) == (b"EOF", True)


@pytest.mark.parametrize("keeps_open", [True, False])
def test_a_client_that_has_said_all_may_have_its_answer(keeps_open: bool) -> None:
    pair = Pair()
    pair.talk.keeps_open = keeps_open
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.side.unwrap()
    pair.wire.receive(pair.client.to_server.read())
    assert (pair.talk.events, pair.wire.closed) == (["made", "eof"] + ([] if keeps_open else ["lost"]), not keeps_open)


def test_a_client_that_is_cut_off_keeps_nothing_open() -> None:
    pair = Pair()
    pair.talk.keeps_open = True
    pair.wire.half_close()
    assert (pair.talk.events, pair.wire.closed) == (["made", "eof", "lost"], True)


def test_bytes_that_are_no_record_break_the_connection_off() -> None:
    pair = Pair()
    pair.wire.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert (pair.talk.received, pair.wire.aborted) == (b"", True)


def test_a_failed_handshake_tells_the_client_why() -> None:
    wire = TlsWire(FakeLoop(), Talk(), None)
    transport = TlsTransport(wire, server_context())
    with pytest.raises(ssl.SSLError):
        transport.handshake(b"\x16\x03\x01\x00\x05hello")
    # An alert.
    assert wire.sent[:1] == b"\x15"


def test_what_is_written_after_an_alert_is_dropped() -> None:
    pair = Pair()
    pair.wire.receive(b"\x15\x03\x03\x00\x02\x02\x28")
    pair.transport.write(b"late")
    pair.transport.close()
    assert (pair.talk.events, pair.wire.aborted) == (["made", "lost"], True)


def test_what_is_held_goes_out_with_the_goodbye() -> None:
    pair = Pair()
    pair.transport.hold()
    pair.transport.write(b"last")
    assert pair.wire.sent == b""
    pair.transport.close()
    assert (pair.received(), pair.wire.closed) == (b"lastEOF", True)


def test_unsent_bytes_are_those_of_the_network() -> None:
    pair = Pair()
    pair.wire.blocked = True
    pair.transport.write(bytes(100))
    assert pair.transport.get_write_buffer_size() > 100


def test_nothing_is_kept_alive_when_the_connection_is_lost() -> None:
    pair = Pair()
    talk = weakref.ref(pair.talk)
    pair.wire.lose()
    pair.talk = pair.wire.protocol = Talk()
    assert talk() is None
