"""Who a request comes from, and how the upstream is told (RFC 7239, and the X-Forwarded fields older than it).

What a client says of those before it is believed only when its own address is trusted; then the client is the last
address in X-Forwarded-For that is not a trusted proxy itself, and the lists are added to. Otherwise they are made
anew from the connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from fastgw.http1.fields import FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO

Networks = Sequence[IPv4Network | IPv6Network]

# An address with or without its port, or the identifiers of RFC 7239 §6: nothing that could break out of a header or
# of a log line.
_NODE = re.compile(rb"[0-9A-Za-z._:\[\]-]{1,64}")
# What a list of proxies may hold before it is cut; each costs a look-up.
_PROXIES_MAX = 32


def is_trusted(address: bytes, networks: Networks) -> bool:
    """Whether `address` is in one of `networks`; what is no address is not."""
    try:
        parsed = ip_address(address.decode("latin-1"))
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def node(address: bytes) -> bytes:
    """An address as Forwarded writes it: IPv6 in brackets and quotes (RFC 7239 §6)."""
    return b'"[%b]"' % address if b":" in address else address


def lines_before_host(client: bytes, scheme: bytes) -> bytes:
    """The lines for a client that is not a trusted proxy, up to where the host goes."""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nForwarded: for=%b;proto=%b;host=" % (
        client,
        scheme,
        node(client),
        scheme,
    )


class Forwarding:
    """What a trusted proxy said: the client it speaks for, the scheme that one uses, and the lines for the upstream."""

    __slots__ = ("client", "lines", "scheme")

    def __init__(self, client: bytes, scheme: bytes, lines: bytes) -> None:
        self.client = client
        self.scheme = scheme
        self.lines = lines


def believe(said: list[tuple[int, bytes]], peer: bytes, scheme: bytes, host: bytes, networks: Networks) -> Forwarding:
    """Reads the header lines `said` by the trusted `peer` and adds this hop to them."""
    chain: list[bytes] = []
    proto, forwarded_host, before = scheme, host, b""
    others = b""
    for kind, line in said:
        name, _, value = line.partition(b": ")
        if kind == FORWARDED_FOR:
            chain += [part for part in (part.strip() for part in value.split(b",")) if _NODE.fullmatch(part)]
        elif kind == FORWARDED_PROTO:
            proto = value if value in (b"http", b"https") else proto
        elif kind == FORWARDED_HOST:
            forwarded_host = value
        elif name.lower() == b"forwarded":
            before += value + b", "
        else:
            others += b"\r\n" + line
    chain = chain[-_PROXIES_MAX:]
    client, trusted = peer, True
    for address in reversed(chain):
        if not trusted:
            break
        client, trusted = address, is_trusted(address, networks)
    lines = b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b" % (
        b", ".join([*chain, peer]),
        proto,
        forwarded_host,
    )
    element = b'for=%b;proto=%b;host="%b"' % (node(peer), scheme, host)
    return Forwarding(client, proto, lines + b"\r\nForwarded: " + before + element + others)
