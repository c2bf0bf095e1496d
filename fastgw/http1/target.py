"""Request targets and hosts: what is matched is what is forwarded.

Decides the one form of a path (RFC 3986 §6.2.2): percent-encoded unreserved characters decoded, the others' hex
digits upper-case, dot segments resolved, runs of slashes merged. An encoded slash stays encoded and inside its
segment; an encoded NUL, a backslash, a broken percent-encoding and a path that climbs above the root are refused.
Queries pass as they came.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

_BACKSLASH, _HASH, _PERCENT_SIGN, _DOT = b"\\#%."
_PERCENT = re.compile(rb"%(..)?", re.DOTALL)
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# RFC 3986 §3.2.2 reg-name without its percent-encoding, which no host name needs; underscores are met in practice.
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?)(?::([0-9]{1,5})?)?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)

# Distinct Host values that are remembered; a client that invents more only pays for its own.
_HOSTS_REMEMBERED = 4096
# 253 characters of name, and a port.
_HOST_LENGTH_MAX = 260


def normalize_path(path: bytes) -> bytes | None:
    """The one form of an absolute path, or None when it is refused."""
    # Single bytes are looked for by their number: `in` takes a bytes operand for a number first, and `find` parses
    # its arguments through a format; each costs more than the search.
    if _BACKSLASH in path or _HASH in path:
        return None
    if _PERCENT_SIGN in path:
        decoded = _normalize_escapes(path)
        if decoded is None:
            return None
        path = decoded
    if _DOT in path or path.partition(b"//")[1]:
        return _resolve_dots(path)
    return path


def _normalize_escapes(path: bytes) -> bytes | None:
    out = bytearray()
    position = 0
    for found in _PERCENT.finditer(path):
        digits = found.group(1)
        if digits is None or _HEX.fullmatch(digits) is None:
            return None
        code = int(digits, 16)
        # NUL ends a string for some backends; a backslash is a slash for others.
        if code in (0, _BACKSLASH):
            return None
        out += path[position : found.start()]
        if code in _UNRESERVED:
            out.append(code)
        else:
            out += b"%" + digits.upper()
        position = found.end()
    out += path[position:]
    return bytes(out)


def _resolve_dots(path: bytes) -> bytes | None:
    segments: list[bytes] = []
    parts = path.split(b"/")[1:]
    last = len(parts) - 1
    for index, part in enumerate(parts):
        if part == b"..":
            if not segments:
                return None
            segments.pop()
        elif part.startswith((b".;", b"..;")):
            # Tomcat and others take a segment's parameters off before they look for dots.
            return None
        elif part not in (b"", b"."):
            segments.append(part)
            continue
        if index == last:
            segments.append(b"")
    return b"/" + b"/".join(segments)


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def parse_host(value: bytes) -> bytes | None:
    """The name in a Host header, lower-case, without port and final dot; None when it is not one (RFC 9110 §7.2)."""
    if len(value) > _HOST_LENGTH_MAX:
        return None
    found = _AUTHORITY.fullmatch(value)
    if found is None or (found.group(2) and int(found.group(2)) > 65535):
        return None
    name = found.group(1).lower()
    if name[0] == 0x5B and not _is_ipv6(name[1:-1]):
        return None
    if name.endswith(b".") and len(name) > 1:
        name = name[:-1]
    return name


def _is_ipv6(text: bytes) -> bool:
    try:
        IPv6Address(text.decode())
    except ValueError:
        return False
    return True


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """The authority and the origin-form of an absolute-form target (RFC 9112 §3.2.2); None when it is not one."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return None
    authority, rest = found.group(1), found.group(2)
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return authority, rest
