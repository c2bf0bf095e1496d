"""Defects in passing bodies, each named after what was wrong."""

from __future__ import annotations

import pytest

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
