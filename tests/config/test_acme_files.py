from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from fastgw.config.acme_files import covered, read_acme_certificates
from fastgw.config.acme_settings import certificate_file
from fastgw.config.certificates import Certificate
from tests.config.sources import load

DIRECTORY = "https://ca.test/dir"


def put(storage: Path, name: str, content: bytes) -> Path:
    file = certificate_file(storage, DIRECTORY, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def pair(*names: str) -> bytes:
    return trustme.CA().issue_cert(*names).private_key_and_cert_chain_pem.bytes()


def test_what_is_there_is_read_and_one_of_our_own_stands_in_for_the_rest(tmp_path: Path) -> None:
    file = put(tmp_path, "b.test", pair("b.test"))
    found = read_acme_certificates(tmp_path, DIRECTORY, ["a.test", "b.test", "c.test"])
    assert [one.names for one in found] == [("b.test",), ("a.test", "c.test")]
    assert found[0].cert == found[0].key == file.read_bytes()
    assert found[1].warning() == ""


def test_the_stand_in_is_the_same_at_the_next_reload(tmp_path: Path) -> None:
    (one,) = read_acme_certificates(tmp_path, DIRECTORY, ["a.test"])
    (other,) = read_acme_certificates(tmp_path, DIRECTORY, ["a.test"])
    assert one is other
    assert "PRIVATE" not in repr(one)


def broken(kind: str) -> bytes:
    if kind == "for another name":
        return pair("b.test")
    if kind == "of two pairs":
        return trustme.CA().issue_cert("a.test").private_key_pem.bytes() + pair("a.test").partition(b"-----END EC")[2]
    return {"empty": b"", "no PEM": b"\xff\0", "half": pair("a.test")[:400]}[kind]


@pytest.mark.parametrize("kind", ["empty", "no PEM", "half", "for another name", "of two pairs"])
def test_what_can_t_be_used_is_as_good_as_not_there(kind: str, tmp_path: Path) -> None:
    put(tmp_path, "a.test", broken(kind))
    (found,) = read_acme_certificates(tmp_path, DIRECTORY, ["a.test"])
    assert found.file == Path("stand-in")


def test_no_names_no_stand_in(tmp_path: Path) -> None:
    assert read_acme_certificates(tmp_path, DIRECTORY, []) == ()


def test_a_certificate_covers_its_names_and_one_label_for_a_wildcard(tmp_path: Path) -> None:
    put(tmp_path, "a.test", pair("a.test", "*.b.test"))
    found: tuple[Certificate, ...] = read_acme_certificates(tmp_path, DIRECTORY, ["a.test"])
    assert [covered(name, found) for name in ("a.test", "x.b.test", "*.b.test")] == [True] * 3
    assert [covered(name, found) for name in ("x.a.test", "b.test", "x.y.b.test")] == [False] * 3


def test_a_listener_shows_the_users_certificates_first(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(pair("own.test"))
    put(tmp_path / "acme", "b.test", pair("b.test"))
    text = f"""
        [acme]
        agree_terms = true
        directory = "{DIRECTORY}"
        [[listeners]]
        address = "127.0.0.1:0"
        [[listeners]]
        address = "127.0.0.1:443"
        tls = {{ acme = true, certificates = [{{ cert = "own.pem" }}] }}
        [[routes]]
        host = ["a.test", "b.test", "own.test"]
        respond.body = "ok"
    """
    tls = load(text, base=tmp_path).snapshot.listeners[1].tls
    assert tls is not None
    assert [tls.names.group(name) for name in (b"own.test", b"b.test", b"a.test", b"other.test")] == [0, 1, 2, 0]
