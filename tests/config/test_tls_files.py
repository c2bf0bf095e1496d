from __future__ import annotations

from pathlib import Path

import pytest
import trustme

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
