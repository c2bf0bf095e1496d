"""Heads and answers as bytes. What never changes is made once."""

from __future__ import annotations

import json
from http import HTTPStatus

from fastgw.errors import Failure
from fastgw.http1.message import CHUNKED, LENGTH, RequestHead

# Who we are in Via (RFC 9110 §7.6.3) and Proxy-Status (RFC 9209).
PSEUDONYM = "fastgw"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode("latin-1")


def _problem(failure: Failure) -> bytes:
    """The body of a failure's answer (RFC 9457)."""
    title = "Client Closed Request" if failure.status == 499 else HTTPStatus(failure.status).phrase
    problem = {"title": title, "status": failure.status, "detail": failure.detail, "reason": failure.reason}
    return json.dumps(problem, separators=(",", ":")).encode() + b"\n"


_canned: dict[Failure, tuple[bytes, bytes, bytes]] = {}


def canned(failure: Failure) -> tuple[bytes, bytes, bytes]:
    """A failure's status line, header lines (each begun by CRLF, without the framing) and body."""
    found = _canned.get(failure)
    if found is None:
        lines = "\r\nContent-Type: application/problem+json"
        if failure.proxy_error:
            lines += f"\r\nProxy-Status: {PSEUDONYM}; error={failure.proxy_error}"
        if failure.retry_after_s:
            lines += f"\r\nRetry-After: {failure.retry_after_s}"
        found = _canned[failure] = (status_line(failure.status), lines.encode(), _problem(failure))
    return found


def request_head(request: RequestHead, target: bytes, host: bytes, fields: bytes) -> bytes:
    """A request's head as the upstream gets it, its empty line included."""
    body = request.body
    if body == LENGTH:
        framing = b"\r\nContent-Length: %d\r\n\r\n" % request.content_length
    elif body == CHUNKED:
        framing = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    else:
        framing = b"\r\n\r\n"
    if request.expects_continue:
        framing = b"\r\nExpect: 100-continue" + framing
    if request.upgrade:
        framing = b"\r\nConnection: upgrade\r\nUpgrade: " + request.upgrade + framing
    return b"".join((request.method, b" ", target, b" HTTP/1.1\r\nHost: ", host, fields, framing))
