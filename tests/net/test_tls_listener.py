from __future__ import annotations

import ssl

import pytest
import trustme

from fastgw.net.tls_listener import TlsListener
from fastgw.net.tls_transport import ServerSide
from fastgw.policy.tls_session import CertificateNames
from fastgw.snapshot import Address, KeyPair, Listener, ListenerTls
from tests.net.rig import no_report
from tests.net.tls_peers import NAME, MemoryClient, authority, client_context, meet

MASTER = bytes(range(80))
BOTH = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def pair(*names: str) -> KeyPair:
    made = authority().issue_cert(*names)
    return KeyPair(b"".join(one.bytes() for one in made.cert_chain_pems), made.private_key_pem.bytes())


PAIRS = (pair(NAME), pair("other.test"))
TLS = ListenerTls(PAIRS, ((0,), (1,)), CertificateNames({NAME.encode(): 0, b"other.test": 1}, {}))
CA = authority().cert_pem.bytes()
OPTIONAL = ListenerTls(PAIRS, TLS.groups, TLS.names, client_ca=CA, requires_client_cert=False, client_cert_headers=True)


def made(tls: ListenerTls, name: str = "in", master: bytes = MASTER) -> TlsListener:
    return TlsListener(Listener(name, Address("127.0.0.1", 0), tls=tls), tls, master, no_report)


def connect(listener: TlsListener, client: ssl.SSLContext, earlier: ssl.SSLSession | None = None, name: str = NAME):  # type: ignore[no-untyped-def]
    """Both sides after the handshake, and a byte from the server, with which a TLS 1.3 ticket comes."""
    one = MemoryClient(client, earlier, name)
    side = meet(listener.context, one)
    assert isinstance(side, ServerSide)
    return side, one.side


@pytest.mark.parametrize("version", BOTH)
def test_two_workers_resume_each_other_s_sessions_and_other_listeners_do_not(version: ssl.TLSVersion) -> None:
    client = client_context(version)
    _, met = connect(made(TLS), client)
    for listener, resumes in (
        (made(TLS), True),
        (made(TLS, name="other"), False),
        (made(TLS, master=bytes(80)), False),
        (made(OPTIONAL), False),
    ):
        assert connect(listener, client, met.session)[1].session_reused is resumes


@pytest.mark.parametrize("version", BOTH)
def test_a_new_secret_ends_the_sessions_of_the_one_before(version: ssl.TLSVersion) -> None:
    client = client_context(version)
    listener = made(TLS)
    _, met = connect(listener, client)
    listener.set_ticket_keys(bytes(80))
    assert connect(listener, client, met.session)[1].session_reused is False
    _, met = connect(listener, client)
    assert connect(listener, client, met.session)[1].session_reused is True


def test_without_a_secret_the_keys_are_its_own() -> None:
    client = client_context()
    _, met = connect(made(TLS, master=b""), client)
    assert connect(made(TLS, master=b""), client, met.session)[1].session_reused is False


@pytest.mark.parametrize(("name", "group"), [(NAME, 0), ("other.test", 1), ("OTHER.test", 1)])
def test_a_session_knows_the_name_that_was_asked_for(name: str, group: int) -> None:
    listener = made(TLS)
    side, client = connect(listener, client_context(), name=name)
    session = listener.session(side)
    assert (session.server_name, session.group, session.version) == (name.lower().encode(), group, "TLSv1.3")
    assert session.certificate is None
    assert session.lines == b""
    assert dict(client.getpeercert())["subjectAltName"] == (("DNS", name.lower()),)


@pytest.mark.parametrize("version", BOTH)
def test_a_session_knows_the_client_s_certificate_resumed_or_not(version: ssl.TLSVersion) -> None:
    listener, client = made(OPTIONAL), client_context(version)
    own: trustme.LeafCert = authority().issue_cert("client.test", organization_name="Shop")
    own.configure_cert(client)
    side, met = connect(listener, client)
    again, _ = connect(made(OPTIONAL), client, met.session)
    assert again.session_reused is True
    for one in (side, again):
        session = listener.session(one)
        assert session.certificate is not None
        assert session.certificate.san == "DNS:client.test"
        assert "O=Shop" in session.certificate.subject
        assert session.lines == session.certificate.lines()


def test_a_client_without_a_certificate_is_told_of_as_such() -> None:
    listener = made(OPTIONAL)
    side, _ = connect(listener, client_context())
    assert listener.session(side).lines == b"\r\nX-Client-Cert-Verify: NONE"
