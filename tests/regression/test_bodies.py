"""Defects in passing bodies, each named after what was wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import pytest

from fastgw.net import splice
from fastgw.net.clock import FOREVER
from fastgw.net.splice import SPLICE_MIN, Splice
from tests.net.rig import CONFIG, Rig
from tests.regression.conftest import BODY_SIZE
from tests.support.client import Client, get
from tests.support.gateway import GatewayProcess
from tests.support.played import PlayedBackend


@pytest.mark.parametrize("end", [b"\r\n0\r\n\r\n", b""])
def test_a_chunked_body_that_came_with_its_head_was_not_bounded(
    end: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    size = BODY_SIZE + 1
    with Client(gateway.address) as client:
        head = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
        client.send(head + b"%x\r\n%b" % (size, bytes(size if end else size - 1)) + end)
        assert client.read_answer().status == 413
        assert client.read_to_end() == b""
    assert played.nobody_connects()


def test_a_refusal_was_lost_when_the_refused_body_came_all_the_same(gateway: GatewayProcess) -> None:
    size = 4 << 20
    with Client(gateway.address) as client:
        client.send(get(b"/", b"Content-Length: %d" % size, method=b"POST"))
        client.send(bytes(size))
        assert client.read_answer().status == 413
        assert client.read_to_end() == b""


SLOW = '[[listeners]]\naddress = "127.0.0.1:0"\nlimits.body_min_rate = "1MB/s"\n' + CONFIG
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_client_that_was_told_to_continue_and_sent_nothing_was_waited_for_for_ever() -> None:
    rig = Rig(SLOW)
    client, backend = rig.both()
    client.receive(get(b"/", b"Content-Length: 9", b"Expect: 100-continue", method=b"PUT"))
    rig.after(20.0)
    assert client.take() == b""
    backend.receive(CONTINUE)
    assert client.take() == CONTINUE
    rig.after(9.0)
    assert client.take() == b""
    rig.after(2.0)
    assert client.take().startswith(b"HTTP/1.1 408 ")
    assert backend.closed


@pytest.mark.parametrize("held_up", [False, True])
def test_the_pace_of_a_body_was_not_judged_while_it_was_spliced(held_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(SLOW)
    client, backend = rig.both()
    monkeypatch.setattr(rig.loop, "add_reader", lambda *_: None, raising=False)
    monkeypatch.setattr(rig.loop, "remove_reader", lambda *_: None, raising=False)
    monkeypatch.setattr(rig.loop, "remove_writer", lambda *_: None, raising=False)
    with contextlib.ExitStack() as stack:
        for wire in (client, backend):
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            wire._extra["socket"] = stack.enter_context(ours)  # type: ignore[attr-defined]
        client.receive(get(b"/", b"Content-Length: %d" % (2 * SPLICE_MIN), method=b"PUT"))
        (running,) = [one for one in rig.sweep.watched if isinstance(one, Splice)]
        monkeypatch.setattr(Splice, "was_held_up", lambda _: held_up)
        running.deadline = FOREVER
        rig.after(11.0)
        assert client.take().startswith(b"" if held_up else b"HTTP/1.1 408 ")
        assert backend.closed is not held_up
        client.protocol.connection_lost(None)


@pytest.mark.parametrize("side", ["request", "answer"])
def test_a_splice_without_descriptors_left_its_exchange_hanging(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(source: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    rig = Rig()
    client, backend = rig.both()
    kept: list[tuple[int, int]] = []
    monkeypatch.setattr(splice, "_pipes", kept)
    with contextlib.ExitStack() as stack:
        for wire in (client, backend):
            wire._extra["socket"] = stack.enter_context(socket.socket())  # type: ignore[attr-defined]
        with monkeypatch.context() as without:
            without.setattr(os, "dup", none_left)
            if side == "request":
                client.receive(get(b"/", b"Content-Length: %d" % (2 * SPLICE_MIN), method=b"PUT"))
                client.receive(bytes(2 * SPLICE_MIN))
                assert len(backend.take().partition(b"\r\n\r\n")[2]) == 2 * SPLICE_MIN
            else:
                client.receive(get())
                backend.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * SPLICE_MIN))
                backend.receive(bytes(2 * SPLICE_MIN))
                assert len(client.take().partition(b"\r\n\r\n")[2]) == 2 * SPLICE_MIN
        assert kept == []
