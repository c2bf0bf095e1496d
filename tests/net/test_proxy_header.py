from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.net.proxy_header import Peer, ProxyHeader, header, read_header

Made = tuple[bytes, tuple[Peer, Peer] | None]

CLIENT, LISTENER = ("192.0.2.7", 4711), ("198.51.100.1", 443)
CLIENT_6, LISTENER_6 = ("2001:db8::7", 4711), ("2001:db8::1", 443)
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (CLIENT, LISTENER, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"),
        (CLIENT_6, LISTENER_6, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"),
        (("fe80::7%eth0", 1), LISTENER_6, b"PROXY TCP6 fe80::7 2001:db8::1 1 443\r\n"),
        (CLIENT_6, LISTENER, b"PROXY TCP6 2001:db8::7 ::ffff:c633:6401 4711 443\r\n"),
        (CLIENT, ("", 0), b"PROXY TCP4 192.0.2.7 0.0.0.0 4711 0\r\n"),
        (("unknown", 0), LISTENER, b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1_is_a_line(source: tuple[str, int], destination: tuple[str, int], line: bytes) -> None:
    assert header("v1", source, destination) == line


def test_version_2_is_binary() -> None:
    block = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\x12\x67\x01\xbb"
    assert header("v2", CLIENT, LISTENER) == SIGNATURE + b"\x21\x11\x00\x0c" + block
    assert header("v2", CLIENT_6, LISTENER_6)[12:16] == b"\x21\x21\x00\x24"
    assert header("v2", ("", 0), ("", 0)) == SIGNATURE + b"\x21\x00\x00\x00"


# Reading.


def binary(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(block)) + block


def line_4(source: IPv4Address) -> Made:
    return f"PROXY TCP4 {source} 192.0.2.1 4711 443\r\n".encode(), ((str(source), 4711), ("192.0.2.1", 443))


def host(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


def line_6(source: IPv6Address) -> Made:
    return f"PROXY TCP6 {source} 2001:db8::1 4711 443\r\n".encode(), ((host(source), 4711), ("2001:db8::1", 443))


def binary_4(source: IPv4Address) -> Made:
    block = source.packed + bytes([192, 0, 2, 1]) + b"\x12\x67\x01\xbb" + b"\x04\x00\x03TLV"
    return binary(0x21, 0x11, block), ((str(source), 4711), ("192.0.2.1", 443))


def binary_6(source: IPv6Address) -> Made:
    return binary(0x21, 0x21, source.packed + bytes(20)), ((host(source), 0), ("::", 0))


HEADERS = st.one_of(
    st.ip_addresses(v=4).map(line_4),
    st.ip_addresses(v=6).filter(lambda address: address.scope_id is None).map(line_6),
    st.ip_addresses(v=4).map(binary_4),
    st.ip_addresses(v=6).map(binary_6),
    st.just((b"PROXY UNKNOWN whatever it says\r\n", None)),
    st.just((binary(0x20, 0x11, bytes(12)), None)),
    st.just((binary(0x21, 0x00, b""), None)),
    st.just((binary(0x21, 0x31, bytes(216)), (("unknown", 0), ("", 0)))),
)


@given(HEADERS, st.binary(max_size=32))
def test_every_cut_is_incomplete_and_the_whole_is_right_whatever_follows(made: Made, following: bytes) -> None:
    written, ends = made
    for cut in range(len(written)):
        assert read_header(written[:cut]) is None
    assert read_header(written + following) == ProxyHeader(len(written), ends)


@given(st.binary(max_size=300))
def test_what_is_no_header_is_never_taken_for_one(data: bytes) -> None:
    if not data.startswith((SIGNATURE, b"PROXY ")):
        assert not isinstance(read_header(data), ProxyHeader)


@pytest.mark.parametrize(
    "line",
    [
        *("PROXY", "PROXY TCP4", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2", "PROXY TCP4 1.2.3.4 1.2.3.4 1"),
        "PROXY  TCP4 1 2 3 4",
        *("PROXY TCP4 ::1 ::1 1 2", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2", "PROXY TCP6 fe80::1%a ::1 1 2"),
        *("PROXY TCP4 1.2.3.4 1.2.3.4 01 2", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536", "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2"),
        *("PROXY TCP4 1.2.3 1.2.3.4 1 2", "PROXY TCP4 1.2.3.4  1.2.3.4 1 2", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "),
        *("PROXY UNKNOWN " + "x" * 107, "proxy TCP4 1.2.3.4 1.2.3.4 1 2", "GET / HTTP/1.1"),
    ],
)
def test_a_line_that_is_not_as_the_specification_says_is_refused(line: str) -> None:
    assert isinstance(read_header(line.encode() + b"\r\n"), str)


@pytest.mark.parametrize(
    "written",
    [
        *(binary(0x11, 0x11, bytes(12)), binary(0x22, 0x11, bytes(12)), binary(0x21, 0x12, bytes(12))),
        *(binary(0x21, 0x11, bytes(11)), binary(0x21, 0x21, bytes(35)), binary(0x21, 0x31, bytes(215))),
        *(binary(0x21, 0x41, bytes(64)), binary(0x21, 0x11, bytes(4097))),
    ],
)
def test_a_binary_header_that_is_not_for_streams_is_refused_before_it_is_whole(written: bytes) -> None:
    assert isinstance(read_header(written[:16]), str)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("source", "destination"), [(CLIENT, LISTENER), (CLIENT_6, LISTENER_6)])
def test_what_is_made_here_is_read_here(version: str, source: Peer, destination: Peer) -> None:
    made = header(version, source, destination)
    assert read_header(made + b"GET") == ProxyHeader(len(made), (source, destination))


def test_a_mapped_address_is_the_ipv4_address_that_it_stands_for() -> None:
    line = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n"
    assert read_header(line) == ProxyHeader(len(line), (CLIENT, LISTENER))
