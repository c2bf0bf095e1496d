from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.http1.fields import FORWARDED_FOR, FORWARDED_HOST, FORWARDED_OTHER, FORWARDED_PROTO, values
from fastgw.policy.forwarded import Forwarding, believe, is_trusted, lines_before_host, node

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
PEER = b"10.0.0.1"


def said(*chain: bytes) -> list[tuple[int, bytes]]:
    return [(FORWARDED_FOR, b"X-Forwarded-For: " + part) for part in chain]


def believed(lines: list[tuple[int, bytes]], peer: bytes = PEER) -> Forwarding:
    return believe(lines, peer, b"http", b"a.test", NETWORKS)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        (b"10.255.0.1", True),
        (b"11.0.0.1", False),
        (b"::ffff:10.0.0.1", True),
        (b"2001:db8::1", True),
        (b"2001:db9::1", False),
        (b"", False),
        (b"unknown", False),
        (b"10.0.0.1 ", False),
        (b"10.0.0.1:80", False),
        (b"\xff", False),
    ],
)
def test_an_address_is_trusted_when_a_network_has_it(address: bytes, trusted: bool) -> None:
    assert is_trusted(address, NETWORKS) is trusted
    assert not is_trusted(address, ())


def test_an_ipv6_address_is_quoted_in_forwarded() -> None:
    assert node(b"192.0.2.7") == b"192.0.2.7"
    assert node(b"2001:db8::1") == b'"[2001:db8::1]"'
    assert lines_before_host(b"::1", b"http").endswith(b'\r\nForwarded: for="[::1]";proto=http;host=')


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([], b"10.0.0.1"),
        ([b"203.0.113.9"], b"203.0.113.9"),
        ([b"203.0.113.9, 10.0.0.9"], b"203.0.113.9"),
        ([b"203.0.113.9", b"10.0.0.9"], b"203.0.113.9"),
        # What the client itself wrote in front is not believed.
        ([b"1.1.1.1, 203.0.113.9, 10.0.0.9"], b"203.0.113.9"),
        ([b"10.0.0.7, 203.0.113.9"], b"203.0.113.9"),
        ([b"10.0.0.3, 10.0.0.2"], b"10.0.0.3"),
        ([b"203.0.113.9,, ,10.0.0.9,"], b"203.0.113.9"),
        ([b"2001:db9::7, 2001:db8::1"], b"2001:db9::7"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(chain: list[bytes], client: bytes) -> None:
    assert believed(said(*chain)).client == client


def test_a_trusted_proxy_without_address_is_believed_as_any_other() -> None:
    assert believed(said(b"203.0.113.9"), peer=b"unknown").client == b"203.0.113.9"


def test_a_proxy_s_word_is_added_to_the_chain() -> None:
    lines = believed(said(b"203.0.113.9", b"10.0.0.9")).lines
    assert values(lines, b"x-forwarded-for") == [b"203.0.113.9, 10.0.0.9, 10.0.0.1"]
    assert values(lines, b"forwarded") == [b'for=10.0.0.1;proto=http;host="a.test"']
    assert values(lines, b"x-forwarded-host") == [b"a.test"]


def test_what_a_proxy_says_of_scheme_and_host_passes() -> None:
    lines = believed(
        [
            (FORWARDED_PROTO, b"X-Forwarded-Proto: https"),
            (FORWARDED_HOST, b"X-Forwarded-Host: shop.test"),
            (FORWARDED_OTHER, b"Forwarded: for=203.0.113.9;proto=https"),
            (FORWARDED_OTHER, b"X-Forwarded-Port: 443"),
        ]
    ).lines
    assert values(lines, b"x-forwarded-proto") == [b"https"]
    assert values(lines, b"x-forwarded-host") == [b"shop.test"]
    assert values(lines, b"forwarded") == [b'for=203.0.113.9;proto=https, for=10.0.0.1;proto=http;host="a.test"']
    assert values(lines, b"x-forwarded-port") == [b"443"]


def test_a_scheme_that_is_none_is_not_passed() -> None:
    lines = believed([(FORWARDED_PROTO, b'X-Forwarded-Proto: gopher"')]).lines
    assert values(lines, b"x-forwarded-proto") == [b"http"]


def test_a_chain_without_end_is_cut_at_its_far_end() -> None:
    chain = [b"10.1.0.%d" % number for number in range(100)]
    forwarding = believed(said(b", ".join(chain)))
    (kept,) = values(forwarding.lines, b"x-forwarded-for")
    assert kept.split(b", ")[-3:] == [b"10.1.0.98", b"10.1.0.99", PEER]
    assert len(kept.split(b", ")) == 33


HOSTILE = st.one_of(
    st.sampled_from([b'1.2.3.4","status":200,"x":"', b"a\tb", b"10.0.0.2, \xff", b'"', b"\\", b"[::1]:80, 10.0.0.3"]),
    st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127)),
)
# What may stand in a log line between quotes as it is.
HARMLESS = re.compile(rb"[0-9A-Za-z._:\[\]-]{1,64}")


@settings(max_examples=60, deadline=None)
@given(st.lists(HOSTILE, max_size=3))
def test_no_word_of_a_proxy_makes_a_client_that_could_forge_a_log_line(chain: list[bytes]) -> None:
    forwarding = believed(said(*chain))
    assert HARMLESS.fullmatch(forwarding.client)
    assert b"\n" not in forwarding.lines.replace(b"\r\n", b"")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["10.0.0.2", "203.0.113.9", "198.51.100.1", "2001:db8::2"]), max_size=6))
def test_the_client_is_what_a_walk_from_the_near_end_finds(chain: list[str]) -> None:
    def trusted(address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in NETWORKS if network.version == parsed.version)

    expected = PEER.decode()
    for address in reversed(chain):
        expected = address
        if not trusted(address):
            break
    assert believed(said(", ".join(chain).encode())).client == expected.encode()
