from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.config.sources import load, problems

UPSTREAM = '[upstreams.a]\nendpoints = ["127.0.0.1:1"]\ntls = {}\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("one", "two"):
        made = authority.issue_cert(name)
        made.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}-both.pem"))
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty.pem").write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    return tmp_path


def said(written: str, base: Path) -> list[str]:
    return problems(UPSTREAM.replace("{}", written), base=base)


def test_what_the_files_hold_is_in_the_snapshot(files: Path) -> None:
    text = UPSTREAM.replace("{}", '{ ca = "ca.pem", cert = "one.pem", key = "one.key" }')
    tls = load(text, base=files).snapshot.upstreams["a"].tls
    assert tls is not None
    assert tls.ca == (files / "ca.pem").read_bytes()
    assert tls.key == (files / "one.key").read_bytes()
    assert "PRIVATE" not in repr(tls)


def test_the_key_may_be_in_the_certificate_s_file(files: Path) -> None:
    assert said('{ cert = "one-both.pem" }', files) == []


@pytest.mark.parametrize(("written", "is_used"), [("true", True), ("{}", True), ("false", False)])
def test_true_is_a_table_of_defaults(written: str, is_used: bool) -> None:
    tls = load(UPSTREAM.replace("{}", written)).snapshot.upstreams["a"].tls
    assert (tls is not None) == is_used


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{ ca = "nowhere.pem" }', "3:14: upstreams.a.tls.ca: the file"),
        ('{ ca = "text" }', "is not PEM"),
        ('{ ca = "empty.pem" }', "holds no certificate that can be read"),
        ('{ cert = "one.pem" }', "holds no private key"),
        ('{ cert = "one.pem", key = "two.key" }', "does not belong to the certificate"),
        ('{ key = "one.key" }', "there is no certificate for it"),
        ('{ verify = false, ca = "ca.pem" }', "nothing is verified"),
        ('"yes"', "must be true, false or a table, not a string"),
    ],
)
def test_what_can_not_be_used_is_told_with_its_place(written: str, expected: str, files: Path) -> None:
    (problem,) = said(written, files)
    assert problem.startswith("config.toml:3:")
    assert expected in problem


# Listeners.

LISTENER = '[[listeners]]\naddress = "127.0.0.1:0"\n[listeners.tls]\n{}\n[[routes]]\nrespond.body = "ok"\n'


def test_what_a_listener_s_files_hold_is_in_the_snapshot_and_compares(files: Path) -> None:
    written = """certificates = [{ cert = "one.pem", key = "one.key" }, { cert = "two-both.pem" }]
        client_ca = "ca.pem"
        client_auth = "optional"
        hsts = { max_age = "365d", include_subdomains = true, preload = true }
        min_version = "1.3"
    """
    snapshot = load(LISTENER.replace("{}", written), base=files).snapshot
    again = pickle.loads(pickle.dumps(snapshot))
    assert again.listeners == snapshot.listeners == load(LISTENER.replace("{}", written), base=files).snapshot.listeners
    tls = snapshot.listeners[0].tls
    assert tls is not None
    assert [pair.cert for pair in tls.pairs] == [(files / f"{name}.pem").read_bytes() for name in ("one", "two-both")]
    assert "PRIVATE" not in repr(tls.pairs[0])
    assert (tls.groups, tls.names.group(b"one"), tls.names.group(b"two")) == (((0,), (1,)), 0, 1)
    assert tls.client_ca == (files / "ca.pem").read_bytes()
    assert (tls.requires_client_cert, tls.min_version) == (False, "1.3")
    assert tls.hsts == b"\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains; preload"
    assert not snapshot.has_client_cert_headers


def test_hsts_may_be_a_duration_alone(files: Path) -> None:
    written = 'certificates = [{ cert = "one-both.pem" }]\nhsts = "1h"'
    tls = load(LISTENER.replace("{}", written), base=files).snapshot.listeners[0].tls
    assert tls is not None
    assert tls.hsts == b"\r\nStrict-Transport-Security: max-age=3600"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{ cert = "nowhere.pem" }', "4:26: listeners[1].tls.certificates[1].cert: the file"),
        ('{ cert = "text" }', "is not PEM"),
        ('{ cert = "one.pem" }', "holds no private key"),
        ('{ cert = "one.pem", key = "two.key" }', "does not belong to the certificate"),
        ('{ cert = "empty.pem", key = "one.key" }', "can't be used"),
        ('{ cert = "one-both.pem" }, { cert = "one.pem", key = "one.key" }', "is never shown"),
    ],
)
def test_a_listener_s_certificate_that_can_not_be_used_is_told_with_its_place(
    written: str, expected: str, files: Path
) -> None:
    (problem,) = problems(LISTENER.replace("{}", f"certificates = [{written}]"), base=files)
    assert problem.startswith("config.toml:4:")
    assert expected in problem


def test_authorities_of_clients_that_can_not_be_used_are_told(files: Path) -> None:
    written = 'certificates = [{ cert = "one-both.pem" }]\nclient_ca = "empty.pem"'
    (problem,) = problems(LISTENER.replace("{}", written), base=files)
    assert problem.startswith("config.toml:5:13: listeners[1].tls.client_ca: ")
    assert "holds no certificate that can be read" in problem


def test_a_key_with_a_password_is_told(files: Path) -> None:
    key = serialization.load_pem_private_key((files / "one.key").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (files / "locked.key").write_bytes(encrypted)
    written = 'certificates = [{ cert = "one.pem", key = "locked.key" }]'
    (problem,) = problems(LISTENER.replace("{}", written), base=files)
    assert problem.startswith("config.toml:4:")
    assert "is encrypted; store it without a password" in problem
