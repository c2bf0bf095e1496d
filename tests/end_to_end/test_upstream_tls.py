"""TLS to backends, with the real gateway and backends of Python's ssl: who is trusted, resumed, and told what."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import pytest
import trustme

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok"
CERTIFICATES = {"good": ["127.0.0.1"], "misnamed": ["other.test"], "foreign": ["127.0.0.1"], "unasked": ["127.0.0.1"]}


class TlsBackend:
    """Answers each request with "ok", and notes of each connection whether it resumed a session."""

    def __init__(self, context: ssl.SSLContext, closes: bool = False) -> None:
        self._context = context
        self._closes = closes
        self.resumed: list[bool] = []
        self._listener = create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
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
