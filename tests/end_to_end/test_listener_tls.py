"""TLS on listeners, with the real gateway and clients of Python's ssl: certificates, sessions, bodies, and ends."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support.client import Client, ConnectionEndedError, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend, PlayedConnection
from tests.support.tls import Authority, TlsClient
from tests.support.wire import Wire

LARGE = bytes(range(256)) * 40_000
BOTH = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass
class Setting:
    gateway: GatewayProcess
    backend: PlayedBackend
    authority: Authority
    client_certificate: trustme.LeafCert

    def client(self, name: str = "a.test", context: ssl.SSLContext | None = None, **more: object) -> TlsClient:
        return TlsClient(self.gateway.address, context or self.authority.client(), name, **more)  # type: ignore[arg-type]

    @contextmanager
    def pair(self, request: bytes, **more: object) -> Iterator[tuple[TlsClient, PlayedConnection]]:
        """A client that has sent a request, and the backend's connection on which it comes."""
        with self.client(**more) as client:  # type: ignore[arg-type]
            client.send(request)
            with self.backend.accept() as connection:
                yield client, connection


def config(backend: str, tls: str, listener: str = "", server: str = "") -> str:
    return f"""
        [server]
        workers = 1
        {server}
        [[listeners]]
        name = "in"
        address = "{LISTEN}"
        {listener}
        [listeners.tls]
        {tls}
        [upstreams.b]
        endpoints = ["{backend}"]
        [[routes]]
        upstream = "b"
        [[routes]]
        path = "/own"
        respond.body = "own"
    """


CERTIFICATES = """certificates = [
    { cert = "first.pem", key = "first.key" },
    { cert = "rsa.pem", key = "rsa.key" },
    { cert = "other.pem", key = "other.key" },
]"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    directory = tmp_path_factory.mktemp("listener-tls")
    authority = Authority(directory)
    authority.issue("first", "a.test")
    authority.issue("rsa", "a.test", kind=trustme.KeyType.RSA)
    authority.issue("other", "other.test", "*.wild.test")
    own = authority.issue("client", "client.test")
    text = config(
        "@BACKEND@",
        CERTIFICATES + '\nclient_ca = "ca.pem"\nclient_auth = "optional"\nclient_cert_headers = true\nhsts = "365d"',
    )
    with (
        PlayedBackend() as backend,
        GatewayProcess(text.replace("@BACKEND@", backend.address), directory) as gateway,
    ):
        yield Setting(gateway, backend, authority, own)
        backend.hang_up()


# Certificates and versions.


def shown(client: TlsClient) -> set[str]:
    certificate = client.tls.getpeercert()
    assert certificate is not None
    return {str(value) for _, value in certificate["subjectAltName"]}  # type: ignore[misc,union-attr]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.test", {"a.test"}),
        ("other.test", {"other.test", "*.wild.test"}),
        ("x.wild.test", {"other.test", "*.wild.test"}),
    ],
)
@pytest.mark.parametrize("version", BOTH)
def test_the_server_s_name_chooses_the_certificate(
    name: str, expected: set[str], version: ssl.TLSVersion, setting: Setting
) -> None:
    with setting.client(name, setting.authority.client(version)) as client:
        assert shown(client) == expected
        answer = client.ask(get(b"/own", host=name.encode()))
        assert (answer.status, answer.body) == (200, b"own")
        assert client.tls.selected_alpn_protocol() == "http/1.1"


def test_a_name_that_is_nobody_s_gets_the_first_certificate(setting: Setting) -> None:
    context = setting.authority.client()
    context.check_hostname = False
    with setting.client("nobody.test", context) as client:
        assert shown(client) == {"a.test"}
        assert client.ask(get(b"/own", host=b"nobody.test")).status == 200


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_a_client_gets_the_kind_of_key_that_it_can_use(kind: str, setting: Setting) -> None:
    context = setting.authority.client(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
    with setting.client("a.test", context) as client:
        cipher = client.tls.cipher()
        assert cipher is not None
        assert kind in cipher[0]
        assert client.ask(get(b"/own")).body == b"own"


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"])
def test_weak_suites_are_refused_and_told_with_the_client_s_address(ciphers: str, setting: Setting) -> None:
    context = setting.authority.client(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        setting.client("a.test", context)
    told = "listener in: connection from 127.0.0.1 refused: the TLS handshake failed: [SSL: NO_SHARED_CIPHER]"
    assert setting.gateway.wait_until_it_says(told)


# What a request may ask of a connection.


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        ("a.test", b"other.test", 421),
        ("a.test", b"x.wild.test:443", 421),
        ("other.test", b"a.test", 421),
        ("other.test", b"x.wild.test", 200),
        ("a.test", b"nobody.test", 200),
    ],
)
def test_a_host_of_another_certificate_is_misdirected(name: str, host: bytes, status: int, setting: Setting) -> None:
    with setting.client(name) as client:
        answer = client.ask(get(b"/own", host=host))
        assert answer.status == status
        if status == 421:
            assert b"misdirected-host" in answer.body


def test_plain_text_is_told_that_this_is_another_protocol(setting: Setting) -> None:
    with Client(setting.gateway.address) as client:
        answer = client.ask(get(b"/own"))
        assert (answer.status, answer.values(b"content-type")) == (400, [b"application/problem+json"])
        assert b"This port speaks HTTPS" in answer.body
        # RFC 6797 §7.2: not over plain text.
        assert answer.values(b"strict-transport-security") == []


def test_all_answers_say_strict_transport_security_once(setting: Setting) -> None:
    with setting.pair(get()) as (client, backend):
        backend.read_request()
        backend.answer(b"ok", b"strict-Transport-Security: max-age=1")
        assert client.read_answer().values(b"strict-transport-security") == [b"max-age=31536000"]
        refused = client.ask(b"BAD\r\n\r\n")
        assert (refused.status, refused.values(b"strict-transport-security")) == (400, [b"max-age=31536000"])


def test_the_backend_learns_that_the_client_came_by_https(setting: Setting) -> None:
    with setting.pair(get(b"/", b"X-Forwarded-Proto: http")) as (client, backend):
        asked = backend.read_request()
        assert asked.values(b"x-forwarded-proto") == [b"https"]
        assert asked.values(b"forwarded") == [b'for=127.0.0.1;proto=https;host="a.test"']
        backend.answer()
        assert client.read_answer().status == 200


# Client certificates.


def test_the_backend_learns_of_the_client_s_certificate_and_not_of_a_forged_one(setting: Setting) -> None:
    forged = (b"X-Client-Cert-Subject: CN=admin", b"x_client_cert_verify: SUCCESS", b"Client-Cert: :AAAA:")
    context = setting.authority.client(own=setting.client_certificate)
    with setting.pair(get(b"/", *forged), context=context) as (client, backend):
        asked = backend.read_request()
        assert asked.values(b"x-client-cert-verify") == [b"SUCCESS"]
        assert asked.values(b"x-client-cert-san") == [b"DNS:client.test"]
        assert b"CN=admin" not in asked.head
        assert b"_verify" not in asked.head
        assert b"AAAA" not in asked.head
        (fingerprint,) = asked.values(b"x-client-cert-fingerprint")
        assert len(fingerprint) == 64
        backend.answer()
        assert client.read_answer().status == 200


def test_a_client_that_need_not_have_a_certificate_is_told_of_as_such(setting: Setting) -> None:
    with setting.pair(get(b"/", b"X-Client-Cert-Subject: CN=admin")) as (client, backend):
        asked = backend.read_request()
        assert asked.values(b"x-client-cert-verify") == [b"NONE"]
        assert asked.values(b"x-client-cert-subject") == []
        backend.answer()
        assert client.read_answer().status == 200


def test_a_stranger_s_certificate_is_refused(setting: Setting) -> None:
    context = setting.authority.client(own=trustme.CA().issue_cert("client.test"))
    with pytest.raises((ssl.SSLError, OSError, ConnectionEndedError)), setting.client(context=context) as client:
        client.ask(get(b"/own"))
    assert setting.gateway.wait_until_it_says("certificate verify failed")


def test_where_a_certificate_is_required_none_is_refused_whatever_session_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("first", "a.test")
    own = authority.issue("client", "client.test")
    tls = 'certificates = [{ cert = "first.pem", key = "first.key" }]'
    text = f"""
        {config("127.0.0.1:1", tls + chr(10) + 'client_ca = "ca.pem"')}
        [[listeners]]
        name = "open"
        address = "127.0.0.1:0"
        [listeners.tls]
        {tls}
    """
    with GatewayProcess(text, tmp_path) as gateway:
        open_port = int(gateway.stderr.split("open on 127.0.0.1:")[1].split(")")[0])
        for version in BOTH:
            with TlsClient(gateway.address, authority.client(version, own)) as client:
                assert client.ask(get(b"/own")).status == 200
            context = authority.client(version)
            with TlsClient(("127.0.0.1", open_port), context) as client:
                assert client.ask(get(b"/own")).status == 200
                session = client.tls.session
            with (
                pytest.raises((OSError, ConnectionEndedError)),
                TlsClient(gateway.address, context, session=session) as client,
            ):
                client.ask(get(b"/own"))


# Sessions.


@pytest.mark.parametrize("version", BOTH)
def test_a_session_is_resumed_with_any_worker(version: ssl.TLSVersion, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("first", "a.test")
    text = config("127.0.0.1:1", 'certificates = [{ cert = "first.pem", key = "first.key" }]')
    with GatewayProcess(text.replace("workers = 1", "workers = 3"), tmp_path) as gateway:
        context = authority.client(version)
        workers: set[bytes] = set()
        session: ssl.SSLSession | None = None
        for number in range(40):
            with TlsClient(gateway.address, context, session=session) as client:
                answer = client.ask(get(b"/own"))
                # Each worker's request ids begin differently.
                workers.add(answer.values(b"x-request-id")[0][:16])
                assert client.tls.session_reused is (number > 0)
                session = client.tls.session
        assert len(workers) > 1


# Bodies, tunnels and ends.


def test_large_bodies_pass_both_ways_as_they_are(setting: Setting) -> None:
    head = get(b"/", b"Content-Length: %d" % len(LARGE), method=b"PUT")
    with setting.pair(head) as (client, backend):
        sending = threading.Thread(target=client.send, args=(LARGE,))
        sending.start()
        asked = backend.read_request()
        sending.join()
        assert asked.body == LARGE
        sending = threading.Thread(target=backend.answer, args=(LARGE,))
        sending.start()
        assert client.read_answer().body == LARGE
        sending.join()


def _send_until_held_back(sender: Wire, size: int) -> int:
    sent = 0
    while sent < size:
        try:
            sent += sender.sock.send(bytes(65536))
        except TimeoutError:
            break
    return sent


def test_a_client_that_does_not_read_holds_its_backend_back(setting: Setting) -> None:
    size = 64 * 1024 * 1024
    with setting.pair(get(), receive_buffer=4096) as (client, backend):
        backend.read_request()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        backend.sock.settimeout(1.0)
        sent = _send_until_held_back(backend, size)
        assert sent < size // 2
        client.close()


def test_a_backend_that_does_not_read_holds_its_client_back(setting: Setting) -> None:
    size = 64 * 1024 * 1024
    head = get(b"/", b"Content-Length: %d" % size, method=b"PUT")
    with setting.pair(head) as (client, backend):
        backend.read_head()
        client.sock.settimeout(1.0)
        assert _send_until_held_back(client, size) < size // 2
        backend.close()


def test_pipelined_requests_are_answered_in_order_and_100_is_passed_on(setting: Setting) -> None:
    with setting.client() as client:
        client.send(get(b"/own") + get(b"/own", method=b"HEAD") + get(b"/own"))
        assert client.read_answer().body == b"own"
        assert client.read_answer(to_head=True).status == 200
        assert client.read_answer().body == b"own"
    with setting.pair(get(b"/", b"Content-Length: 4", b"Expect: 100-continue", method=b"POST")) as (client, backend):
        backend.read_head()
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.read_answer().status == 100
        client.send(b"body")
        assert backend.read_exactly(4) == b"body"
        backend.answer()
        assert client.read_answer().status == 200


@pytest.mark.parametrize("ends", ["client", "backend"])
def test_a_tunnel_ends_when_either_side_does(ends: str, setting: Setting) -> None:
    with setting.pair(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket")) as (client, backend):
        backend.read_head()
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.read_answer().status == 101
        client.send(b"ping")
        assert backend.read_exactly(4) == b"ping"
        backend.send(b"pong")
        assert client.read_exactly(4) == b"pong"
        if ends == "client":
            client.close()
            assert backend.ended()
        else:
            backend.half_close()
            assert client.tls.recv(1) == b""
            client.send(b"last")
            assert backend.read_exactly(4) == b"last"


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_body_until_close_is_only_whole_when_tls_says_so(is_whole: bool, setting: Setting) -> None:
    with setting.pair(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n") as (client, backend):
        backend.read_request()
        if is_whole:
            backend.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall")
            backend.close()
            assert client.read_answer().body == b"all"
        else:
            backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
            backend.close()
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError, ConnectionEndedError)):
                client.read_answer()


def test_the_last_answer_is_followed_by_a_goodbye(setting: Setting) -> None:
    with setting.client() as client:
        client.send(get(b"/own", b"Connection: close"))
        assert client.read_answer().body == b"own"
        assert client.tls.recv(1) == b""


def test_a_client_that_says_goodbye_gets_one(setting: Setting) -> None:
    with setting.client() as client:
        assert client.ask(get(b"/own")).body == b"own"
        client.say_goodbye()


# Handshakes that come to nothing.


def test_a_handshake_has_a_time_limit(tmp_path: Path) -> None:
    Authority(tmp_path).issue("first", "a.test")
    tls = 'certificates = [{ cert = "first.pem", key = "first.key" }]'
    with GatewayProcess(config("127.0.0.1:1", tls, 'limits.head_timeout = "200ms"'), tmp_path) as gateway:
        with Client(gateway.address) as silent, Client(gateway.address) as slow:
            slow.send(b"\x16\x03\x01")
            assert slow.read_to_end() == b""
            assert silent.read_to_end() == b""
        assert gateway.wait_until_it_says("the TLS handshake failed: it took longer than head_timeout")
        assert gateway.stderr.count("refused") == 1


def test_a_client_that_goes_in_the_handshake_is_told_of_and_one_that_says_nothing_is_not(setting: Setting) -> None:
    with Client(setting.gateway.address) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01")
        client.half_close()
        assert client.read_to_end() == b""
    assert setting.gateway.wait_until_it_says("the TLS handshake failed: the client closed the connection")
    before = setting.gateway.stderr.count("refused")
    Client(setting.gateway.address).close()
    with setting.client() as client:
        assert client.ask(get(b"/own")).status == 200
    assert setting.gateway.stderr.count("refused") == before


def test_a_server_name_that_is_none_is_told_in_a_line(setting: Setting) -> None:
    hello, context = ssl.MemoryBIO(), setting.authority.client()
    side = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="aaaaaaaa.test")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    with Client(setting.gateway.address) as client:
        client.send(hello.read().replace(b"aaaaaaaa.test", b"aaaa\xff\xfe\xfdz.test"))
        assert client.read_to_end()[:1] == b"\x15"
    assert setting.gateway.wait_until_it_says("CALLBACK_FAILED")
    assert "Traceback" not in setting.gateway.stderr


# The gateway's own files.


def test_a_certificate_that_has_expired_is_used_and_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    past = datetime.now(UTC) - timedelta(days=1)
    made = authority.ca.issue_cert("a.test", not_before=past - timedelta(days=9), not_after=past)
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "old.pem"))
    with GatewayProcess(config("127.0.0.1:1", 'certificates = [{ cert = "old.pem" }]'), tmp_path) as gateway:
        assert f"the certificate in {tmp_path}/old.pem has expired" in gateway.stderr
        context = authority.client()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with TlsClient(gateway.address, context) as client:
            assert client.ask(get(b"/own")).body == b"own"


# From plain text to https.


@pytest.mark.parametrize(
    ("written", "request_bytes", "location"),
    [
        ("true", get(b"/a/../b%7Ec?x=1&y", host=b"Shop.test:8080"), b"https://shop.test/b~c?x=1&y"),
        ("8443", get(b"/a", host=b"shop.test"), b"https://shop.test:8443/a"),
        ("8443", get(b"/a", host=b"[::1]:80", method=b"HEAD"), b"https://[::1]:8443/a"),
        ("true", get(b"*", host=b"shop.test", method=b"OPTIONS"), b"https://shop.test/"),
        ("true", get(b"/a", b"X-Forwarded-Proto: http", host=b"shop.test"), b"https://shop.test/a"),
    ],
)
def test_a_plain_listener_sends_all_requests_to_https(
    written: str, request_bytes: bytes, location: bytes, tmp_path: Path
) -> None:
    text = f"""
        [server]
        workers = 1
        trusted_proxies = ["127.0.0.1"]
        [[listeners]]
        address = "{LISTEN}"
        redirect_to_https = {written}
        [[routes]]
        respond.body = "own"
    """
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        answer = client.ask(request_bytes)
        assert (answer.status, answer.values(b"location")) == (308, [location])
        # Who has come by https already, says a trusted proxy, would go round in circles.
        assert client.ask(get(b"/", b"X-Forwarded-Proto: https")).body == b"own"


SENDS_TO_HTTPS = f"""
    [server]
    workers = 1
    [[listeners]]
    address = "{LISTEN}"
    redirect_to_https = true
    [[routes]]
    respond.body = "own"
"""


def test_without_a_host_there_is_no_url_to_send_to(tmp_path: Path) -> None:
    with GatewayProcess(SENDS_TO_HTTPS, tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(b"GET / HTTP/1.0\r\n\r\n").status == 400


def test_a_request_with_a_body_is_sent_to_https_too(tmp_path: Path) -> None:
    with GatewayProcess(SENDS_TO_HTTPS, tmp_path) as gateway, socket.create_connection(gateway.address) as sock:
        sock.sendall(get(b"/a", b"Content-Length: 4", method=b"POST") + b"body")
        assert sock.recv(4096).startswith(b"HTTP/1.1 308 ")
