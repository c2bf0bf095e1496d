"""What must not stand in a log in clear: values of query parameters and of header fields that are credentials.

Names are told apart as backends do at their most lenient: percent-decoded, without regard to case, `-` as `_`, and
`user[password]` and `user.password` by each of their parts. A value may hold a URL in turn, encoded once more, such as
the one to go back to after a login; its parameters are hidden alike, and in all URLs the user and the password before
the host. What is hidden is replaced by one word, the one of Kong's log plugins; where it
ends is judged so that rather too much is hidden than too little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

WORD = b"REDACTED"

# RFC 6749 and 6750, SAML, signed URLs (of S3, Google and Azure), and what everybody calls such things. Not `code` and
# `key`, which are mostly something else.
QUERY_NAMES = (
    *("access_token", "api_key", "apikey", "assertion", "auth_token", "authorization", "client_assertion"),
    *("client_secret", "id_token", "jsessionid", "jwt", "passwd", "password", "phpsessid", "pwd", "refresh_token"),
    *("samlresponse", "secret", "session_id", "sessionid", "session_token", "sig", "signature", "token"),
    *("x_amz_security_token", "x_amz_signature", "x_goog_signature"),
)
# Lower-case.
HEADER_NAMES = (
    *("api-key", "apikey", "authorization", "cookie", "private-token", "proxy-authorization", "set-cookie"),
    *("x-access-token", "x-amz-security-token", "x-api-key", "x-auth-token", "x-csrf-token", "x-session-token"),
    *("x-vault-token", "x-xsrf-token"),
)

# Where a parameter's name begins: older backends split at semicolons, too, and a fragment may hold an answer of OAuth's
# implicit grant.
_NAME = re.compile(rb"[?&;#]([^=&;#?]*)=")
_VALUE_END = re.compile(rb"[&#]|\Z")
# The same in a URL that is a value.
_INNER_NAME = re.compile(rb"%(?:3[Ff]|26|3[Bb]|23)((?:(?!%(?:3[BbDdFf]|26|23))[^=&;#?])*)%3[Dd]")
_INNER_VALUE_END = re.compile(rb"[&#]|%26|%23|\Z")
# What stands before a host, up to the last "@" as browsers read it.
_USER = re.compile(rb"(//)[^/?#\s]+(@)|(%2[Ff]%2[Ff])(?:(?!%2[Ff])[^/?#&\s])+(%40)")
_AT, _PERCENT = b"@%"
_NAME_PARTS = re.compile(rb"[\[\].]+")


@dataclass(frozen=True, slots=True)
class RedactionSettings:
    """The names that are hidden; parameters' as `plain_name` makes them, headers' in lower-case."""

    query: frozenset[bytes] = frozenset(name.encode() for name in QUERY_NAMES)
    headers: frozenset[bytes] = frozenset(name.encode() for name in HEADER_NAMES)


class Redaction:
    """Hides the values of one set of names."""

    __slots__ = ("_finds", "_headers", "_names")

    def __init__(self, settings: RedactionSettings) -> None:
        self._names = settings.query
        self._headers = settings.headers
        self._finds = _suspicions(settings.query).search

    def url(self, text: bytes) -> bytes:
        """A URL or a part of it, with the values of its parameters hidden where they have to be."""
        is_encoded = _PERCENT in text
        if (_AT in text and b"//" in text) or (is_encoded and b"%40" in text):
            text = _USER.sub(rb"\1\3%b\2\4" % WORD, text)
        # One look finds nothing in nearly all of them.
        if self._finds(text) is not None:
            text = self._redacted(text, _NAME, _VALUE_END)
        if is_encoded and (b"%3D" in text or b"%3d" in text):
            text = self._redacted(text, _INNER_NAME, _INNER_VALUE_END)
        return text

    def hides_header(self, name: bytes) -> bool:
        """`name` in lower-case."""
        return name in self._headers

    def hides_parameter(self, name: bytes) -> bool:
        return plain_name(name) in self._names

    def _redacted(self, text: bytes, names: re.Pattern[bytes], value_end: re.Pattern[bytes]) -> bytes:
        parts = []
        at = 0
        for found in names.finditer(text):
            if found.start() >= at and self._is_hidden(found[1]):
                parts += [text[at : found.end()], WORD]
                end = value_end.search(text, found.end())
                at = end.start() if end is not None else len(text)
        return b"".join((*parts, text[at:]))

    def _is_hidden(self, written: bytes) -> bool:
        name = unquote_to_bytes(written)
        if b"%" in name:
            name = unquote_to_bytes(name)
        name = plain_name(name)
        return name in self._names or not self._names.isdisjoint(_NAME_PARTS.split(name))


def plain_name(name: bytes) -> bytes:
    """One spelling of a parameter's name for all that mean the same."""
    return name.replace(b"+", b" ").strip().lower().replace(b"-", b"_")


def _suspicions(names: frozenset[bytes]) -> re.Pattern[bytes]:
    """Finds what may have to be hidden: one of the names as it is, or a name that has to be decoded first."""
    if not names:
        return re.compile(rb"(?!)")
    letters = b"".join(sorted({letter for name in names for letter in (name[:1], name[:1].upper())}))
    plain = b"|".join(re.escape(name).replace(b"_", b"[-_]") for name in sorted(names))
    # Told apart by the first letter, which the engine does without trying each of them.
    return re.compile(rb"[?&;#](?:(?=[%b])(?i:%b)=|[^=&;#%%+\[.]*+[%%+\[.][^=&;#]*+=)" % (re.escape(letters), plain))
