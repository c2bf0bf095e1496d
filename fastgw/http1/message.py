"""The heads of requests and answers, as the exchange sees them.

`fields` holds the end-to-end header lines, each begun by CRLF, ready to be joined into the next hop's head; the
fields of this hop (framing, connection, forwarding) have been taken out into attributes.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from fastgw.http1 import fields as field_lines
from fastgw.http1.fields import REQUESTS, RequestTable

# A piece of a body; a view where a copy would cost.
Data = bytes | memoryview

# How long a body is.
NO_BODY = 0
LENGTH = 1
CHUNKED = 2
UNTIL_CLOSE = 3


class RequestHead:
    """A request's head. `raw` is what came, for the few who look a field up; `minor` is 0 or 1 for HTTP/1.x.

    `scheme` is set when the target names one; `path` is normalized, of visible ASCII without a backslash; `query` is
    empty or begins with "?"; `upgrade` is the protocol asked for, or empty. `hop_names` are the fields that Connection
    names; `forwarded` is what the client said of those before it, as (kind, header line). `lines` are the header lines
    as they came, each begun by CRLF, where `repeated` may make a later request with the same lines from this one; else
    empty. `table` says what was taken out of `fields`; `trace_lines` are those that speak of a trace, each begun by
    CRLF.
    """

    __slots__ = (
        "body",
        "content_length",
        "expects_continue",
        "fields",
        "forwarded",
        "hop_names",
        "host",
        "host_name",
        "keep_alive",
        "lines",
        "method",
        "minor",
        "path",
        "query",
        "raw",
        "request_id",
        "scheme",
        "table",
        "trace_lines",
        "upgrade",
    )

    def __init__(self, raw: bytes = b"", method: bytes = b"", minor: int = 1, table: RequestTable = REQUESTS) -> None:
        self.raw = raw
        self.table = table
        self.lines = b""
        self.method = method
        self.minor = minor
        self.path = b"/"
        self.query = b""
        self.host = b""
        self.host_name = b""
        self.fields = b""
        self.body = NO_BODY
        self.content_length = 0
        self.keep_alive = minor == 1
        self.expects_continue = False
        self.upgrade = b""
        self.request_id = b""
        self.scheme = b""
        self.trace_lines = b""
        self.hop_names: list[bytes] | None = None
        self.forwarded: list[tuple[int, bytes]] | None = None

    def repeated(self, raw: bytes, path: bytes, query: bytes) -> RequestHead:
        """The head of a request that differs from this one in path and query alone."""
        # Not through __init__, which would set most of them twice: this is for every request of a busy client. (Where
        # the class is compiled, __new__ calls __init__, so that needs no arguments.)
        other = RequestHead.__new__(RequestHead)
        other.raw = raw
        other.lines = b""
        other.method = self.method
        other.minor = self.minor
        other.path = path
        other.query = query
        other.scheme = b""
        other.host = self.host
        other.host_name = self.host_name
        other.fields = self.fields
        other.body = self.body
        other.content_length = self.content_length
        other.keep_alive = self.keep_alive
        other.expects_continue = self.expects_continue
        other.upgrade = self.upgrade
        other.request_id = self.request_id
        other.table = self.table
        other.trace_lines = self.trace_lines
        other.hop_names = self.hop_names
        other.forwarded = self.forwarded
        return other

    def copied(self) -> RequestHead:
        other = self.repeated(self.raw, self.path, self.query)
        other.lines = self.lines
        other.scheme = self.scheme
        return other

    def header(self, name: bytes) -> bytes | None:
        """The values of a field, joined by commas (RFC 9110 §5.3), or None."""
        found = field_lines.values(self.raw, name)
        return b", ".join(found) if found else None

    def query_value(self, name: bytes) -> bytes | None:
        """The first value of a query parameter, percent-decoded, or None."""
        for pair in self.query[1:].split(b"&"):
            key, _, value = pair.partition(b"=")
            if _unquote(key) == name:
                return _unquote(value)
        return None

    def cookie(self, name: bytes) -> bytes | None:
        """The first cookie of that name (RFC 6265 §5.4), or None."""
        return field_lines.cookie(self.raw, name)


class ResponseHead:
    """An answer's head. `line` is its status line, in the form that HTTP/1.1 clients get; `dated`: it has a Date."""

    __slots__ = ("body", "content_length", "dated", "fields", "hop_names", "keep_alive", "line", "status", "upgrade")

    def __init__(self, line: bytes, status: int) -> None:
        self.line = line
        self.status = status
        self.fields = b""
        self.body = UNTIL_CLOSE
        self.content_length = -1
        self.keep_alive = True
        self.dated = False
        self.upgrade = b""
        self.hop_names: list[bytes] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The last value of a field that has but one, or None."""
        found = field_lines.values(self.fields, name)
        return found[-1] if found else None


def _unquote(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
