"""From the bytes of an answer's head to a `ResponseHead`, or to the failure that it becomes for the client.

llhttp (through httptools) judges the syntax, as it does for requests; what can be read in two ways is refused here.
"""

from __future__ import annotations

import re
from functools import lru_cache

import httptools

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1 import fields as f
from fastgw.http1.fields import CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, ResponseHead
from fastgw.http1.parse import END, KEEP_ALIVE, LENGTH_DIGITS_MAX, NOTHING

# RFC 9112 §4, without the space behind the status that some servers leave out.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
# A backend under load answers with the same few heads, to the byte, until its Date moves on.
_HEADS_REMEMBERED = 512
REMEMBERED_MAX = 2048


def parse_response(head: bytes, to_head: bool) -> ResponseHead | Failure:
    """Parses the head of an answer, all before the CRLF CRLF; `to_head`: the request was a HEAD."""
    # What is read is used only if llhttp agrees.
    response = _read_response(head, to_head)
    if response is None:
        return errors.UPSTREAM_MALFORMED
    try:
        httptools.HttpResponseParser(NOTHING).feed_data(head + END)
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
            if response.content_length >= 0 or not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
                return False
            response.content_length = int(value)
        elif kind == CONNECTION:
            if value not in KEEP_ALIVE or not is_1_1:
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
