"""Defects of connections that are broken off, each named after what was wrong."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.flow import ZeroSender
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import connections_of, eventually
from tests.support.played import PlayedBackend
from tests.support.tls import Authority, TlsClient

SIZE = 64 << 20


def impatient(backend: str, listener: str) -> str:
    """Leaves clients that read nothing for 300 ms."""
    return f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        limits.write_timeout = "300ms"
        {listener}
        [upstreams.played]
        endpoints = ["{backend}"]
        [[routes]]
        upstream = "played"
    """


@pytest.mark.parametrize("tls", [False, True])
def test_the_kernel_went_on_offering_an_answer_to_a_client_that_had_been_left(
    tls: bool, played: PlayedBackend, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    authority.issue("ec", "a.test")
    listener = 'tls.certificates = [{ cert = "ec.pem", key = "ec.key" }]' if tls else ""
    with (
        GatewayProcess(impatient(played.address, listener), tmp_path) as gateway,
        TlsClient(gateway.address, authority.client(), receive_buffer=4096)
        if tls
        else Client(gateway.address, receive_buffer=4096) as client,
    ):
        client.send(get())
        upstream = played.accept()
        upstream.read_head()
        sender = ZeroSender(upstream.sock, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, SIZE)
        worker = gateway.worker_pid()
        assert eventually(lambda: connections_of(worker, gateway.port) == 0)
        sender.join()
        # What it had taken before, and nothing of what had waited for it.
        assert is_reset(client)


def is_reset(client: Client) -> bool:
    """Reads to the end, beneath any TLS; whether that is a reset."""
    with socket.socket(fileno=os.dup(client.sock.fileno())) as sock, contextlib.suppress(TimeoutError):
        sock.settimeout(10)
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            return True
    return False


def test_an_answer_without_a_length_looked_complete_when_it_was_broken_off(
    gateway: GatewayProcess, played: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        # RFC 9112 §6.3: for a client of HTTP/1.0, the end of the connection is the end of the body.
        client.send(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
        upstream = played.accept()
        upstream.read_head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        assert client.read_until(b"begun").startswith(b"HTTP/1.1 200 ")
        upstream.close()
        assert is_reset(client)
