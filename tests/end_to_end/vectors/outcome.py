"""What becomes of the bytes that a client or a backend sends, and how the tables spell it.

A request's id, which the gateway makes, is written ID here, and made so in what came by `without_chance`; that leaves
out today's Date, of which `test_vectors` sees to it that each answer has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ID = b"ID"
_CHANCE = (
    (re.compile(rb"(\r\nX-Request-Id: )[0-9a-f]{32}(?=\r\n)"), rb"\1" + ID),
    (re.compile(rb"\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT(?=\r\n)"), b""),
)


def without_chance(data: bytes) -> bytes:
    for pattern, constant in _CHANCE:
        data = pattern.sub(constant, data)
    return data


# Requests.


@dataclass(frozen=True)
class Forwarded:
    """The backend gets exactly these requests, and the client that many answers, in order.

    `kept`: the client's connection can be used again; else it is closed after the last answer. `then`: the status
    of a refusal that follows, after which it is closed too.
    """

    requests: tuple[bytes, ...]
    kept: bool = True
    then: int = 0


@dataclass(frozen=True)
class Refused:
    """Nothing reaches the backend; the client gets this status, and the connection is closed unless `kept`."""

    status: int
    kept: bool = False


@dataclass(frozen=True)
class AnsweredHere:
    """Nothing reaches the backend; the gateway answers this status itself, and the connection is kept."""

    status: int


@dataclass(frozen=True)
class BrokenOff:
    """The backend gets these bytes and then the end of the connection; the client `status` (0: nothing)."""

    request: bytes
    status: int = 0


@dataclass(frozen=True)
class Dropped:
    """Nothing reaches the backend, nothing the client; the connection is closed."""


Outcome = Forwarded | Refused | AnsweredHere | BrokenOff | Dropped


@dataclass(frozen=True)
class RequestVector:
    """`sent` in one write; when `half_close`, the client says that this was all."""

    id: str
    sent: bytes
    outcome: Outcome
    half_close: bool = False


def gateway_lines(host: bytes, via: bytes = b"1.1") -> bytes:
    """What the gateway says to the backend of itself and of an untrusted client."""
    return (
        b"\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http"
        b'\r\nForwarded: for=127.0.0.1;proto=http;host="%b"\r\nX-Forwarded-Host: %b'
        b"\r\nVia: %b fastgw\r\nX-Request-Id: ID" % (host, host, via)
    )


def request(
    line: bytes,
    *fields: bytes,
    host: bytes = b"a.test",
    via: bytes = b"1.1",
    framing: bytes | tuple[bytes, ...] = (),
    body: bytes = b"",
) -> bytes:
    """A request as the backend gets it: `fields` are the client's that pass, `framing` the lines about this hop."""
    hop = (framing,) if isinstance(framing, bytes) else framing
    lines = b"".join(b"\r\n" + field for field in fields)
    hop_lines = b"".join(b"\r\n" + field for field in hop)
    return line + b" HTTP/1.1\r\nHost: " + host + lines + gateway_lines(host, via) + hop_lines + b"\r\n\r\n" + body


def forwarded(
    line: bytes,
    *fields: bytes,
    host: bytes = b"a.test",
    via: bytes = b"1.1",
    framing: bytes | tuple[bytes, ...] = (),
    body: bytes = b"",
    kept: bool = True,
) -> Forwarded:
    return Forwarded((request(line, *fields, host=host, via=via, framing=framing, body=body),), kept)


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a.test\r\n") -> bytes:
    """A whole GET as a client sends it, with these lines after Host."""
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    return get(*fields, line=line) + body


def target(path: bytes, method: bytes = b"GET") -> bytes:
    """A whole request for this target."""
    return method + b" " + path + b" HTTP/1.1\r\nHost: a.test\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
HELLO_CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
BAD_REQUEST = Refused(400)


# Answers.


@dataclass(frozen=True)
class Answered:
    """The client gets exactly these bytes; its connection is `kept`, or closed after them."""

    received: bytes
    kept: bool = True


@dataclass(frozen=True)
class BadGateway:
    """The client gets a 502 of the gateway's, after these bytes (1xx answers), and keeps its connection."""

    after: bytes = b""


@dataclass(frozen=True)
class CutShort:
    """The client gets a beginning of these bytes, and then the end of the connection without the body's end."""

    received: bytes


@dataclass(frozen=True)
class AnswerVector:
    """What a backend answers `request` with, and what the client must see of it.

    `later` is sent once the client has got `seen`; then the backend closes its connection if `close`.
    """

    id: str
    answer: bytes
    outcome: Answered | BadGateway | CutShort
    request: bytes = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    later: bytes = b""
    seen: bytes = b""
    close: bool = False


def answer(
    line: bytes,
    *fields: bytes,
    framing: bytes | tuple[bytes, ...] = (),
    body: bytes = b"",
) -> bytes:
    """An answer as the client gets it, but for today's Date: `fields` are the backend's that pass."""
    hop = (framing,) if isinstance(framing, bytes) else framing
    lines = b"".join(b"\r\n" + field for field in fields)
    hop_lines = b"".join(b"\r\n" + field for field in hop)
    return line + lines + b"\r\nVia: 1.1 fastgw\r\nX-Request-Id: ID" + hop_lines + b"\r\n\r\n" + body
