"""TLS to backends, with the real gateway and backends of Python's ssl: who is trusted, resumed, and told what."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import AF_INET, AF_INET6, SHUT_WR, create_server

import pytest
import trustme

from tests.support.client import Client, ConnectionEndedError, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok"
CERTIFICATES = {"good": ["127.0.0.1"], "misnamed": ["other.test"], "foreign": ["127.0.0.1"], "unasked": ["127.0.0.1"]}
LARGE = bytes(range(256)) * 40_000
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class TlsBackend:
    """Answers each request with "ok", and notes of each connection whether it resumed a session."""

    def __init__(self, context: ssl.SSLContext, closes: bool = False, is_ipv6: bool = False) -> None:
        self._context = context
        self._closes = closes
        self.resumed: list[bool] = []
        host, family = ("::1", AF_INET6) if is_ipv6 else ("127.0.0.1", AF_INET)
        self._listener = create_server((host, 0), family=family)
        port = self._listener.getsockname()[1]
        self.address = f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: object) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True) as tls:  # type: ignore[arg-type]
                self.resumed.append(bool(tls.session_reused))
                while b"\r\n\r\n" in tls.recv(65536):
                    tls.sendall(OK % (b"Connection: close\r\n" if self._closes else b""))
                    if self._closes:
                        return
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()


def context_of(made: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.configure_cert(context)
    return context


@pytest.mark.parametrize("is_ipv6", [False, True])
def test_without_a_file_of_authorities_the_system_s_are_trusted(
    is_ipv6: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's are OpenSSL's, which looks for them where SSL_CERT_FILE says."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    backend = TlsBackend(context_of(authority.issue_cert("::1" if is_ipv6 else "127.0.0.1")), is_ipv6=is_ipv6)
    config = f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        [upstreams.backend]
        endpoints = ["{backend.address}"]
        tls = true
        [[routes]]
        upstream = "backend"
    """
    for trusted, status in (("system.pem", 200), ("nobody.pem", 502)):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / trusted))
        with GatewayProcess(config, tmp_path) as gateway, Client(gateway.address) as client:
            assert client.ask(get()).status == status
    backend.close()


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, dict[str, TlsBackend]]]:
    directory: Path = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    backends = {
        name: TlsBackend(context_of((stranger if name == "foreign" else authority).issue_cert(*names)))
        for name, names in CERTIFICATES.items()
    }
    backends["closing"] = TlsBackend(context_of(authority.issue_cert("127.0.0.1")), closes=True)
    plain = PlayedBackend()
    addresses = {name: one.address for name, one in backends.items()} | {"plain": plain.address}
    parts = [f'[server]\nworkers = 1\n[[listeners]]\naddress = "{LISTEN}"\n']
    for name, address in addresses.items():
        tls = "{ verify = false }" if name == "unasked" else '{ ca = "ca.pem" }'
        more = 'connect_timeout = "300ms"' if name == "plain" else ""
        parts.append(f'[upstreams.{name}]\nendpoints = ["{address}"]\ntls = {tls}\n{more}\n')
        parts.append(f'[[routes]]\nhost = "{name}.test"\nupstream = "{name}"\n')
    with GatewayProcess("\n".join(parts), directory) as gateway:
        yield gateway, backends
    for one in backends.values():
        one.close()
    plain.close()


Setting = tuple[GatewayProcess, dict[str, TlsBackend]]


def ask(setting: Setting, name: str) -> tuple[int, bytes, list[bytes]]:
    with Client(setting[0].address) as client:
        answer = client.ask(get(host=f"{name}.test".encode()))
        return answer.status, answer.body, answer.values(b"proxy-status")


@pytest.mark.parametrize("name", ["good", "unasked", "closing"])
def test_a_backend_that_is_trusted_or_need_not_be_is_spoken_to(name: str, setting: Setting) -> None:
    assert ask(setting, name)[:2] == (200, b"ok")


@pytest.mark.parametrize(
    ("name", "reason", "error"),
    [
        ("misnamed", "upstream-tls-name-mismatch", b"tls_certificate_error"),
        ("foreign", "upstream-tls-untrusted", b"tls_certificate_error"),
    ],
)
def test_one_that_is_not_gets_nothing(name: str, reason: str, error: bytes, setting: Setting) -> None:
    for _ in range(3):
        status, body, proxy_status = ask(setting, name)
        assert (status, proxy_status) == (502, [b"fastgw; error=" + error])
        assert reason.encode() in body
    gateway, backends = setting
    told = f"TLS to {backends[name].address} (upstream {name}) fails: "
    assert gateway.wait_until_it_says(told)
    assert gateway.stderr.count(told) == 1


def test_the_time_to_connect_is_for_the_handshake_too(setting: Setting) -> None:
    assert ask(setting, "plain")[0] == 504


def test_the_next_connection_resumes_the_session_of_the_last(setting: Setting) -> None:
    backend = setting[1]["closing"]
    del backend.resumed[:]
    for _ in range(3):
        assert ask(setting, "closing")[0] == 200
    assert backend.resumed[1:] == [True, True]


class PlayedTlsBackend:
    """Does what the test says with the first connection that it gets."""

    def __init__(self, context: ssl.SSLContext, play: Callable[[ssl.SSLSocket], None]) -> None:
        self._context = context
        self._play = play
        self._listener = create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sock = self._listener.accept()[0]
        sock.settimeout(10.0)
        try:
            with self._context.wrap_socket(sock, server_side=True) as tls:
                self._play(tls)
        except OSError as error:
            self.failure = error

    def join(self) -> None:
        self._thread.join(10.0)
        self._listener.close()
        assert not self._thread.is_alive()


def read_head(tls: ssl.SSLSocket) -> tuple[bytes, bytes]:
    """A request's head, and what came of its body with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += tls.recv(65536) or pytest.fail("the gateway has closed")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


@dataclass
class Authority:
    """Who has signed all the certificates, and where its own and the gateway's are."""

    authority: trustme.CA
    directory: Path

    def server(self, asks_for_certificate: bool = False, **more: datetime) -> ssl.SSLContext:
        context = context_of(self.authority.issue_cert("127.0.0.1", **more))  # type: ignore[arg-type]
        if asks_for_certificate:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @contextmanager
    def gateway(self, address: str, tls: str = 'ca = "ca.pem"') -> Iterator[GatewayProcess]:
        config = f"""
            [server]
            workers = 1
            [[listeners]]
            address = "{LISTEN}"
            [upstreams.a]
            endpoints = ["{address}"]
            tls = {{ {tls} }}
            [[routes]]
            upstream = "a"
        """
        with GatewayProcess(config, self.directory) as running:
            yield running


@pytest.fixture
def signed(tmp_path: Path) -> Authority:
    made = Authority(trustme.CA(), tmp_path)
    made.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = made.authority.issue_cert("gateway.test")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    return made


def test_a_backend_that_asks_for_a_certificate_gets_the_gateway_s(signed: Authority) -> None:
    names: list[object] = []

    def play(tls: ssl.SSLSocket) -> None:
        names.append(dict(tls.getpeercert() or {})["subjectAltName"])
        read_head(tls)
        tls.sendall(OK % b"")

    backend = PlayedTlsBackend(signed.server(asks_for_certificate=True), play)
    with signed.gateway(backend.address, 'ca = "ca.pem", cert = "own.pem"') as gateway, Client(gateway.address) as one:
        assert one.ask(get()).body == b"ok"
    backend.join()
    assert names == [(("DNS", "gateway.test"),)]


def test_a_backend_that_gets_no_certificate_although_it_asks_is_a_failure_that_is_told(signed: Authority) -> None:
    backend = PlayedTlsBackend(signed.server(asks_for_certificate=True), read_head)
    with signed.gateway(backend.address) as gateway, Client(gateway.address) as one:
        received = one.ask(get())
        # With TLS 1.3 its word may come after the request, or not at all, if the connection is reset first.
        assert received.status == 502
        assert any(reason in received.body for reason in (b"upstream-tls-failed", b"upstream-reset"))
    backend.join()


def test_a_certificate_that_is_out_of_date_is_told(signed: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    backend = PlayedTlsBackend(signed.server(not_before=past - timedelta(days=9), not_after=past), read_head)
    with signed.gateway(backend.address) as gateway, Client(gateway.address) as one:
        received = one.ask(get())
        assert (received.status, b"upstream-tls-expired" in received.body) == (502, True)
        assert gateway.wait_until_it_says("certificate has expired")
    backend.join()


def test_large_bodies_pass_both_ways_as_they_are(signed: Authority) -> None:
    def play(tls: ssl.SSLSocket) -> None:
        _, body = read_head(tls)
        while len(body) < len(LARGE):
            body += tls.recv(1 << 20)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        tls.recv(1)

    backend = PlayedTlsBackend(signed.server(), play)
    with signed.gateway(backend.address) as gateway, Client(gateway.address) as one:
        one.send(get(b"/", b"Content-Length: %d" % len(LARGE), method=b"PUT"))
        sending = threading.Thread(target=one.send, args=(LARGE,))
        sending.start()
        assert one.read_answer().body == LARGE
        sending.join()
    backend.join()


@pytest.mark.parametrize("ends", ["client", "backend"])
def test_a_tunnel_through_tls_ends_when_either_side_does(ends: str, signed: Authority) -> None:
    seen: list[bytes] = []

    def play(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(SWITCHED)
        seen.append(tls.recv(100))
        tls.sendall(b"pong")
        if ends == "client":
            seen.append(tls.recv(100))
        else:
            tls.unwrap()

    backend = PlayedTlsBackend(signed.server(), play)
    with signed.gateway(backend.address) as gateway, Client(gateway.address) as one:
        one.send(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
        assert one.read_answer().status == 101
        one.send(b"ping")
        assert one.read_exactly(4) == b"pong"
        if ends == "client":
            one.half_close()
        assert one.read_to_end() == b""
    backend.join()
    assert seen == ([b"ping", b""] if ends == "client" else [b"ping"])


@pytest.mark.parametrize("is_orderly", [True, False])
def test_a_body_until_close_is_only_whole_when_tls_says_so(is_orderly: bool, signed: Authority) -> None:
    def play(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall")
        if is_orderly:
            tls.unwrap()
        else:
            tls.shutdown(SHUT_WR)

    backend = PlayedTlsBackend(signed.server(), play)
    with signed.gateway(backend.address) as gateway, Client(gateway.address) as one:
        one.send(get())
        if is_orderly:
            assert one.read_answer().body == b"all"
        else:
            with pytest.raises((ConnectionEndedError, ConnectionResetError)):
                one.read_answer()
    backend.join()
