"""Defects around splicing, each named after what was wrong."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from fastgw.net import splice
from fastgw.net.clock import Sweep
from fastgw.net.splice import DONE, SPLICE_MIN, Splice
from tests.fakes import Bugs, Clock
from tests.net.rig import HIGH_WATER, Rig, Wire


@pytest.mark.asyncio
async def test_a_body_that_ended_where_a_turn_ended_was_never_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "_TURN_BYTES", 1000)
    loop = asyncio.get_running_loop()
    over: asyncio.Future[int] = loop.create_future()
    with ExitStack() as stack:
        sender, source, sink, receiver = [
            stack.enter_context(one) for pair in (socket.socketpair(), socket.socketpair()) for one in pair
        ]
        for one in (sender, source, sink, receiver):
            one.setblocking(False)
        ends = ((source.fileno(), 5.0), (sink.fileno(), 5.0))
        moving = Splice(loop, Sweep(loop, Clock(), Bugs()), Clock(), *ends, 1000, over.set_result)
        sender.send(bytes(1000))
        for _ in range(20):
            await asyncio.sleep(0)
        moving.cancel()
        assert receiver.recv(2000) == bytes(1000)
        assert over.done()
        assert over.result() == DONE


def congest(wire: Wire) -> None:
    """What was written to it before is too much for the other end."""
    wire.blocked = True
    wire.write(bytes(HIGH_WATER + 1))


def test_an_answer_was_read_on_when_its_client_fell_behind_before_the_splice_began() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * SPLICE_MIN))
    congest(client)
    rig.loop.run()
    assert not backend.reading
    client.unblock()
    assert backend.reading


def test_a_request_was_read_on_when_its_backend_fell_behind_before_the_splice_began() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.protocol.data_received(b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % (2 * SPLICE_MIN))
    congest(backend)
    rig.loop.run()
    assert not client.reading
    backend.unblock()
    assert client.reading
