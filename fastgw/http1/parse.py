"""From a head's bytes to a `RequestHead` or `ResponseHead`, or to the failure that answers it.

llhttp (through httptools) judges the syntax: methods, targets, field names and values, line ends, lengths. It is given
whole heads only, so that one parser serves all the connections of a worker. What it lets pass and RFC 9112 does not,
or what two parsers could read differently, is refused here: HTTP/0.9 and unknown versions, loose white space in the
request line, no Host or two, any transfer coding but `chunked`, transfer codings in HTTP/1.0.
Bodies are no business of this file: `framing` of a body is decided here, and read by whoever carries it.
"""

from __future__ import annotations

import re
from functools import lru_cache

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
    TRANSFER_ENCODING,
    UNUSUAL,
    UPGRADE,
)
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, RequestHead, ResponseHead
from fastgw.http1.target import normalize_path, parse_host, split_absolute

# RFC 9110 §8.6 sets no bound; more digits than these do not fit into what backends count with.
_LENGTH_DIGITS_MAX = 18
_HASH = ord("#")
_SLASH = ord("/")
_KEEP_ALIVE = frozenset((b"keep-alive", b"Keep-Alive"))
# RFC 9112 §3: what is a request line in another version, or of a method that llhttp does not know.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ ]+ HTTP/[0-9]\.[0-9]")
# The usual request line: nothing in it that would have to be judged, or that belongs to another form of the target.
_PLAIN_LINE = re.compile(rb"([A-Z]+) (/[!\"$->@-\[\]-~]*)(\?[!\"$-~]*)? HTTP/1\.1")
# RFC 9112 §4, without the space behind the status that some servers leave out.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
# RFC 9112 §2.2: what no head may hold, an LF without CR or a CR without LF. A CR at the end may still get its LF.
STRAY_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
# Protocols that carry HTTP themselves: through a tunnel, a client would speak past the gateway's rules.
_CARRIES_HTTP = re.compile(rb"(?i)(?:^|[, \t])(?:h2c|http|tls)(?:$|[/, \t])")
# A client that asks for more options than this wants something else (each costs a pass over the head).
_CONNECTION_OPTIONS_MAX = 16
# A backend under load answers with the same few heads, to the byte, until its Date moves on.
_HEADS_REMEMBERED = 512
REMEMBERED_MAX = 2048


class _NoCallbacks:
    """httptools calls back only what it finds here: nothing."""


_NOTHING = _NoCallbacks()
_END = b"\r\n\r\n"
_split_request = f.REQUEST_SPECIAL.split
_SPELLINGS = f.REQUEST_SPELLINGS


class RequestParser:
    """Parses request heads, one whole head at a time."""

    __slots__ = ("_llhttp",)

    def __init__(self) -> None:
        self._llhttp = httptools.HttpRequestParser(_NOTHING)

    def parse(
        self, head: bytes, target_size: int, header_count: int, earlier: RequestHead | None = None
    ) -> RequestHead | Failure:
        """`head` is all before the CRLF CRLF; `target_size` (bytes) and `header_count` are the most it may have.

        `earlier` is a request of the same connection that may be repeated (its `lines` are set).
        """
        if earlier is not None:
            repeated = _repeated(head, target_size, earlier)
            if repeated is not None:
                return repeated
        try:
            self._llhttp.feed_data(head + _END)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # An upgrade, or something wrong. A parser that has seen nothing else judges: no client may be refused for
            # what another sent.
            self._llhttp = httptools.HttpRequestParser(_NOTHING)
            failure = _judge(head)
            if failure is not None:
                return failure
        request = _read_request(head, target_size, header_count)
        # llhttp is at the start of the next message unless a body or the end of the connection follows.
        if isinstance(request, Failure) or request.body or not request.keep_alive or request.minor == 0:
            self._llhttp = httptools.HttpRequestParser(_NOTHING)
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
        httptools.HttpRequestParser(_NOTHING).feed_data(head + _END)
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


def _read_request(head: bytes, target_size: int, header_count: int) -> RequestHead | Failure:
    pieces = _split_request(head)
    line, mark, others = pieces[0].partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3:
        return errors.MALFORMED
    method, target, version = words
    if version == b"HTTP/1.1":
        request = RequestHead(head, method, 1)
    elif version == b"HTTP/1.0":
        request = RequestHead(head, method, 0)
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
    if request.minor and not request.scheme:
        request.lines = head[len(line) :]
    return request


def _read_specials(request: RequestHead, pieces: list[bytes]) -> Failure | None:
    """Reads the fields of this hop into the request."""
    hosts = 0
    for index in range(1, len(pieces), 3):
        name, value = pieces[index], pieces[index + 1]
        kind = _SPELLINGS.get(name, UNUSUAL)
        if kind == HOST:
            hosts += 1
            request.host = value.rstrip(b" \t")
        elif kind != CONNECTION or value not in _KEEP_ALIVE or request.minor == 0:
            failure = _read_special(request, f.request_kind(name) if kind == UNUSUAL else kind, name, value)
            if failure is not None:
                return failure
            hosts += kind == UNUSUAL and f.request_kind(name) == HOST
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
        if len(digits) > _LENGTH_DIGITS_MAX:
            return errors.BODY_TOO_LARGE
        request.body = LENGTH
        request.content_length = int(digits or b"0")
    elif kind == CONNECTION:
        return _read_connection(request, value)
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
    elif kind == PROXY_CONNECTION:
        # llhttp takes it for Connection (RFC 9112 §C.2.2): where it says `close`, nothing may follow.
        if b"close" in f.tokens(value):
            request.keep_alive = False
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
    """Connection's options (RFC 9110 §7.6.1)."""
    options = f.tokens(value)
    if len(options) > _CONNECTION_OPTIONS_MAX:
        return errors.MALFORMED
    for option in options:
        if option == b"close":
            request.keep_alive = False
        elif option == b"keep-alive":
            # RFC 9112 §9.3: `close` wins, whatever the order, and on whichever line.
            if request.minor == 0:
                request.keep_alive = b"close" not in f.tokens(b",".join(f.values(request.raw, b"connection")))
        elif option == b"upgrade":
            request.upgrade = option
        else:
            request.hop_names = [*(request.hop_names or ()), option]
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


def parse_response(head: bytes, to_head: bool) -> ResponseHead | Failure:
    """Parses the head of an answer, all before the CRLF CRLF; `to_head`: the request was a HEAD."""
    # What is read is used only if llhttp agrees.
    response = _read_response(head, to_head)
    if response is None:
        return errors.UPSTREAM_MALFORMED
    try:
        httptools.HttpResponseParser(_NOTHING).feed_data(head + _END)
    except httptools.HttpParserUpgrade:
        return response
    except httptools.HttpParserError:
        return errors.UPSTREAM_MALFORMED
    return response


# The same, with the last answers remembered: for heads of up to REMEMBERED_MAX bytes, so that memory stays bounded.
# What comes out is shared, and nobody changes it.
parse_response_again = lru_cache(maxsize=_HEADS_REMEMBERED)(parse_response)


def _read_response(head: bytes, to_head: bool) -> ResponseHead | None:
    pieces = f.RESPONSE_SPECIAL.split(head)
    line, mark, others = pieces[0].partition(b"\r\n")
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        return None
    minor, digits, phrase = found.groups()
    status = int(digits)
    if minor == b"0" and status < 200:
        # RFC 9110 §15.2: HTTP/1.0 knows no such answers.
        return None
    if minor == b"0" or phrase is None:
        line = b"HTTP/1.1 %b %b" % (digits, phrase or b"")
    response = ResponseHead(line, status)
    response.keep_alive = minor == b"1"
    if not _read_response_specials(response, pieces, minor == b"1"):
        return None
    pieces[0] = mark + others
    fields = b"".join(pieces[::3])
    response.fields = fields if response.hop_names is None else f.without(fields, response.hop_names)
    response.dated = f.finder(b"date").search(response.fields) is not None
    _decide_response_body(response, to_head)
    return response


def _read_response_specials(response: ResponseHead, pieces: list[bytes], is_1_1: bool) -> bool:
    for index in range(1, len(pieces), 3):
        name = pieces[index]
        kind = f.RESPONSE_SPELLINGS.get(name, -1)
        if kind < 0:
            kind = f.response_kind(name)
        value = pieces[index + 1].rstrip(b" \t")
        if kind == CONTENT_LENGTH:
            if response.content_length >= 0 or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                return False
            response.content_length = int(value)
        elif kind == CONNECTION:
            if value not in _KEEP_ALIVE or not is_1_1:
                _read_response_connection(response, value, is_1_1)
        elif kind == TRANSFER_ENCODING:
            if response.body == CHUNKED or not is_1_1 or value.lower() != b"chunked":
                return False
            response.body = CHUNKED
        elif kind == UPGRADE:
            response.upgrade = value
    return response.body != CHUNKED or response.content_length < 0


def _read_response_connection(response: ResponseHead, value: bytes, is_1_1: bool) -> None:
    options = f.tokens(value)
    if b"close" in options:
        response.keep_alive = False
    elif b"keep-alive" in options and not is_1_1:
        response.keep_alive = True
    named = [option for option in options if option not in (b"close", b"keep-alive", b"upgrade")]
    if named:
        response.hop_names = named if response.hop_names is None else response.hop_names + named


def _decide_response_body(response: ResponseHead, to_head: bool) -> None:
    """RFC 9112 §6.3. The Content-Length of an answer to HEAD and of a 304 tells of a body that is not sent."""
    status = response.status
    if status < 200 or status == 204:
        response.body = NO_BODY
        response.content_length = -1
    elif to_head or status == 304:
        response.body = NO_BODY
    elif response.body != CHUNKED:
        if response.content_length >= 0:
            response.body = LENGTH
        else:
            response.keep_alive = False
