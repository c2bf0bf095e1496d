"""The PROXY protocol's header, which tells a server whom a connection is for: made and read here, with no I/O.

Versions 1 (a line of text) and 2 (binary) of https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, for TCP. Who
is believed is decided elsewhere. Type-length-values behind the addresses are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
# A host and a port, as sockets tell them; what is no IP address is not known.
Peer = tuple[str, int]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LINE_START = b"PROXY "
# §2.1: the longest line, its CRLF included.
_LINE_MAX = 107
# Addresses and TLVs of version 2; nginx takes as much, and a client's certificate fits.
_LENGTH_MAX = 4096
_PORT_MAX = 65535
# §2.2: version 2 with each command. LOCAL is the proxy's own connection, such as a health check; PROXY is one that it
# makes on somebody's behalf.
_LOCAL, _PROXY = 0x20, 0x21
# The bytes of addresses that each family and transport has (§2.2), for streams.
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_UNSPECIFIED = 0x00
_ADDRESS_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


def header(version: str, source: Peer, destination: Peer) -> bytes:
    """The header of version "v1" or "v2" for a client at `source` that has connected to `destination`."""
    ends = _of_one_family(_address(source[0]), _address(destination[0]))
    if version == "v1":
        if ends is None:
            # §2.1: the server uses what it sees of the connection itself.
            return b"PROXY UNKNOWN\r\n"
        family = "TCP4" if ends[0].version == 4 else "TCP6"
        return f"PROXY {family} {_text(ends[0])} {_text(ends[1])} {source[1]} {destination[1]}\r\n".encode()
    if ends is None:
        return _SIGNATURE + bytes((_PROXY, _UNSPECIFIED, 0, 0))
    number = partial(int.to_bytes, length=2, byteorder="big")
    block = b"".join((ends[0].packed, ends[1].packed, number(source[1]), number(destination[1])))
    command_and_family = bytes((_PROXY, _TCP4 if ends[0].version == 4 else _TCP6))
    return b"".join((_SIGNATURE, command_and_family, number(len(block)), block))


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


def _text(address: Address) -> str:
    """§2.1: an IPv6 address has groups of hexadecimal digits; from 3.13 on Python writes a mapped one with dots."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header of `size` bytes. `ends` are the client and what it has connected to; None when it tells of
    nobody, and the connection's own addresses hold."""

    size: int
    ends: tuple[Peer, Peer] | None


def read_header(data: bytes) -> ProxyHeader | str | None:
    """The header that `data` begins with; a sentence saying what is wrong with it; or None, when more must come."""
    if data.startswith(_SIGNATURE[: len(data)]):
        return _read_binary(data) if len(data) >= 16 else None
    if data.startswith(_LINE_START[: len(data)]):
        return _read_line(data)
    return "no PROXY header"


def _read_line(data: bytes) -> ProxyHeader | str | None:
    end = data.find(b"\r\n", 0, _LINE_MAX)
    if end < 0:
        return "a PROXY line that is too long" if len(data) >= _LINE_MAX else None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        # §2.1: what follows is to be ignored.
        return ProxyHeader(end + 2, None)
    ends = _ends_of(words) if len(words) == 6 else None
    return "a malformed PROXY line" if ends is None else ProxyHeader(end + 2, ends)


def _ends_of(words: list[bytes]) -> tuple[Peer, Peer] | None:
    kinds: dict[bytes, type[Address]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
    kind = kinds.get(words[1])
    # A zone is of no use to anybody but the sender.
    if kind is None or b"%" in words[2] + words[3] or not all(map(_is_port, words[4:])):
        return None
    try:
        source, destination = kind(words[2].decode("ascii")), kind(words[3].decode("ascii"))
    except ValueError:
        return None
    return (_host(source), int(words[4])), (_host(destination), int(words[5]))


def _host(address: Address) -> str:
    """RFC 4291 §2.5.5.2: an IPv4 address that is written as an IPv6 address is one in logs and lists, too."""
    return str((address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address)


def _is_port(word: bytes) -> bool:
    return word.isdigit() and len(word) <= 5 and int(word) <= _PORT_MAX and (word == b"0" or word[:1] != b"0")


def _read_binary(data: bytes) -> ProxyHeader | str | None:
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        return "an unknown version or command in the PROXY header"
    if length > _LENGTH_MAX:
        return "a PROXY header that is too long"
    is_local = command == _LOCAL
    needed = _ADDRESS_SIZES.get(family)
    if not is_local and (needed is None or length < needed):
        return "a PROXY header for another kind of connection"
    size = 16 + length
    if len(data) < size:
        return None
    # §2.2: what LOCAL says of addresses is to be ignored.
    return ProxyHeader(size, None if is_local else _binary_ends(family, data))


def _binary_ends(family: int, data: bytes) -> tuple[Peer, Peer] | None:
    if family == _UNIX:
        # RFC 7239 §6.2: the identifier of a client that has no address.
        return ("unknown", 0), ("", 0)
    if family not in (_TCP4, _TCP6):
        return None
    kind, width = (IPv4Address, 4) if family == _TCP4 else (IPv6Address, 16)
    at = 16 + 2 * width
    source, destination = kind(data[16 : 16 + width]), kind(data[16 + width : at])
    ports = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
    return (_host(source), ports[0]), (_host(destination), ports[1])
