from __future__ import annotations

import pytest

from fastgw.policy.tls_session import (
    CLIENT_CERTIFICATE_LINES,
    CertificateNames,
    ClientCertificate,
    TlsSession,
    san_text,
    subject_text,
)

NAMES = CertificateNames({b"shop.test": 0, b"api.test": 1, b"one.wild.test": 1}, {b"wild.test": 2})


@pytest.mark.parametrize(
    ("name", "group"),
    [
        *((b"shop.test", 0), (b"api.test", 1), (b"other.test", 0), (b"", 0)),
        # An exact name before a wildcard, and a wildcard for one label only (RFC 9525 §6.3).
        *((b"one.wild.test", 1), (b"two.wild.test", 2), (b"a.b.wild.test", 0), (b"wild.test", 0)),
    ],
)
def test_a_name_gets_its_own_certificate_or_the_first(name: bytes, group: int) -> None:
    assert NAMES.group(name) == group


@pytest.mark.parametrize(
    ("asked", "host", "misdirected"),
    [
        *((b"api.test", b"api.test", False), (b"api.test", b"shop.test", True), (b"api.test", b"one.wild.test", False)),
        # Who has not asked for a name, or for one that nobody has, gets the default's.
        *((b"", b"api.test", False), (b"x.test", b"shop.test", False), (b"x.test", b"api.test", True)),
        # HTTP/1.0 may name no host.
        (b"api.test", b"", False),
    ],
)
def test_a_host_of_another_certificate_is_misdirected(asked: bytes, host: bytes, misdirected: bool) -> None:
    session = TlsSession("TLSv1.3", asked, NAMES.group(asked), NAMES)
    assert session.misdirects(host) is misdirected


def test_a_subject_is_written_with_its_last_part_first_and_nothing_in_it_breaks_out() -> None:
    subject = ((("organizationName", "Shop, Inc"),), (("commonName", 'a"b\r\nX: é'), ("emailAddress", "a@b")))
    assert subject_text(subject) == 'CN=a\\"b\\0D\\0AX: \\C3\\A9+emailAddress=a@b,O=Shop\\, Inc'


def test_a_name_can_not_pretend_to_be_two() -> None:
    assert san_text((("DNS", "a.test"), ("URI", "spiffe://x,DNS:admin"))) == "DNS:a.test,URI:spiffe://x\\,DNS:admin"


def test_the_lines_for_the_upstream_are_those_that_clients_can_not_send() -> None:
    lines = ClientCertificate("CN=a", "DNS:a.test", "00ff").lines()
    assert lines.count(b"\r\n") == 4
    sent = lines + b"\r\nx_client_cert-SAN: forged\r\nClient-Cert: :AAAA:\r\nclient_cert-Chain: x\r\nX-Other: 1"
    assert CLIENT_CERTIFICATE_LINES.sub(b"", sent) == b"\r\nX-Other: 1"
