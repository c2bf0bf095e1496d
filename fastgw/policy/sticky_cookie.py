"""The cookie that brings a client back to the same endpoint, or to the same arm of a split (RFC 6265).

As HAProxy's `insert indirect nocache`: it is set when the client has none that leads to whoever has answered; the
upstream never sees it; and an answer that sets it is for one client, so no shared cache may keep it. What a token is,
`sticky` says; whether the endpoint can be taken, the pool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fastgw.http1 import fields as field_lines
from fastgw.policy.sticky import StickyTokens

_COOKIE_LINE = re.compile(rb"\r\n(?i:cookie):([^\r]*)")
# RFC 9111 §5.2.2.7: an answer to one client; an explicit max-age or public is no match for it (§3).
_PRIVATE = b"\r\nCache-Control: private"
_UNSHARED = frozenset((b"private", b"no-store"))
# Most clients send the same header lines with each request, and looking for a cookie in them costs 2 µs. What is known
# of so many is kept, if they are no longer than this: 4 MB at the most, and that only where somebody is after it.
_REMEMBERED_MAX = 512
_REMEMBERED_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class StickySettings:
    """`attributes` are those of Set-Cookie, each begun by "; ". The first of the secrets signs."""

    cookie: bytes
    secrets: tuple[bytes, ...] = field(repr=False)
    attributes: bytes


class StickyCookie:
    """The cookie for `names`, which a client knows by their places in it."""

    __slots__ = ("_name", "_remembered", "_set_lines", "_tokens")

    def __init__(self, settings: StickySettings, names: tuple[str, ...], scope: str) -> None:
        self._name = settings.cookie
        # By header lines.
        self._remembered: dict[bytes, tuple[bytes | None, bytes]] = {}
        self._tokens = StickyTokens(names, settings.secrets, scope)
        self._set_lines = [
            b"\r\nSet-Cookie: %b=%b%b" % (settings.cookie, token, settings.attributes) for token in self._tokens.tokens
        ]

    @property
    def name(self) -> bytes:
        return self._name

    def place(self, value: bytes | None) -> int:
        """Where the client's cookie leads; -1: nowhere."""
        if value is None:
            return -1
        place = self._tokens.endpoint_of(value)
        return -1 if place is None else place

    def line(self, place: int, value: bytes | None) -> bytes:
        """The header line for a client whose cookie has that value, when `place` has answered: empty if it leads
        there already. One that an old secret has signed is replaced while that is still known."""
        return b"" if value == self._tokens.tokens[place] else self._set_lines[place]

    def taken(self, fields: bytes) -> tuple[bytes | None, bytes]:
        """The cookie's value in a request's header lines, None if they have none, and the lines without it."""
        found = self._remembered.get(fields)
        if found is None:
            found = (field_lines.cookie(fields, self._name), _COOKIE_LINE.sub(self._without, fields))
            if len(fields) <= _REMEMBERED_BYTES_MAX:
                if len(self._remembered) >= _REMEMBERED_MAX:
                    self._remembered.clear()
                self._remembered[fields] = found
        return found

    def _without(self, found: re.Match[bytes]) -> bytes:
        pairs = found[1].split(b";")
        kept = [pair for pair in pairs if pair.partition(b"=")[0].strip() != self._name]
        if len(kept) == len(pairs):
            return found[0]
        value = b";".join(kept).strip()
        return b"\r\nCookie: " + value if value else b""


def for_one_client(fields: bytes) -> bytes:
    """The header lines of an answer that sets a cookie, with those that keep it out of shared caches."""
    for value in field_lines.values(fields, b"cache-control"):
        if _UNSHARED & set(field_lines.tokens(value)):
            return fields
    return fields + _PRIVATE
