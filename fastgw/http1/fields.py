"""Header fields as lines of bytes: which ones concern this hop alone, and how to take them out.

A head that llhttp has accepted has one form: each CRLF begins a line `name:value`, with no space before the colon,
no folding and no stray CR or LF. So the fields that the gateway has to see are found, and taken out, by one regular
expression over the whole head, and the others pass as they stand without ever becoming Python objects.

What goes (RFC 9110 §7.6.1): the fields about this connection, those that `Connection` names, and those that the
gateway says itself (who forwarded for whom, the request's id). A spelling with `_` for `-` is the same field to a
CGI or WSGI backend, so it goes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# What a field is to the parser.
UNUSUAL = -1  # spelled in a way that has to be looked at
DROP = 0
HOST = 1
CONNECTION = 2
CONTENT_LENGTH = 3
TRANSFER_ENCODING = 4
UPGRADE = 5
EXPECT = 6
REQUEST_ID = 7
FORWARDED_FOR = 8
FORWARDED_PROTO = 9
FORWARDED_HOST = 10
FORWARDED_OTHER = 11
PROXY_CONNECTION = 12
TRACE = 13

_REQUEST_KINDS = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"x-request-id": REQUEST_ID,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-forwarded-host": FORWARDED_HOST,
    b"x-forwarded-port": FORWARDED_OTHER,
    b"x-forwarded-server": FORWARDED_OTHER,
    b"x-forwarded-prefix": FORWARDED_OTHER,
    b"x-forwarded-ssl": FORWARDED_OTHER,
    b"x-forwarded-scheme": FORWARDED_OTHER,
    b"x-real-ip": FORWARDED_OTHER,
    b"forwarded": FORWARDED_OTHER,
    b"keep-alive": DROP,
    b"proxy-connection": PROXY_CONNECTION,
    b"proxy-authorization": DROP,
    b"te": DROP,
}
_RESPONSE_KINDS = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"x-request-id": DROP,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
}
# RFC 9110 §6.5.1: what frames, routes, or steers a message is no trailer.
_TRAILER_KINDS = (
    {**_REQUEST_KINDS, **_RESPONSE_KINDS}
    | dict.fromkeys((b"authorization", b"cookie", b"set-cookie", b"content-encoding", b"content-type"), DROP)
    | dict.fromkeys((b"content-range", b"trailer", b"cache-control", b"te", b"max-forwards"), DROP)
    # Nor does a client say there who it is.
    | dict.fromkeys((b"client-cert", b"client-cert-chain", b"x-client-cert-subject", b"x-client-cert-san"), DROP)
    | dict.fromkeys((b"x-client-cert-fingerprint", b"x-client-cert-verify"), DROP)
)


def spellings(kinds: dict[bytes, int]) -> dict[bytes, int]:
    """The kinds by the spellings that are met: all lower, all upper, and Capitalized-Words."""
    known: dict[bytes, int] = {}
    for name, kind in kinds.items():
        for spelling in (name, name.upper(), name.title()):
            known[spelling] = kind
    return known


def _one_of(names: Iterable[bytes]) -> bytes:
    # Told apart by the first letter, which the engine does without trying each alternative; ignoring case from
    # the start would cost twice as much.
    by_letter: dict[bytes, list[bytes]] = {}
    for name in names:
        by_letter.setdefault(name[:1], []).append(re.escape(name[1:]).replace(rb"\-", b"[-_]"))
    groups = []
    for letter, rests in sorted(by_letter.items()):
        groups.append(b"[%b%b](?i:%b)" % (letter.upper(), letter, b"|".join(rests)))
    letters = b"".join(by_letter)
    return b"(?=[%b%b])(?:%b)" % (letters, letters.upper(), b"|".join(groups))


def special(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Splits a head into [text, name, value, text, name, value, …, text] at the named fields."""
    return re.compile(rb"\r\n(" + _one_of(names) + rb"):[ \t]*([^\r]*)")


RESPONSE_SPECIAL = special(_RESPONSE_KINDS)
TRAILER_SPECIAL = special(_TRAILER_KINDS)
RESPONSE_SPELLINGS = spellings(_RESPONSE_KINDS)


class RequestTable:
    """The fields of requests that do not pass as they stand. `split` as `special` says."""

    __slots__ = ("_kinds", "spellings", "split")

    def __init__(self, kinds: dict[bytes, int]) -> None:
        self._kinds = kinds
        self.spellings = spellings(kinds)
        self.split = special(kinds).split

    def kind(self, name: bytes) -> int:
        """The kind of a field in an unusual spelling; one with `_` is never taken at its word."""
        return self._kinds.get(name.lower(), DROP)


@lru_cache(maxsize=16)
def request_table(trace_names: tuple[bytes, ...] = ()) -> RequestTable:
    """The table in which these names, lower-case, are fields that speak of a trace; the same one for the same names."""
    return RequestTable(_REQUEST_KINDS | dict.fromkeys(trace_names, TRACE))


REQUESTS = request_table()


def response_kind(name: bytes) -> int:
    return _RESPONSE_KINDS.get(name.lower(), DROP)


_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def is_token(text: bytes) -> bool:
    """Whether it could be a method or a field's name, or the start of one (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, lower-case (RFC 9110 §5.6.1)."""
    return [token for token in (part.strip(b" \t").lower() for part in value.split(b",")) if token]


def without(fields: bytes, names: list[bytes]) -> bytes:
    """The lines of `fields` but those named (lower-case)."""
    if not fields:
        return fields
    kept = [b""]
    for line in fields.split(b"\r\n")[1:]:
        if line[: line.find(b":")].lower() not in names:
            kept.append(line)
    return b"\r\n".join(kept)


@lru_cache(maxsize=1024)
def finder(name: bytes) -> re.Pattern[bytes]:
    """Finds a field's values in a head; `name` comes from the configuration, so there are few."""
    return re.compile(rb"\r\n(?i:" + re.escape(name) + rb"):[ \t]*([^\r]*)")


def cookie(head: bytes, name: bytes) -> bytes | None:
    """The first cookie of that name (RFC 6265 §5.4), or None."""
    for line in values(head, b"cookie"):
        for pair in line.split(b";"):
            key, mark, value = pair.partition(b"=")
            if mark and key.strip() == name:
                return value.strip().strip(b'"')
    return None


def values(head: bytes, name: bytes) -> list[bytes]:
    """All values of a field, in order, without the white space around them."""
    return [value.rstrip(b" \t") for value in finder(name).findall(head)]
