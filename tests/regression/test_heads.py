"""Defects in reading heads, each named after what was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastgw import errors
from fastgw.http1 import fields
from fastgw.http1.message import RequestHead
from fastgw.http1.parse import RequestParser
from tests.net.rig import Rig
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


def test_very_many_empty_lines_before_a_request_took_quadratic_time() -> None:
    class Counted(bytes):
        """Bytes that know how often a part of them was copied."""

        copies = 0

        def __getitem__(self, key: Any) -> Any:
            Counted.copies += 1
            part = bytes.__getitem__(self, key)
            return Counted(part) if isinstance(part, bytes) else part

    rig = Rig()
    client, backend = rig.both()
    client.receive(Counted(b"\r\n" * 5000 + get()))
    assert backend.take().startswith(b"GET / HTTP/1.1\r\n")
    assert Counted.copies < 10


def test_keep_alive_over_and_over_in_http_1_0_searched_the_head_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[bytes] = []
    monkeypatch.setattr(fields, "values", lambda head, name: searches.append(name) or [])
    lines = b"\r\nConnection: keep-alive" * 16
    request = RequestParser().parse(b"GET / HTTP/1.0\r\nHost: a.test" + lines, 100, 100)
    assert isinstance(request, RequestHead)
    assert request.keep_alive
    assert searches == []
    # The bound is one on all lines together.
    assert RequestParser().parse(b"GET / HTTP/1.0\r\nHost: a.test" + lines * 2, 100, 100) == errors.MALFORMED


@pytest.mark.parametrize("lines", [(b"close", b"keep-alive"), (b"keep-alive", b"close"), (b"keep-alive, close",)])
def test_close_wins_in_whatever_line_of_an_http_1_0_request_it_stands(lines: tuple[bytes, ...]) -> None:
    head = b"GET / HTTP/1.0" + b"".join(b"\r\nConnection: " + line for line in lines)
    request = RequestParser().parse(head, 100, 100)
    assert isinstance(request, RequestHead)
    assert not request.keep_alive
