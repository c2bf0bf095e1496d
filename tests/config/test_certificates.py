from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from fastgw.config.certificates import Certificate, group_certificates, read_certificate

FUTURE = datetime.now(UTC) + timedelta(days=9)


def certificate(kind: str, *names: str) -> Certificate:
    return Certificate(Path("a.pem"), b"", b"", kind, names, FUTURE)


def read(made: trustme.LeafCert, directory: Path) -> Certificate:
    file = directory / "cert.pem"
    made.cert_chain_pems[0].write_to_path(str(file))
    return read_certificate(file, file.read_bytes(), made.private_key_pem.bytes())


@pytest.mark.parametrize(("kind", "name"), [(trustme.KeyType.RSA, "RSA"), (trustme.KeyType.ECDSA, "EC")])
def test_its_names_its_kind_of_key_and_its_end_are_read(kind: trustme.KeyType, name: str, tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("A.test", "*.b.test", "127.0.0.1", key_type=kind)
    found = read(made, tmp_path)
    assert (found.kind, found.names) == (name, ("a.test", "*.b.test", "127.0.0.1"))
    assert found.warning() == ""


def test_one_that_has_expired_is_told(tmp_path: Path) -> None:
    past = datetime(2020, 1, 2, tzinfo=UTC)
    found = read(trustme.CA().issue_cert("a.test", not_before=past - timedelta(days=1), not_after=past), tmp_path)
    assert found.warning() == f"the certificate in {tmp_path}/cert.pem has expired on 2020-01-02: browsers refuse it"


@pytest.mark.parametrize(
    ("certificates", "groups", "chosen"),
    [
        # Each name its own.
        (
            [certificate("EC", "a.test"), certificate("EC", "b.test", "*.c.test")],
            ((0,), (1,)),
            {b"a.test": 0, b"b.test": 1, b"x.c.test": 1, b"other.test": 0},
        ),
        # Two kinds of key for the same names, side by side.
        ([certificate("EC", "a.test"), certificate("RSA", "a.test")], ((0, 1),), {b"a.test": 0}),
        # For some of the names.
        (
            [certificate("EC", "a.test", "b.test"), certificate("RSA", "b.test")],
            ((0,), (0, 1)),
            {b"a.test": 0, b"b.test": 1},
        ),
        # The first of a kind wins for a name that two have.
        (
            [certificate("EC", "a.test"), certificate("EC", "a.test", "b.test")],
            ((0,), (1,)),
            {b"a.test": 0, b"b.test": 1},
        ),
        # One that names nobody is the default all the same.
        ([certificate("EC"), certificate("RSA", "a.test")], ((0,), (1,)), {b"a.test": 1, b"other.test": 0}),
    ],
)
def test_a_name_gets_the_first_certificate_of_each_kind_that_is_for_it(
    certificates: list[Certificate], groups: tuple[tuple[int, ...], ...], chosen: dict[bytes, int]
) -> None:
    made, names = group_certificates(certificates)
    assert made == groups
    assert {name: names.group(name) for name in chosen} == chosen
