"""Copies of requests to a second upstream, through a real gateway: it gets them, and nobody notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.played import PlayedBackend
from tests.support.wire import PATIENCE_S

BODY = b"x" * 40_000


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    made = RecordingBackend()
    yield made
    made.close()


@pytest.fixture
def shadow() -> Iterator[PlayedBackend]:
    with PlayedBackend() as made:
        yield made


def config(backend: RecordingBackend, shadow: str, more: str = "") -> str:
    return f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        primary.endpoints = ["{backend.address}"]
        shadow.endpoints = ["{shadow}"]

        [[routes]]
        name = "shop"
        path = "/shop/*"
        upstream = "primary"
        rewrite.strip_prefix = "/shop"
        mirror.upstream = "shadow"
        {more}
    """


def post(body: bytes) -> bytes:
    return get(b"/shop/cart?x=1", b"Content-Length: %d" % len(body), method=b"POST") + body


def test_the_copy_is_the_request_as_the_upstream_got_it(
    backend: RecordingBackend, shadow: PlayedBackend, tmp_path: Path
) -> None:
    with GatewayProcess(config(backend, shadow.address), tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(post(BODY)).body == b"ok"
        connection = shadow.accept()
        copy = connection.read_request()
        assert copy.head + copy.body == backend.received
        assert copy.line == b"POST /cart?x=1 HTTP/1.1"
        connection.answer(b"anything")
        # The connection is kept, as any other.
        assert client.ask(get(b"/shop/")).body == b"ok"
        assert connection.read_request().line == b"GET / HTTP/1.1"
        connection.answer()
    # One line for each request of a client, and none for a copy.
    assert len((tmp_path / "stdout").read_text().splitlines()) == 2


def test_a_mirror_that_is_away_or_never_answers_is_not_noticed(
    backend: RecordingBackend, shadow: PlayedBackend, tmp_path: Path
) -> None:
    for address in (f"127.0.0.1:{free_port()}", shadow.address):
        with (
            GatewayProcess(config(backend, address, "mirror.max_in_flight = 4"), tmp_path) as gateway,
            Client(gateway.address) as client,
        ):
            began = time.monotonic()
            for _ in range(50):
                assert client.ask(get(b"/shop/")).body == b"ok"
            # Far from any time-out: nothing of it waits for the mirror.
            assert time.monotonic() - began < PATIENCE_S / 2


def test_a_body_over_the_limit_goes_to_the_upstream_alone(
    backend: RecordingBackend, shadow: PlayedBackend, tmp_path: Path
) -> None:
    text = config(backend, shadow.address, 'mirror.max_body = "39KiB"')
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(post(BODY)).body == b"ok"
        assert backend.received.endswith(BODY)
        assert client.ask(get(b"/shop/small")).body == b"ok"
        # The first to come is the second.
        connection = shadow.accept()
        assert connection.read_request().line == b"GET /small HTTP/1.1"
        connection.answer()


def test_what_answers_differ_in_is_told(backend: RecordingBackend, shadow: PlayedBackend, tmp_path: Path) -> None:
    text = config(backend, shadow.address, "mirror.compare = true")
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(get(b"/shop/7")).status == 200
        connection = shadow.accept()
        connection.read_request()
        connection.answer(b"ok", status=b"500 Internal Server Error")
        assert gateway.wait_until_it_says("mirror of route shop: GET /shop/7: status: 200, mirror: 500")


def test_a_reload_keeps_or_ends_a_mirror(backend: RecordingBackend, shadow: PlayedBackend, tmp_path: Path) -> None:
    text = config(backend, shadow.address)
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        client.ask(get(b"/shop/1"))
        connection = shadow.accept()
        connection.read_request()
        # While a copy is in flight.
        gateway.rewrite(text.replace('mirror.upstream = "shadow"', ""))
        assert gateway.command("reload").returncode == 0
        connection.answer()
        assert gateway.wait_until_it_says("mirror of route shop: 1 sent")
        assert client.ask(get(b"/shop/2")).body == b"ok"
        assert shadow.nobody_connects()
