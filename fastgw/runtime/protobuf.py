"""As much of the wire format of Protocol Buffers as exporting needs: https://protobuf.dev/programming-guides/encoding/

A field is what each function for writing returns; a message is its fields, one behind the other. Whole numbers are not
negative.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_SIZE_OF_FIXED = {_FIXED_64: 8, _FIXED_32: 4}
_UINT_64, _UINT_32 = Struct("<Q"), Struct("<I")
# Seven bits in each; a number has 64.
_VARINT_SIZE_MAX = 10


def _varint(value: int) -> bytes:
    """Its bits, the least ones first; all bytes but the last have the eighth bit set."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


@lru_cache(4096)
def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


@lru_cache(4096)
def _beginning(field: int, size: int) -> bytes:
    return _tag(field, _LENGTH) + _varint(size)


def number(field: int, value: int) -> bytes:
    """Of the types int64, uint32, bool and enum."""
    return _tag(field, _VARINT) + _varint(value)


def fixed_64(field: int, value: int) -> bytes:
    return _tag(field, _FIXED_64) + _UINT_64.pack(value)


def fixed_32(field: int, value: int) -> bytes:
    return _tag(field, _FIXED_32) + _UINT_32.pack(value)


def data(field: int, value: bytes) -> bytes:
    """Of the types bytes and string, which has to be UTF-8, and of messages within a message."""
    return _beginning(field, len(value)) + value


def parse(message: bytes) -> dict[int, int | bytes]:
    """What a message says, by the fields' numbers; of a field that is there more than once, the last.

    Raises ValueError for what is no message.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _parse_varint(message, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            found[tag >> 3], at = _parse_varint(message, at)
            continue
        if wire_type == _LENGTH:
            size, at = _parse_varint(message, at)
        elif wire_type in _SIZE_OF_FIXED:
            size = _SIZE_OF_FIXED[wire_type]
        else:
            raise ValueError(f"there is no type {wire_type} of fields")
        if at + size > len(message):
            raise ValueError("the message ends within a field")
        found[tag >> 3] = message[at : at + size]
        at += size
    return found


def _parse_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for position, byte in enumerate(message[at : at + _VARINT_SIZE_MAX]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number has no end")
