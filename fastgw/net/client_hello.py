"""What a TLS client says first (RFC 8446 §4.1.2): the name it asks for, and the protocols it offers by ALPN.

OpenSSL tells Python of the name before it chooses a certificate, but of the protocols only after; so whoever has to
choose by both reads them here. Nothing is judged: what is not understood is empty, and OpenSSL's to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16
_RECORD_HEADER, _HELLO_HEADER = 5, 4
# Version and random.
_FIXED_SIZE = 34
# RFC 8446 §5.1; a hello that goes over several records is none that is looked into.
_RECORD_SIZE_MAX = 1 << 14


@dataclass(frozen=True, slots=True)
class ClientHello:
    server_name: bytes = b""
    protocols: tuple[bytes, ...] = ()


_UNREADABLE = ClientHello()


def read_client_hello(data: bytes) -> ClientHello | None:
    """The hello in the first record of what a client has sent; None as long as more of it is to come."""
    if len(data) < _RECORD_HEADER:
        return None
    size = int.from_bytes(data[3:5], "big")
    if data[0] != _HANDSHAKE or size > _RECORD_SIZE_MAX:
        return _UNREADABLE
    if len(data) < _RECORD_HEADER + size:
        return None
    record = data[_RECORD_HEADER : _RECORD_HEADER + size]
    if record[:1] != bytes([_CLIENT_HELLO]) or len(record) < _HELLO_HEADER + int.from_bytes(record[1:4], "big"):
        return _UNREADABLE
    try:
        return _read(record[_HELLO_HEADER : _HELLO_HEADER + int.from_bytes(record[1:4], "big")])
    except _CutShortError:
        return _UNREADABLE


class _CutShortError(Exception):
    """A length goes beyond what is there."""


def _read(hello: bytes) -> ClientHello:
    _, rest = _vector(hello[_FIXED_SIZE:], 1)  # session id
    _, rest = _vector(rest, 2)  # cipher suites
    _, rest = _vector(rest, 1)  # compression methods
    extensions, _ = _vector(rest, 2)
    name, protocols = b"", tuple[bytes, ...]()
    while extensions:
        kind = int.from_bytes(extensions[:2], "big")
        content, extensions = _vector(extensions[2:], 2)
        if kind == _SERVER_NAME:
            name = _host_name(content)
        elif kind == _ALPN:
            offered, _ = _vector(content, 2)
            protocols = tuple(_vectors(offered, 1))
    return ClientHello(name, protocols)


def _host_name(content: bytes) -> bytes:
    """RFC 6066 §3: a list of names, each behind its kind, of which there is but one: 0, a host's."""
    names, _ = _vector(content, 2)
    return _vector(names[1:], 2)[0] if names[:1] == b"\0" else b""


def _vector(data: bytes, width: int) -> tuple[bytes, bytes]:
    """What stands behind its length (RFC 8446 §3.4), of so many bytes, and the rest."""
    size = int.from_bytes(data[:width], "big")
    if len(data) < width + size:
        raise _CutShortError
    return data[width : width + size], data[width + size :]


def _vectors(data: bytes, width: int) -> Iterator[bytes]:
    while data:
        one, data = _vector(data, width)
        yield one
