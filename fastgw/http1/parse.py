"""From a head's bytes to a `RequestHead`, or to the failure that answers it.

llhttp (through httptools) judges the syntax: methods, targets, field names and values, line ends, lengths. It is given
whole heads only, so that one parser serves all the connections of a worker. What it lets pass and RFC 9112 does not,
or what two parsers could read differently, is refused here: HTTP/0.9 and unknown versions, loose white space in the
request line, no Host or two, any transfer coding but `chunked`, transfer codings in HTTP/1.0.
Bodies are no business of this file: `framing` of a body is decided here, and read by whoever carries it.
"""

from __future__ import annotations

import re

import httptools

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1 import fields as f
from fastgw.http1.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    FORWARDED_FOR,
    HOST,
    PROXY_CONNECTION,
    REQUEST_ID,
    TRACE,
    TRANSFER_ENCODING,
    UNUSUAL,
    RequestTable,
)
from fastgw.http1.message import CHUNKED, LENGTH, RequestHead
from fastgw.http1.target import normalize_path, parse_host, split_absolute

# RFC 9110 §8.6 sets no bound; more digits than these do not fit into what backends count with.
LENGTH_DIGITS_MAX = 18
_HASH = ord("#")
_SLASH = ord("/")
KEEP_ALIVE = frozenset((b"keep-alive", b"Keep-Alive"))
# Connection's options that name no header field.
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
# RFC 9112 §3: what is a request line in another version, or of a method that llhttp does not know.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ ]+ HTTP/[0-9]\.[0-9]")
# The usual request line: nothing in it that would have to be judged, or that belongs to another form of the target.
_PLAIN_LINE = re.compile(rb"([A-Z]+) (/[!\"$->@-\[\]-~]*)(\?[!\"$-~]*)? HTTP/1\.1")
# RFC 9112 §2.2: what no head may hold, an LF without CR or a CR without LF. A CR at the end may still get its LF.
STRAY_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
# Protocols that carry HTTP themselves: through a tunnel, a client would speak past the gateway's rules.
_CARRIES_HTTP = re.compile(rb"(?i)(?:^|[, \t])(?:h2c|http|tls)(?:$|[/, \t])")
# Each connection keeps the last head that may be repeated, so a larger one is parsed each time instead.
_REPEATABLE_MAX = 2048
# A client that asks for more options than this wants something else (each costs a pass over the head).
_CONNECTION_OPTIONS_MAX = 16


class _NoCallbacks:
    """httptools calls back only what it finds here: nothing."""


NOTHING = _NoCallbacks()
END = b"\r\n\r\n"


class RequestParser:
    """Parses request heads, one whole head at a time. `trace_names` are the fields that speak of traces, lower-case."""

    __slots__ = ("_llhttp", "_table")

    def __init__(self, trace_names: tuple[bytes, ...] = ()) -> None:
        self._table = f.request_table(trace_names)
        self._llhttp = httptools.HttpRequestParser(NOTHING)

    def parse(
        self, head: bytes, target_size: int, header_count: int, earlier: RequestHead | None = None
    ) -> RequestHead | Failure:
        """`head` is all before the CRLF CRLF; `target_size` (bytes) and `header_count` are the most it may have.

        `earlier` is a request of the same connection that may be repeated (its `lines` are set).
        """
        if earlier is not None and earlier.table is self._table:
            repeated = _repeated(head, target_size, earlier)
            if repeated is not None:
                return repeated
        try:
            self._llhttp.feed_data(head + END)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # An upgrade, or something wrong. A parser that has seen nothing else judges: no client may be refused for
            # what another sent.
            self._llhttp = httptools.HttpRequestParser(NOTHING)
            failure = _judge(head)
            if failure is not None:
                return failure
        request = _read_request(head, target_size, header_count, self._table)
        # llhttp is at the start of the next message unless a body or the end of the connection follows.
        if isinstance(request, Failure) or request.body or not request.keep_alive or request.minor == 0:
            self._llhttp = httptools.HttpRequestParser(NOTHING)
        return request


def _repeated(head: bytes, target_size: int, earlier: RequestHead) -> RequestHead | None:
    """The request, when its header lines are the earlier one's to the byte, as those of most clients are.

    They have been judged then, and what they say does not depend on a request line of the same method and version.
    """
    lines = earlier.lines
    line_size = len(head) - len(lines)
    if line_size > target_size or not head.endswith(lines):
        return None
    found = _PLAIN_LINE.fullmatch(head, 0, line_size)
    if found is None:
        return None
    method, target, query = found.groups(b"")
    path = normalize_path(target)
    if method != earlier.method or path is None:
        return None
    return earlier.repeated(head, path, query)


def _judge(head: bytes) -> Failure | None:
    try:
        httptools.HttpRequestParser(NOTHING).feed_data(head + END)
    except httptools.HttpParserUpgrade:
        # llhttp takes CONNECT for one.
        return errors.CONNECT_REFUSED if head.startswith(b"CONNECT ") else None
    except httptools.HttpParserError as error:
        return _refusal(error, head)
    return None


def _refusal(error: httptools.HttpParserError, head: bytes) -> Failure:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return errors.METHOD_UNKNOWN if _has_request_line(head) else errors.MALFORMED
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return errors.BAD_TARGET
    words = str(error)
    if "Content-Length" in words or "Transfer-Encoding" in words:
        return errors.BAD_FRAMING
    if words.startswith(("Invalid HTTP version", "Invalid major", "Invalid minor")):
        return errors.VERSION_UNKNOWN if _has_request_line(head) else errors.MALFORMED
    return errors.MALFORMED


def _has_request_line(head: bytes) -> bool:
    return _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0]) is not None


def _read_request(head: bytes, target_size: int, header_count: int, table: RequestTable) -> RequestHead | Failure:
    pieces = table.split(head)
    line, mark, others = pieces[0].partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3:
        return errors.MALFORMED
    method, target, version = words
    if version == b"HTTP/1.1":
        request = RequestHead(head, method, 1, table)
    elif version == b"HTTP/1.0":
        request = RequestHead(head, method, 0, table)
    else:
        return errors.VERSION_UNKNOWN if _has_request_line(head) else errors.MALFORMED
    if method[0] < 0x41:
        # RFC 9112 §2.2: llhttp skips a bare CR or LF before the method, and others take it for a part of it.
        return errors.MALFORMED
    if len(target) > target_size:
        return errors.TARGET_TOO_LONG
    # A line takes four bytes at least, so most heads need no counting.
    if len(head) > header_count * 4 and head.count(b"\n") > header_count:
        return errors.TOO_MANY_HEADERS
    failure = _read_specials(request, pieces)
    if failure is not None:
        return failure
    pieces[0] = mark + others
    request.fields = b"".join(pieces[::3])
    if request.hop_names is not None:
        request.fields = f.without(request.fields, request.hop_names)
        request.trace_lines = f.without(request.trace_lines, request.hop_names)
    if target[0] != _SLASH:
        unusual = _read_unusual_target(request, target)
        if isinstance(unusual, Failure):
            return unusual
        target = unusual
    plain, mark, query = target.partition(b"?")
    if mark:
        if _HASH in query:
            return errors.BAD_TARGET
        request.query = mark + query
    path = normalize_path(plain)
    if path is None:
        return errors.BAD_TARGET
    request.path = path
    if request.host or request.minor:
        name = parse_host(request.host)
        if name is None:
            return errors.BAD_HOST
        request.host_name = name
    if request.minor and not request.scheme and len(head) <= _REPEATABLE_MAX:
        request.lines = head[len(line) :]
    return request


def _read_specials(request: RequestHead, pieces: list[bytes]) -> Failure | None:
    """Reads the fields of this hop into the request."""
    hosts = 0
    options = b""
    spellings = request.table.spellings
    for index in range(1, len(pieces), 3):
        name, value = pieces[index], pieces[index + 1]
        kind = spellings.get(name, UNUSUAL)
        if kind == HOST:
            hosts += 1
            request.host = value.rstrip(b" \t")
        elif kind != CONNECTION or value not in KEEP_ALIVE or request.minor == 0:
            if kind == UNUSUAL:
                kind = request.table.kind(name)
                hosts += kind == HOST
            if kind == CONNECTION:
                options += b"," + value
            elif kind == PROXY_CONNECTION:
                # llhttp takes it for Connection (RFC 9112 §C.2.2): where it says `close`, nothing may follow.
                options += b",close" if b"close" in f.tokens(value) else b""
            else:
                failure = _read_special(request, kind, name, value)
                if failure is not None:
                    return failure
    if options:
        failure = _read_connection(request, options)
        if failure is not None:
            return failure
    if hosts != 1 and (hosts > 1 or request.minor == 1):
        # RFC 9112 §3.2; HTTP/1.0 clients may leave it out.
        return errors.BAD_HOST
    if request.upgrade:
        # RFC 9110 §7.8: an Upgrade that Connection does not name is ignored, as HTTP/1.0's is.
        asked = b", ".join(f.values(request.raw, b"upgrade"))
        request.upgrade = asked if request.minor == 1 and _CARRIES_HTTP.search(asked) is None else b""
    return None


def _read_special(request: RequestHead, kind: int, name: bytes, value: bytes) -> Failure | None:
    value = value.rstrip(b" \t")
    if kind == CONTENT_LENGTH:
        # llhttp has seen to it that there is one, of digits.
        digits = value.lstrip(b"0")
        if len(digits) > LENGTH_DIGITS_MAX:
            return errors.BODY_TOO_LARGE
        request.body = LENGTH
        request.content_length = int(digits or b"0")
    elif kind == TRANSFER_ENCODING:
        return _read_codings(request, value)
    elif kind == EXPECT:
        # RFC 9110 §10.1.1: an HTTP/1.0 client's expectation is ignored.
        request.expects_continue = request.minor == 1
        return errors.BAD_EXPECTATION if request.minor == 1 and value.lower() != b"100-continue" else None
    elif kind == REQUEST_ID:
        request.request_id = value
    elif kind == HOST:
        request.host = value
    elif kind == TRACE:
        request.trace_lines += b"\r\n%b: %b" % (name, value)
    elif kind >= FORWARDED_FOR:
        request.forwarded = [*(request.forwarded or ()), (kind, b"%b: %b" % (name, value))]
    return None


def _read_codings(request: RequestHead, value: bytes) -> Failure | None:
    """RFC 9112 §6.1: no transfer codings in HTTP/1.0; §6.3: the last, and here the only one, is chunked."""
    if request.minor == 0 or request.body == CHUNKED:
        return errors.BAD_FRAMING
    request.body = CHUNKED
    if value.lower() == b"chunked":
        return None
    codings = [coding.strip(b" \t").lower() for coding in value.split(b",")]
    is_clear = codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and b"" not in codings
    return errors.CODING_UNKNOWN if is_clear else errors.BAD_FRAMING


def _read_connection(request: RequestHead, value: bytes) -> Failure | None:
    """Connection's options (RFC 9110 §7.6.1), those of all its lines."""
    options = f.tokens(value)
    if len(options) > _CONNECTION_OPTIONS_MAX:
        return errors.MALFORMED
    # RFC 9112 §9.3: `close` wins, whatever the order, and on whichever line.
    request.keep_alive = b"close" not in options and (request.minor == 1 or b"keep-alive" in options)
    if b"upgrade" in options:
        request.upgrade = b"upgrade"
    named = [option for option in options if option not in _OPTIONS]
    if named:
        request.hop_names = named
    return None


def _read_unusual_target(request: RequestHead, target: bytes) -> bytes | Failure:
    """The forms of RFC 9112 §3.2 but the origin-form: sets the host, and gives the path and query."""
    if target == b"*":
        # §3.2.4: asterisk-form is for OPTIONS alone.
        return target if request.method == b"OPTIONS" else errors.BAD_TARGET
    split = split_absolute(target)
    if split is None or not split[0]:
        return errors.BAD_TARGET
    if request.minor == 1 and parse_host(request.host) is None:
        # §3.2: Host must be right all the same.
        return errors.BAD_HOST
    # §3.2.2: the authority in the target replaces Host.
    request.scheme = b"https" if target[4:5] in (b"s", b"S") else b"http"
    request.host, rest = split
    if request.method == b"OPTIONS" and rest == b"/" and target.endswith(request.host):
        # §3.2.4: no path at all stands for the asterisk-form.
        return b"*"
    return rest
