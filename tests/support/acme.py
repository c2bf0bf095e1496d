"""A real ACME authority: Pebble, of Let's Encrypt, with the name server that is made for it. All names lead here."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import free_port
from tests.support.observe import eventually
from tests.support.programs import program
from tests.support.tls import Authority


@dataclass(frozen=True)
class Pebble:
    """`directory` is its URL, `ca` who has signed its own certificate; `http_port` and `tls_port` are where it asks for
    challenges."""

    directory: str
    ca: Path
    management: str
    http_port: int
    tls_port: int

    def root(self) -> ssl.SSLContext:
        """A client's context that trusts what it issues."""
        trusting = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(f"{self.management}/roots/0", context=trusting) as answer:
            issued = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            issued.load_verify_locations(cadata=answer.read().decode())
        return issued


@contextmanager
def pebble(
    directory: Path,
    http_port: int,
    tls_port: int,
    more: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Pebble]:
    """`more` goes into its configuration. By default it does not wait before it asks, takes every nonce, and asks for
    each name anew."""
    server, names = program("pebble"), program("pebble-challtestsrv", "pebble")
    own = directory / "pebble"
    own.mkdir(exist_ok=True)
    signed = Authority(own)
    signed.issue("pebble", "127.0.0.1")
    port, management_port, dns_port = port or free_port(), free_port(), free_port()
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management_port}",
        "certificate": str(own / "pebble.pem"),
        "privateKey": str(own / "pebble.key"),
        "httpPort": http_port,
        "tlsPort": tls_port,
        **(more or {}),
    }
    (own / "config.json").write_text(json.dumps({"pebble": settings}))
    defaults = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    name_server = [names, "-dns01", f"127.0.0.1:{dns_port}", "-management", f"127.0.0.1:{free_port()}"]
    name_server += ["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    command = [server, "-config", str(own / "config.json"), "-dnsserver", f"127.0.0.1:{dns_port}", "-strict"]
    made = Pebble(
        f"https://127.0.0.1:{port}/dir", own / "ca.pem", f"https://127.0.0.1:{management_port}", http_port, tls_port
    )
    with _running(name_server, own), _running(command, own, {**os.environ, **defaults, **(environment or {})}):
        assert eventually(lambda: _answers(made)), (own / "output").read_text()
        yield made


def _answers(made: Pebble) -> bool:
    try:
        made.root()
    except OSError:
        return False
    return True


@contextmanager
def _running(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory, env=environment
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()
