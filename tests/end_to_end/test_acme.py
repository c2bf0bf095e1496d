"""Certificates from a real ACME authority: got, renewed and kept while traffic goes on, whatever fails."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support.acme import Pebble, pebble
from tests.support.client import Client, get
from tests.support.gateway import GatewayProcess, free_port
from tests.support.observe import ends, eventually
from tests.support.played import PlayedBackend, PlayedConnection
from tests.support.tls import TlsClient

NAME = "a.test"
# Twelve seconds, as two generations of Pebble want it written.
SHORT_LIVES = {"certificateValidityPeriod": 12, "profiles": {"default": {"description": "", "validityPeriod": 12}}}
CHALLENGES = "/.well-known/acme-challenge/"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def config(authority: Pebble, settings: str = "", plain: str = "", hosts: str = f'["{NAME}"]') -> str:
    """`plain` is the listener that is without TLS, where there is one."""
    return f"""
        [server]
        workers = 2
        drain_timeout = "5s"

        [acme]
        agree_terms = true
        directory = "{authority.directory}"
        ca = "{authority.ca}"
        {settings}

        {plain}

        [[listeners]]
        name = "secure"
        address = "127.0.0.1:{authority.tls_port}"
        tls.acme = true

        [[routes]]
        host = {hosts}
        respond = {{ body = "own" }}
    """


def plain(port: int, more: str = "") -> str:
    return f'[[listeners]]\nname = "plain"\naddress = "127.0.0.1:{port}"\n{more}\n'


def shown(port: int, name: str = NAME) -> bytes:
    """The certificate that a new client sees, whoever has signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as plain_socket,
        context.wrap_socket(plain_socket, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def is_trusted(authority: Pebble, name: str = NAME) -> bool:
    """Whether a client that verifies gets its answer."""
    try:
        with TlsClient(("127.0.0.1", authority.tls_port), authority.root(), name) as client:
            return client.ask(get(host=name.encode())).body == b"own"
    except ssl.SSLCertVerificationError:
        return False


def folder(directory: Path) -> Path:
    (found,) = (path for path in (directory / "acme").iterdir() if path.is_dir())
    return found


def test_hosts_get_their_certificates_by_http_where_all_else_is_sent_to_https(tmp_path: Path) -> None:
    with pebble(tmp_path, free_port(), free_port()) as authority:
        text = config(
            authority, plain=plain(authority.http_port, "redirect_to_https = true"), hosts='["a.test", "b.test"]'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            # Until then the listener is up all the same.
            assert b"no certificate yet" in shown(authority.tls_port)
            for name in (NAME, "b.test"):
                assert gateway.wait_until_it_says(f"there is a certificate for {name}", 20), gateway.stderr
                assert eventually(lambda name=name: is_trusted(authority, name))  # type: ignore[misc]
            with Client(("127.0.0.1", authority.http_port)) as client:
                assert client.ask(get(f"{CHALLENGES}x".encode())).status == 308
            first = shown(authority.tls_port)
        log = (tmp_path / "stdout").read_text()
        assert '"route":"acme-challenge"' in log
        paths = [tmp_path / "acme", folder(tmp_path), *folder(tmp_path).iterdir()]
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths} == {
            "acme": 0o700,
            folder(tmp_path).name: 0o700,
            "account.key": 0o600,
            "attempts.json": 0o600,
            "a.test.pem": 0o600,
            "b.test.pem": 0o600,
        }
        # What is there is used at once after a restart, and nothing is ordered.
        with GatewayProcess(text, tmp_path) as gateway:
            assert shown(authority.tls_port) == first
            assert eventually(lambda: gateway.children("fastgw-acme") != [])
            assert "event" not in gateway.stderr


def test_a_host_gets_its_certificate_in_tls_while_clients_come_and_an_account_elsewhere_is_named(
    tmp_path: Path,
) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    more = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": key}}
    settings = 'challenge = "tls-alpn-01"\nemail = "ops@a.test"\n'
    settings += f'external_account = {{ key_id = "kid-1", hmac_key = "{key}" }}'
    with (
        pebble(tmp_path, free_port(), free_port(), more) as authority,
        GatewayProcess(config(authority, settings), tmp_path) as gateway,
    ):
        while "acme" not in gateway.stderr:
            # Nobody but the authority ever sees its challenge.
            assert b"ACME challenge" not in shown(authority.tls_port)
        assert gateway.wait_until_it_says("acme done"), gateway.stderr
        # The authority's own handshakes neither.
        assert "refused" not in gateway.stderr
        assert eventually(lambda: is_trusted(authority))


def test_a_certificate_is_renewed_and_connections_go_on(tmp_path: Path) -> None:
    with pebble(tmp_path, free_port(), free_port(), SHORT_LIVES) as authority:
        text = config(authority, 'renew_before = "1d"', plain(authority.http_port))
        with GatewayProcess(text, tmp_path) as gateway:
            assert gateway.wait_until_it_says("event 1: acme done", 20), gateway.stderr
            assert eventually(lambda: is_trusted(authority))
            first = shown(authority.tls_port)
            with TlsClient(("127.0.0.1", authority.tls_port), authority.root(), NAME) as kept:
                assert kept.ask(get()).body == b"own"
                assert eventually(lambda: shown(authority.tls_port) != first, 20), gateway.stderr
                assert gateway.stderr.count("acme done") >= 2
                assert kept.ask(get()).body == b"own"
                assert is_trusted(authority)


def test_when_the_authority_is_away_the_old_pair_stays_and_a_changed_configuration_asks_again(tmp_path: Path) -> None:
    port, http_port, tls_port = free_port(), free_port(), free_port()
    away = Pebble(f"https://127.0.0.1:{port}/dir", tmp_path / "pebble" / "ca.pem", "", http_port, tls_port)
    text = config(away, plain=plain(http_port))
    old = _nearly_over()
    file = tmp_path / "acme" / f"127.0.0.1-{port}-dir" / f"{NAME}.pem"
    file.parent.mkdir(parents=True)
    file.write_bytes(old)
    away.ca.parent.mkdir()
    trustme.CA().cert_pem.write_to_path(str(away.ca))
    with GatewayProcess(text, tmp_path) as gateway:
        why = (
            f"{NAME}: the authority can't be reached at {away.directory}: Connection refused; the next attempt is in 1m"
        )
        assert gateway.wait_until_it_says(why), gateway.stderr
        assert file.read_bytes() == old
        assert ssl.DER_cert_to_PEM_cert(shown(tls_port)).encode() in old
        with pebble(tmp_path, http_port, tls_port, port=port) as authority:
            gateway.rewrite(config(authority, 'email = "ops@a.test"', plain(http_port)))
            gateway.signal(signal.SIGHUP)
            assert gateway.wait_until_it_says("acme done"), gateway.stderr
            assert eventually(lambda: is_trusted(authority))
            # Who wants none any more has no process for them.
            gateway.rewrite(plain(http_port) + "[[routes]]\nrespond.status = 204\n")
            gateway.signal(signal.SIGHUP)
            assert eventually(lambda: gateway.children("fastgw-acme") == [])
            assert "acme lost" not in gateway.stderr


def _nearly_over() -> bytes:
    """A pair that is due, and still good."""
    now = datetime.now(UTC)
    made = trustme.CA().issue_cert(NAME, not_before=now - timedelta(days=80), not_after=now + timedelta(days=5))
    return made.private_key_and_cert_chain_pem.bytes()


@contextmanager
def asked(authority_asks: PlayedBackend) -> Iterator[PlayedConnection]:
    """The authority has asked, and waits for our answer."""
    connection = authority_asks.accept()
    try:
        yield connection
    finally:
        authority_asks.hang_up()


def test_the_helper_may_be_killed_amid_an_order_and_a_reload_takes_nothing_from_it(tmp_path: Path) -> None:
    with PlayedBackend() as authority_asks:
        port, listens = int(authority_asks.address.rpartition(":")[2]), free_port()
        with pebble(tmp_path, port, free_port()) as authority:
            text = config(authority, plain=plain(listens))
            with GatewayProcess(text, tmp_path) as gateway, Client(("127.0.0.1", listens)) as client:
                with asked(authority_asks) as connection:
                    question = get(connection.read_request().line.split()[1])
                    assert re.fullmatch(rb"[\w-]+\.[\w-]+", client.ask(question).body)
                    # A new configuration has the answer too.
                    gateway.rewrite(text.replace('"own"', '"new"'))
                    gateway.signal(signal.SIGHUP)
                    assert gateway.wait_until_it_says("reload done"), gateway.stderr
                    assert client.ask(get()).body == b"new"
                    assert client.ask(question).status == 200
                    (helper,) = gateway.children("fastgw-acme")
                    os.kill(helper, signal.SIGKILL)
                    assert gateway.wait_until_it_says("acme lost"), gateway.stderr
                    # Nobody waits for it any more.
                    assert eventually(lambda: client.ask(question).body == b"new")
                assert b"no certificate yet" in shown(authority.tls_port)
                answered = 0
                while "acme done" not in gateway.stderr:
                    # The new helper's order. The authority asks three times, as if from three places.
                    connection = authority_asks.accept()
                    connection.answer(client.ask(get(connection.read_request().line.split()[1])).body)
                    answered += 1
                    assert answered < 10
                    if answered % 3 == 0:
                        gateway.wait_until_it_says("acme done")
                assert eventually(lambda: shown(authority.tls_port) != b"" and b"Pebble" in shown(authority.tls_port))


def test_of_two_gateways_one_orders_and_the_other_takes_what_it_gets_and_then_its_place(tmp_path: Path) -> None:
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    storage = f'storage = "{tmp_path}/acme"'
    with pebble(tmp_path, free_port(), free_port()) as authority:
        other = Pebble(authority.directory, authority.ca, authority.management, free_port(), free_port())
        first = GatewayProcess(config(authority, storage, plain(authority.http_port)), directories[0])
        second = GatewayProcess(config(other, storage, plain(other.http_port)), directories[1])
        with first:
            assert first.wait_until_it_says("acme done"), first.stderr
            with second:
                assert second.wait_until_it_says("another gateway gets the certificates"), second.stderr
                assert eventually(lambda: is_trusted(authority))
                assert is_trusted(other)
                first.stop()
                # Not before the first has let go does it look at what there is, and it is well.
                lock = (tmp_path / "acme" / "lock").stat()
                (helper,) = second.children("fastgw-acme")
                assert eventually(lambda: _holds(helper, lock.st_ino))
                assert second.stderr.count("event") == 1
        assert (tmp_path / "pebble" / "output").read_text().count("Issued certificate") == 1


def _holds(pid: int, inode: int) -> bool:
    """Whether a process has a file locked, as the kernel tells it."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(line[1] == "FLOCK" and line[4] == str(pid) and line[5].endswith(f":{inode}") for line in lines)


def test_the_helper_ends_with_its_supervisor_however_that_ends(tmp_path: Path) -> None:
    nobody = Pebble("https://127.0.0.1:1/dir", tmp_path / "ca.pem", "", free_port(), free_port())
    trustme.CA().cert_pem.write_to_path(str(nobody.ca))
    gateway = GatewayProcess(config(nobody, plain=plain(nobody.http_port)), tmp_path).start()
    try:
        assert gateway.wait_until_it_says("acme failed"), gateway.stderr
        (helper,) = gateway.children("fastgw-acme")
        pidfd = os.pidfd_open(helper)
    finally:
        gateway.kill()
    assert ends(pidfd)
    os.close(pidfd)


@pytest.mark.parametrize("package", ["acme", "josepy", "cryptography"])
def test_without_the_packages_nothing_starts_and_the_command_that_installs_them_is_said(
    package: str, tmp_path: Path
) -> None:
    nobody = Pebble("https://127.0.0.1:1/dir", tmp_path / "ca.pem", "", free_port(), free_port())
    trustme.CA().cert_pem.write_to_path(str(nobody.ca))
    (tmp_path / "config.toml").write_text(config(nobody, plain=plain(nobody.http_port)))
    hide = f"import sys; sys.modules[{package!r}] = None; from fastgw.cli import main; main()"
    command = [sys.executable, "-c", hide, "run", str(tmp_path / "config.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the package {package} is not installed; install it: pip install 'fastgw[acme]'" in done.stderr
    assert "Traceback" not in done.stderr
