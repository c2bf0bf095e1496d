"""The PROXY protocol's header, which tells a server whom a connection is for: made here, with no I/O.

Versions 1 (a line of text) and 2 (binary) of https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, for TCP.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
# A host and a port, as sockets tell them; what is no IP address is not known.
Peer = tuple[str, int]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
# §2.2: version 2, and PROXY: the connection is made on somebody's behalf.
_PROXY_COMMAND = b"\x21"
_UNSPECIFIED = b"\x00"
_TCP_OVER_IPV4 = b"\x11"
_TCP_OVER_IPV6 = b"\x21"


def header(version: str, source: Peer, destination: Peer) -> bytes:
    """The header of version "v1" or "v2" for a client at `source` that has connected to `destination`."""
    ends = _of_one_family(_address(source[0]), _address(destination[0]))
    if version == "v1":
        if ends is None:
            # §2.1: the server uses what it sees of the connection itself.
            return b"PROXY UNKNOWN\r\n"
        family = "TCP4" if ends[0].version == 4 else "TCP6"
        return f"PROXY {family} {ends[0]} {ends[1]} {source[1]} {destination[1]}\r\n".encode()
    if ends is None:
        return b"".join((_SIGNATURE, _PROXY_COMMAND, _UNSPECIFIED, b"\x00\x00"))
    number = partial(int.to_bytes, length=2, byteorder="big")
    block = b"".join((ends[0].packed, ends[1].packed, number(source[1]), number(destination[1])))
    family_byte = _TCP_OVER_IPV4 if ends[0].version == 4 else _TCP_OVER_IPV6
    return b"".join((_SIGNATURE, _PROXY_COMMAND, family_byte, number(len(block)), block))


def _address(host: str) -> Address | None:
    try:
        # A scope ("%eth0") means nothing to another host.
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _of_one_family(source: Address | None, destination: Address | None) -> tuple[Address, Address] | None:
    """Both addresses in the family of one of them: a header has room for one family only. None: nothing is known."""
    if source is None:
        return None
    if destination is None:
        return source, IPv4Address(0) if source.version == 4 else IPv6Address(0)
    if source.version == destination.version:
        return source, destination
    return _mapped(source), _mapped(destination)


def _mapped(address: Address) -> IPv6Address:
    """RFC 4291 §2.5.5.2: an IPv4 address as an IPv6 address."""
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\x00" * 10 + b"\xff\xff" + address.packed)
