"""From a head's bytes to a `RequestHead` or `ResponseHead`, or to the failure that answers it.

llhttp (through httptools) judges the syntax: methods, targets, field names and values, line ends, lengths. It is given
whole heads only, so that one parser serves all the connections of a worker. What it lets pass and RFC 9112 does not,
or what two parsers could read differently, is refused here: HTTP/0.9 and unknown versions, loose white space in the
request line, no Host or two, any transfer coding but `chunked`, transfer codings in HTTP/1.0.
Bodies are no business of this file: `framing` of a body is decided here, and read by whoever carries it.
"""

from __future__ import annotations

from functools import lru_cache

import httptools

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1 import fields as f
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from fastgw.http1.target import normalize_path, parse_host, split_absolute

# RFC 9110 §8.6 sets no bound; more digits than these do not fit into what backends count with.
_LENGTH_DIGITS_MAX = 18
_KEEP_ALIVE = frozenset((b"keep-alive", b"Keep-Alive"))
# A client that asks for more options than this wants something else (each costs a pass over the head).
_CONNECTION_OPTIONS_MAX = 16
# A backend under load answers with the same few heads, to the byte, until its Date moves on.
_HEADS_REMEMBERED = 512


class _NoCallbacks:
    """httptools calls back only what it finds here: nothing."""


_NOTHING = _NoCallbacks()
_split_request = f.REQUEST_SPECIAL.split


class RequestParser:
    """Parses request heads, one whole head at a time."""

    __slots__ = ("_llhttp",)

    def __init__(self) -> None:
        self._llhttp = httptools.HttpRequestParser(_NOTHING)

    def parse(self, head: bytes, target_size: int, header_count: int) -> RequestHead | Failure:
        """`head` runs from the request line to the empty line, both included; the others are the most it may have."""
        try:
            self._llhttp.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._llhttp = httptools.HttpRequestParser(_NOTHING)
        except httptools.HttpParserError as error:
            self._llhttp = httptools.HttpRequestParser(_NOTHING)
            return _refusal(error, head)
        request = _read_request(head, target_size, header_count)
        # llhttp is at the start of the next message unless a body or the end of the connection follows.
        if isinstance(request, Failure) or request.body or not request.keep_alive or request.minor == 0:
            self._llhttp = httptools.HttpRequestParser(_NOTHING)
        return request


def _refusal(error: httptools.HttpParserError, head: bytes) -> Failure:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        method = head[: max(head.find(b" "), 0)]
        return errors.METHOD_UNKNOWN if _is_token(method) else errors.MALFORMED
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return errors.BAD_TARGET
    words = str(error)
    if "Content-Length" in words or "Transfer-Encoding" in words:
        return errors.BAD_FRAMING
    if words.startswith(("Invalid HTTP version", "Invalid major", "Invalid minor")):
        return errors.VERSION_UNKNOWN
    return errors.MALFORMED


def _is_token(text: bytes) -> bool:
    # The first byte decides: TLS hellos and other protocols begin with none that a method may have.
    return len(text) > 0 and len(text) <= 64 and text.replace(b"-", b"").replace(b"_", b"").isalnum()


def _read_request(head: bytes, target_size: int, header_count: int) -> RequestHead | Failure:
    pieces = _split_request(head[:-4])
    first = pieces[0]
    line_end = first.find(b"\r\n")
    line = first if line_end < 0 else first[:line_end]
    words = line.split(b" ")
    if len(words) != 3:
        return errors.MALFORMED
    method, target, version = words
    if version == b"HTTP/1.1":
        request = RequestHead(head, method, 1)
    elif version == b"HTTP/1.0":
        request = RequestHead(head, method, 0)
    else:
        return errors.VERSION_UNKNOWN
    if len(target) > target_size:
        return errors.TARGET_TOO_LONG
    if head.count(b"\n") > header_count + 2:
        return errors.TOO_MANY_HEADERS
    failure = _read_specials(request, pieces)
    if failure is not None:
        return failure
    pieces[0] = b"" if line_end < 0 else first[line_end:]
    request.fields = b"".join(pieces[::3])
    if request.hop_names is not None:
        request.fields = f.without(request.fields, request.hop_names)
    return _read_target(request, target)


def _read_specials(request: RequestHead, pieces: list[bytes]) -> Failure | None:
    """Reads the fields of this hop into the request."""
    hosts = 0
    upgrade = b""
    for index in range(1, len(pieces), 3):
        name = pieces[index]
        kind = f.REQUEST_SPELLINGS.get(name, -1)
        if kind < 0:
            kind = f.request_kind(name)
        value = pieces[index + 1]
        if kind == f.HOST:
            hosts += 1
            request.host = value.rstrip(b" \t")
        elif kind == f.CONNECTION:
            if value not in _KEEP_ALIVE or request.minor == 0:
                failure = _read_connection(request, value)
                if failure is not None:
                    return failure
        elif kind == f.CONTENT_LENGTH:
            # llhttp has seen to it that there is one, of digits.
            digits = value.rstrip(b" \t").lstrip(b"0")
            if len(digits) > _LENGTH_DIGITS_MAX:
                return errors.BODY_TOO_LARGE
            request.body = LENGTH
            request.content_length = int(digits or b"0")
        elif kind == f.TRANSFER_ENCODING:
            # RFC 9112 §6.1: no transfer codings in HTTP/1.0; §6.3: the last, and here the only one, is chunked.
            if request.minor == 0 or request.body == CHUNKED:
                return errors.BAD_FRAMING
            if value.rstrip(b" \t").lower() != b"chunked":
                codings = f.tokens(value)
                known = len(codings) == 0 or codings.count(b"chunked") > 1 or codings[-1] != b"chunked"
                return errors.BAD_FRAMING if known else errors.CODING_UNKNOWN
            request.body = CHUNKED
        elif kind == f.EXPECT:
            # RFC 9110 §10.1.1: an HTTP/1.0 client's expectation is ignored.
            if request.minor == 1:
                if value.rstrip(b" \t").lower() != b"100-continue":
                    return errors.BAD_EXPECTATION
                request.expects_continue = True
        elif kind == f.UPGRADE:
            upgrade = value.rstrip(b" \t")
        elif kind == f.REQUEST_ID:
            request.request_id = value.rstrip(b" \t")
        elif kind >= f.FORWARDED_FOR:
            if request.forwarded is None:
                request.forwarded = []
            request.forwarded.append((kind, b"%b: %b" % (name, value.rstrip(b" \t"))))
    if hosts != 1 and (hosts > 1 or request.minor == 1):
        # RFC 9112 §3.2; HTTP/1.0 clients may leave it out.
        return errors.BAD_HOST
    # RFC 9110 §7.8: an Upgrade that Connection does not name is ignored, as HTTP/1.0's is. One to h2c would let
    # the client speak past the gateway's rules, so it is ignored too.
    request.upgrade = upgrade if request.upgrade and request.minor == 1 and b"h2c" not in upgrade.lower() else b""
    return None


def _read_connection(request: RequestHead, value: bytes) -> Failure | None:
    """Connection's options (RFC 9110 §7.6.1)."""
    options = f.tokens(value)
    if len(options) > _CONNECTION_OPTIONS_MAX:
        return errors.MALFORMED
    for option in options:
        if option == b"close":
            request.keep_alive = False
        elif option == b"keep-alive":
            # RFC 9112 §9.3: `close` wins, whatever the order.
            if request.minor == 0 and b"close" not in options:
                request.keep_alive = True
        elif option == b"upgrade":
            request.upgrade = option
        else:
            request.hop_names = [*(request.hop_names or ()), option]
    return None


def _read_target(request: RequestHead, target: bytes) -> RequestHead | Failure:
    """The four forms of RFC 9112 §3.2, and the host that the request is for."""
    if target[0] != 0x2F:
        if request.method == b"CONNECT":
            return errors.CONNECT_REFUSED
        if target == b"*":
            # §3.2.4: asterisk-form is for OPTIONS alone.
            if request.method != b"OPTIONS":
                return errors.BAD_TARGET
        else:
            split = split_absolute(target)
            if split is None or not split[0]:
                return errors.BAD_TARGET
            # §3.2.2: the authority in the target replaces Host.
            request.host, target = split
    mark = target.find(b"?")
    if mark >= 0:
        request.query = target[mark:]
        if b"#" in request.query:
            return errors.BAD_TARGET
        target = target[:mark]
    path = normalize_path(target)
    if path is None:
        return errors.BAD_TARGET
    request.path = path
    host = request.host
    if host or request.minor:
        name = parse_host(host)
        if name is None:
            return errors.BAD_HOST
        request.host_name = name
    return request


@lru_cache(maxsize=_HEADS_REMEMBERED)
def parse_response(head: bytes, to_head: bool) -> ResponseHead | Failure:
    """Parses the head of an answer, its empty line included; `to_head`: the request was a HEAD.

    What comes out is shared: nobody changes it.
    """
    # What is read is used only if llhttp agrees.
    response = _read_response(head, to_head)
    if response is None:
        return errors.UPSTREAM_MALFORMED
    try:
        httptools.HttpResponseParser(_NOTHING).feed_data(head)
    except httptools.HttpParserUpgrade:
        return response
    except httptools.HttpParserError:
        return errors.UPSTREAM_MALFORMED
    return response


def _read_response(head: bytes, to_head: bool) -> ResponseHead | None:
    pieces = f.RESPONSE_SPECIAL.split(head[:-4])
    first = pieces[0]
    line_end = first.find(b"\r\n")
    line = first if line_end < 0 else first[:line_end]
    digits = line[9:12]
    if line[:7] != b"HTTP/1." or line[8:9] != b" " or not digits.isdigit():
        return None
    status = int(digits)
    if status < 100 or status > 599:
        return None
    minor = line[7:8]
    if minor != b"1" or len(line) < 13:
        if minor not in (b"0", b"1"):
            return None
        line = b"HTTP/1.1 %b %b" % (digits, line[13:])
    response = ResponseHead(line, status)
    response.keep_alive = minor == b"1"
    if not _read_response_specials(response, pieces, minor == b"1"):
        return None
    pieces[0] = b"" if line_end < 0 else first[line_end:]
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
        if kind == f.CONTENT_LENGTH:
            if response.content_length >= 0 or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                return False
            response.content_length = int(value)
        elif kind == f.CONNECTION:
            if value not in _KEEP_ALIVE or not is_1_1:
                _read_response_connection(response, value)
        elif kind == f.TRANSFER_ENCODING:
            if response.body == CHUNKED or not is_1_1 or value.lower() != b"chunked":
                return False
            response.body = CHUNKED
        elif kind == f.UPGRADE:
            response.upgrade = value
    return response.body != CHUNKED or response.content_length < 0


def _read_response_connection(response: ResponseHead, value: bytes) -> None:
    options = f.tokens(value)
    if b"close" in options:
        response.keep_alive = False
    elif b"keep-alive" in options:
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
