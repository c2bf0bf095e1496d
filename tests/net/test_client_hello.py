from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.net.client_hello import ClientHello, read_client_hello

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def hello(name: str | None = "a.test", protocols: tuple[str, ...] = (), version: ssl.TLSVersion = VERSIONS[1]) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["a.test", None])
@pytest.mark.parametrize("protocols", [(), ("acme-tls/1",), ("h2", "http/1.1")])
def test_the_name_and_the_protocols_are_read(
    version: ssl.TLSVersion, name: str | None, protocols: tuple[str, ...]
) -> None:
    found = read_client_hello(hello(name, protocols, version))
    assert found == ClientHello((name or "").encode(), tuple(one.encode() for one in protocols))


def test_a_hello_is_waited_for_until_its_last_byte_and_not_longer() -> None:
    whole = hello(protocols=("acme-tls/1",))
    assert {read_client_hello(whole[:size]) for size in range(len(whole))} == {None}
    assert read_client_hello(whole + b"more") == read_client_hello(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x17\x03\x03\x00\x01\x00",
        # A server's hello, an empty record, and a hello that goes on in the next record.
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\x00\x01\x00",
    ],
)
def test_what_is_no_hello_is_left_to_openssl(data: bytes) -> None:
    assert read_client_hello(data) == ClientHello()


@given(st.data())
def test_whatever_is_changed_in_it_it_is_read_or_not_understood(data: st.DataObject) -> None:
    whole = bytearray(hello(protocols=("acme-tls/1", "h2")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(5, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read_client_hello(bytes(whole)), ClientHello)


@given(st.binary(max_size=200))
def test_whatever_comes_nothing_is_raised(data: bytes) -> None:
    read_client_hello(data)
    read_client_hello(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)
