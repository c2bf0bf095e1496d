"""Defects in reading heads, each named after what was wrong."""

from __future__ import annotations

import json

import pytest

from tests.support.client import Client, get
from tests.support.gateway import GatewayProcess
from tests.support.observe import eventually
from tests.support.played import PlayedBackend


def refused_at_once(gateway: GatewayProcess, played: PlayedBackend, sent: bytes) -> None:
    with Client(gateway.address) as client:
        client.send(sent)
        assert client.read_answer().status in (400, 501)
        assert client.read_to_end() == b""
    assert played.nobody_connects()


@pytest.mark.parametrize("before", [b"\n", b"\r\n\n", b"\r", b" ", b"\t", b"\r\n\r\n\n"])
def test_a_bare_line_feed_before_the_method_reached_the_backend(
    before: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    refused_at_once(gateway, played, before + get())


@pytest.mark.parametrize("target", [b"/", b"*", b"http://a.test/"])
def test_connect_with_a_target_of_another_form_was_forwarded(
    target: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    refused_at_once(gateway, played, get(target, method=b"CONNECT"))


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\nHost: a.test\n\n", b"GET / HTTP/1.1\r\nHost: a.test\n\r\n", b"GET / HTTP/1.1\n"]
)
def test_a_head_of_bare_line_feeds_waited_for_its_time_out(
    head: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    refused_at_once(gateway, played, head)


def test_a_trusted_proxys_forwarded_for_put_quotes_into_the_access_log(
    gateway: GatewayProcess, played: PlayedBackend
) -> None:
    path = gateway.directory / "access.log"
    with Client(gateway.address) as client:
        client.send(get(b"/forged", b'X-Forwarded-For: 1.2.3.4","forged":"1'))
        upstream = played.accept()
        upstream.read_request()
        upstream.answer()
        client.read_answer()
    assert eventually(lambda: path.exists() and "/forged" in path.read_text())
    (line,) = (json.loads(line) for line in path.read_text().splitlines() if "/forged" in line)
    assert "forged" not in line
    assert '"' not in line["client"]
