"""Listeners as programs of others see them: HAProxy and curl send PROXY headers, sslscan and openssl try the TLS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trustme

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.played import PlayedBackend
from tests.support.programs import program, running
from tests.support.tls import Authority, TlsClient

_HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    server one 127.0.0.1:{gateway} {options}
"""
TLS = '[listeners.tls]\ncertificates = [{ cert = "ec.pem", key = "ec.key" }, { cert = "rsa.pem", key = "rsa.key" }]'


def config(backend: str, listener: str, workers: int = 1) -> str:
    return f"""
        [server]
        workers = {workers}
        trusted_proxies = ["127.0.0.1"]
        [[listeners]]
        name = "in"
        address = "{LISTEN}"
        {listener}
        [upstreams.b]
        endpoints = ["{backend}"]
        proxy_protocol = "v2"
        [[routes]]
        upstream = "b"
        [[routes]]
        path = "/own"
        respond.body = "own"
    """


@contextmanager
def haproxy(directory: Path, gateway: int, options: str) -> Iterator[int]:
    """Running, and listening on the port that it gives."""
    port = free_port()
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY.format(mode="tcp", port=port, gateway=gateway, options=options))
    command = [program("haproxy"), "-db", "-f", str(file)]
    with running(command, port):
        yield port


def signed(directory: Path) -> Authority:
    authority = Authority(directory)
    authority.issue("ec", "a.test")
    authority.issue("rsa", "a.test", kind=trustme.KeyType.RSA)
    return authority


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_of_its_client_to_log_headers_and_upstream(option: str, tls: bool, tmp_path: Path) -> None:
    authority = signed(tmp_path)
    with (
        PlayedBackend() as backend,
        GatewayProcess(config(backend.address, "proxy_protocol = true\n" + (TLS if tls else "")), tmp_path) as gateway,
        haproxy(tmp_path, gateway.port, option) as port,
    ):
        address = ("127.0.0.1", port)
        with TlsClient(address, authority.client()) if tls else Client(address) as client:
            own_port = client.sock.getsockname()[1]
            client.send(get())
            with backend.accept() as connection:
                head = connection.read_exactly(28)
                # The gateway tells its upstream in its turn: the client's address and port, and HAProxy's.
                assert head[12:14] == b"\x21\x11"
                ends = bytes([127, 0, 0, 1, 127, 0, 0, 1]) + own_port.to_bytes(2, "big") + port.to_bytes(2, "big")
                assert head[16:] == ends
                asked = connection.read_request()
                assert asked.values(b"x-forwarded-for") == [b"127.0.0.1"]
                assert asked.values(b"x-forwarded-proto") == [b"https" if tls else b"http"]
                connection.answer()
                assert client.read_answer().body == b"ok"
        backend.hang_up()


@pytest.mark.parametrize("options", ["send-proxy check inter 100ms", "send-proxy-v2 check inter 100ms"])
def test_haproxy_s_health_checks_are_nobody_s_requests(options: str, tmp_path: Path) -> None:
    with GatewayProcess(config("127.0.0.1:1", "proxy_protocol = true"), tmp_path) as gateway:
        with haproxy(tmp_path, gateway.port, options) as port, Client(("127.0.0.1", port)) as client:
            # By the time that this is answered, checks have come and gone.
            assert client.ask(get(b"/own")).body == b"own"
        assert "refused" not in gateway.stderr


def test_curl_tells_of_its_own_address(tmp_path: Path) -> None:
    signed(tmp_path)
    with GatewayProcess(config("127.0.0.1:1", "proxy_protocol = true\n" + TLS), tmp_path) as gateway:
        url = f"https://a.test:{gateway.port}/own"
        where = ["--resolve", f"a.test:{gateway.port}:127.0.0.1", "--cacert", str(tmp_path / "ca.pem")]
        command = [program("curl"), "-sS", "--haproxy-protocol", *where, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        assert done.stdout == "own"


def test_a_header_from_a_stranger_is_refused(tmp_path: Path) -> None:
    text = config("127.0.0.1:1", "proxy_protocol = true").replace('["127.0.0.1"]', '["192.0.2.1"]')
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.1 1 2\r\n" + get(b"/own"))
        assert client.read_to_end() == b""
        assert gateway.wait_until_it_says("connection from 127.0.0.1 refused")


def test_who_a_header_told_of_is_in_the_access_log(tmp_path: Path) -> None:
    text = config("127.0.0.1:1", "proxy_protocol = true")
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n")
        assert client.ask(get(b"/own")).status == 200
    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert [line["client"] for line in lines] == ["2001:db8::7"]


# TLS.


def test_sslscan_finds_nothing_weak(tmp_path: Path) -> None:
    scanner = program("sslscan")
    signed(tmp_path)
    report = tmp_path / "scan.xml"
    with GatewayProcess(config("127.0.0.1:1", TLS), tmp_path) as gateway:
        target = f"127.0.0.1:{gateway.port}"
        command = [scanner, "--sni-name=a.test", f"--xml={report}", target]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    (scan,) = ElementTree.parse(report).getroot().iter("ssltest")
    protocols = {(one.get("type"), one.get("version")): one.get("enabled") for one in scan.iter("protocol")}
    assert {key: on for key, on in protocols.items() if key[1] not in ("1.2", "1.3")} == {
        ("ssl", "2"): "0",
        ("ssl", "3"): "0",
        ("tls", "1.0"): "0",
        ("tls", "1.1"): "0",
    }
    assert (protocols["tls", "1.2"], protocols["tls", "1.3"]) == ("1", "1")
    for suite in scan.iter("cipher"):
        name = str(suite.get("cipher"))
        assert suite.get("strength") in ("strong", "acceptable"), name
        assert name.startswith(("TLS_", "ECDHE-")), name
        assert "GCM" in name or "CHACHA20" in name, name
    assert {one.get("supported") for one in scan.iter("compression")} <= {"0"}
    (renegotiation,) = scan.iter("renegotiation")
    assert renegotiation.get("supported") == "0" or renegotiation.get("secure") == "1"
    assert {one.get("vulnerable") for one in scan.iter("heartbleed")} <= {"0"}


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl_resumes_its_session_with_any_worker(version: str, tmp_path: Path) -> None:
    openssl = program("openssl")
    signed(tmp_path)
    session = tmp_path / "session"
    with GatewayProcess(config("127.0.0.1:1", TLS, workers=2), tmp_path) as gateway:
        address = ("-connect", f"127.0.0.1:{gateway.port}", "-servername", "a.test", f"-{version}")
        command = [openssl, "s_client", *address, "-CAfile", str(tmp_path / "ca.pem"), "-ign_eof"]
        request = get(b"/own", b"Connection: close")
        told = []
        for number in range(8):
            keeps = ["-sess_in", str(session)] if number else ["-sess_out", str(session)]
            done = subprocess.run([*command, *keeps], input=request, capture_output=True, check=True, timeout=20)
            assert b"\r\n\r\nown" in done.stdout
            told.append(b"Reused, TLSv1." in done.stdout)
        assert told == [False] + [True] * 7
