"""What backends answer, and what clients must see of it (RFC 9112 §4, §6.3, §8; RFC 9110 §15)."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    CHUNKED,
    HELLO_CHUNKED,
    Answered,
    AnswerVector,
    BadGateway,
    CutShort,
    answer,
)

V = AnswerVector
OK = b"HTTP/1.1 200 OK"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
FIVE = b"Content-Length: 5"
HELLO = Answered(answer(OK, framing=FIVE, body=b"hello"))
CHUNKED_HELLO = Answered(answer(OK, framing=CHUNKED, body=HELLO_CHUNKED))
EMPTY = Answered(answer(OK, framing=b"Content-Length: 0"))
BAD = BadGateway()


def sent(*fields: bytes, body: bytes = b"", line: bytes = OK) -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


def hello(*fields: bytes, line: bytes = OK) -> bytes:
    return sent(*fields, FIVE, body=b"hello", line=line)


def length(value: bytes) -> bytes:
    return sent(b"Content-Length: " + value, body=b"hello")


def coding(value: bytes) -> bytes:
    return sent(b"Transfer-Encoding: " + value, body=HELLO_CHUNKED)


def chunks(body: bytes) -> bytes:
    return sent(CHUNKED, body=body)


STATUS_LINES = [
    V("answer-with-length", hello(), HELLO),
    V(
        "answer-without-phrase",
        hello(line=b"HTTP/1.1 200 "),
        Answered(answer(b"HTTP/1.1 200 ", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-without-phrase-and-space",
        hello(line=b"HTTP/1.1 200"),
        Answered(answer(b"HTTP/1.1 200 ", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-with-other-phrase",
        hello(line=b"HTTP/1.1 200 Fine by me"),
        Answered(answer(b"HTTP/1.1 200 Fine by me", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-of-unknown-status",
        hello(line=b"HTTP/1.1 299 Odd"),
        Answered(answer(b"HTTP/1.1 299 Odd", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-of-highest-status",
        hello(line=b"HTTP/1.1 599 X"),
        Answered(answer(b"HTTP/1.1 599 X", framing=FIVE, body=b"hello")),
    ),
    V("answer-in-1.0", hello(line=b"HTTP/1.0 200 OK"), HELLO),
    V("answer-in-1.0-until-close", sent(body=b"hello", line=b"HTTP/1.0 200 OK"), CHUNKED_HELLO, close=True),
    V("answer-of-status-of-two-digits", hello(line=b"HTTP/1.1 20 OK"), BAD),
    V("answer-of-status-of-four-digits", hello(line=b"HTTP/1.1 2000 OK"), BAD),
    V("answer-of-status-in-letters", hello(line=b"HTTP/1.1 abc OK"), BAD),
    V("answer-of-status-zero", hello(line=b"HTTP/1.1 000 OK"), BAD),
    V("answer-of-status-099", hello(line=b"HTTP/1.1 099 OK"), BAD),
    V("answer-of-status-600", hello(line=b"HTTP/1.1 600 X"), BAD),
    V("answer-of-negative-status", hello(line=b"HTTP/1.1 -20 X"), BAD),
    V("answer-without-status", hello(line=b"HTTP/1.1"), BAD),
    V("answer-after-two-spaces", hello(line=b"HTTP/1.1  200 OK"), BAD),
    V("answer-after-tab", hello(line=b"HTTP/1.1\t200 OK"), BAD),
    V("answer-in-1.2", hello(line=b"HTTP/1.2 200 OK"), BAD),
    V("answer-in-2.0", hello(line=b"HTTP/2.0 200 OK"), BAD),
    V("answer-in-0.9", hello(line=b"HTTP/0.9 200 OK"), BAD),
    V("answer-in-lower-case", hello(line=b"http/1.1 200 OK"), BAD),
    V("answer-of-icecast", hello(line=b"ICY 200 OK"), BAD),
    V("answer-of-garbage", b"garbage\r\n\r\n", BAD),
    V("answer-of-html-alone", b"<html>\r\n\r\n</html>", BAD),
    V("answer-after-empty-line", b"\r\n" + hello(), BAD),
    V("answer-after-space", b" " + hello(), BAD),
    V("answer-phrase-with-nul", hello(line=b"HTTP/1.1 200 O\x00K"), BAD),
    V("answer-phrase-with-bare-cr", hello(line=b"HTTP/1.1 200 OK\rX-A: 1"), BAD),
    V("answer-phrase-with-bare-lf", hello(line=b"HTTP/1.1 200 OK\nX-A: 1"), BAD),
    V("answer-phrase-with-escape", hello(line=b"HTTP/1.1 200 \x1b[0m"), BAD),
]

LENGTHS = [
    V("answer-of-length-zero", sent(b"Content-Length: 0"), EMPTY),
    V("answer-length-with-leading-zeros", length(b"0005"), HELLO),
    V("answer-length-in-odd-case", sent(b"cONTENT-lENGTH: 5", body=b"hello"), HELLO),
    V("answer-length-with-plus", length(b"+5"), BAD),
    V("answer-length-negative", length(b"-5"), BAD),
    V("answer-length-hexadecimal", length(b"0x5"), BAD),
    V("answer-length-with-underscore", length(b"0_5"), BAD),
    V("answer-length-empty", length(b""), BAD),
    V("answer-length-list", length(b"5, 5"), BAD),
    V("answer-length-twice-the-same", sent(FIVE, FIVE, body=b"hello"), BAD),
    V("answer-length-twice-different", sent(FIVE, b"Content-Length: 2", body=b"hello"), BAD),
    V("answer-length-past-64-bits", length(b"18446744073709551621"), BAD),
    V("answer-length-with-space-before-colon", sent(b"Content-Length : 5", body=b"hello"), BAD),
    V("answer-length-on-folded-line", sent(b"Content-Length:\r\n 5", body=b"hello"), BAD),
    V("answer-length-and-coding", sent(FIVE, CHUNKED, body=HELLO_CHUNKED), BAD),
    V("answer-coding-and-length", sent(CHUNKED, FIVE, body=HELLO_CHUNKED), BAD),
    V("answer-until-close", sent(body=b"hello"), CHUNKED_HELLO, close=True),
    V("answer-until-close-empty", sent(), Answered(answer(OK, framing=CHUNKED, body=b"0\r\n\r\n")), close=True),
    V(
        "answer-until-close-to-1.0",
        sent(body=b"hello"),
        Answered(answer(OK, framing=b"Connection: close", body=b"hello"), kept=False),
        request=OLD,
        close=True,
    ),
    V(
        "answer-with-length-to-1.0",
        hello(),
        Answered(answer(OK, framing=(FIVE, b"Connection: close"), body=b"hello"), kept=False),
        request=OLD,
    ),
]

CODINGS = [
    V("answer-chunked", chunks(HELLO_CHUNKED), CHUNKED_HELLO),
    V("answer-chunked-in-capitals", coding(b"CHUNKED"), CHUNKED_HELLO),
    V(
        "answer-chunked-to-1.0",
        chunks(HELLO_CHUNKED),
        Answered(answer(OK, framing=b"Connection: close", body=b"hello"), kept=False),
        request=OLD,
    ),
    V("answer-chunked-with-extension", chunks(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), CHUNKED_HELLO),
    V(
        "answer-chunked-with-trailer",
        chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        Answered(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")),
    ),
    V(
        "answer-chunked-with-trailers-that-frame",
        chunks(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\nTransfer-Encoding: x\r\n\r\n"),
        Answered(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")),
    ),
    V(
        "answer-chunked-with-trailer-to-1.0",
        chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        Answered(answer(OK, framing=b"Connection: close", body=b"hello"), kept=False),
        request=OLD,
    ),
    V("answer-coding-gzip-then-chunked", coding(b"gzip, chunked"), BAD),
    V("answer-coding-chunked-twice", coding(b"chunked, chunked"), BAD),
    V("answer-coding-on-two-lines", sent(CHUNKED, CHUNKED, body=HELLO_CHUNKED), BAD),
    V("answer-coding-unknown", coding(b"xchunked"), BAD),
    V("answer-coding-identity", coding(b"identity"), BAD, close=True),
    V("answer-coding-empty", coding(b""), BAD),
    V("answer-coding-in-1.0", sent(CHUNKED, body=HELLO_CHUNKED, line=b"HTTP/1.0 200 OK"), BAD),
    V("answer-coding-with-space-before-colon", sent(b"Transfer-Encoding : chunked", body=HELLO_CHUNKED), BAD),
    V("answer-coding-after-vertical-tab", coding(b"\x0bchunked"), BAD),
    V("answer-chunk-size-negative", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), BAD),
    V("answer-chunk-size-with-0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), BAD),
    V("answer-chunk-size-before-bare-lf", chunks(b"5\nhello\r\n0\r\n\r\n"), BAD),
    V("answer-chunk-without-line-end", chunks(b"5\r\nhello0\r\n\r\n"), BAD),
    V("answer-chunk-trailer-folded", chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n"), BAD),
    V(
        "answer-chunk-bad-later",
        chunks(b"5\r\nhello\r\n"),
        CutShort(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n")),
        later=b"-1\r\n",
        seen=b"5\r\nhello\r\n",
    ),
]

FIELDS = [
    V(
        "answer-fields-pass-in-order",
        hello(b"Server: x", b"Set-Cookie: a=1", b"X-A:", b"set-cookie: b=2"),
        Answered(
            answer(OK, b"Server: x", b"Set-Cookie: a=1", b"X-A:", b"set-cookie: b=2", framing=FIVE, body=b"hello")
        ),
    ),
    V(
        "answer-date-stays",
        hello(b"Date: Thu, 01 Jan 1970 00:00:00 GMT"),
        Answered(answer(OK, b"Date: Thu, 01 Jan 1970 00:00:00 GMT", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-via-of-those-before-stays",
        hello(b"Via: 1.1 inner"),
        Answered(answer(OK, b"Via: 1.1 inner", framing=FIVE, body=b"hello")),
    ),
    V(
        "answer-hop-fields",
        hello(
            b"Connection: keep-alive, X-Hop",
            b"X-Hop: 1",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: x",
            b"Upgrade: h2c",
            b"X-End: 2",
        ),
        Answered(answer(OK, b"X-End: 2", framing=FIVE, body=b"hello")),
    ),
    V("answer-connection-close", hello(b"Connection: close"), HELLO, close=True),
    V("answer-request-id-of-the-backend", hello(b"X-Request-Id: theirs"), HELLO),
    V(
        "answer-field-in-latin-1",
        hello(b"X-A: caf\xe9"),
        Answered(answer(OK, b"X-A: caf\xe9", framing=FIVE, body=b"hello")),
    ),
    V("answer-field-with-bare-cr", hello(b"X-A: 1\rSet-Cookie: evil=1"), BAD),
    V("answer-field-with-bare-lf", hello(b"X-A: 1\nSet-Cookie: evil=1"), BAD),
    V("answer-field-with-nul", hello(b"X-A: a\x00b"), BAD),
    V("answer-field-with-escape", hello(b"X-A: \x1b[0m"), BAD),
    V("answer-field-folded", hello(b"X-A: 1\r\n 2"), BAD),
    V("answer-field-without-colon", hello(b"X-A"), BAD),
    V("answer-field-without-name", hello(b": 1"), BAD),
    V("answer-field-with-space-in-name", hello(b"X A: 1"), BAD),
    V("answer-field-with-space-before-colon", hello(b"X-A : 1"), BAD),
    V("answer-in-bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", BAD),
    V("answer-head-ends-in-bare-lf", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", BAD),
    V("answer-head-too-large", hello(*[b"X-A: " + b"x" * 1000] * 70), BAD),
    V("answer-head-that-never-ends", OK + b"\r\nX-A: " + b"x" * 70_000, BAD),
]

BODILESS = [
    V("no-content", sent(line=b"HTTP/1.1 204 No Content"), Answered(answer(b"HTTP/1.1 204 No Content"))),
    V(
        "no-content-with-length",
        sent(b"Content-Length: 0", line=b"HTTP/1.1 204 No Content"),
        Answered(answer(b"HTTP/1.1 204 No Content")),
    ),
    V("no-content-with-body", hello(line=b"HTTP/1.1 204 No Content"), Answered(answer(b"HTTP/1.1 204 No Content"))),
    V(
        "no-content-with-chunks",
        sent(CHUNKED, body=HELLO_CHUNKED, line=b"HTTP/1.1 204 No Content"),
        Answered(answer(b"HTTP/1.1 204 No Content")),
    ),
    V(
        "not-modified",
        sent(b'ETag: "a"', line=b"HTTP/1.1 304 Not Modified"),
        Answered(answer(b"HTTP/1.1 304 Not Modified", b'ETag: "a"')),
    ),
    V(
        "not-modified-with-length",
        sent(FIVE, line=b"HTTP/1.1 304 Not Modified"),
        Answered(answer(b"HTTP/1.1 304 Not Modified", framing=FIVE)),
    ),
    V(
        "not-modified-with-body",
        hello(line=b"HTTP/1.1 304 Not Modified"),
        Answered(answer(b"HTTP/1.1 304 Not Modified", framing=FIVE)),
    ),
    V("head", sent(FIVE), Answered(answer(OK, framing=FIVE)), request=HEAD),
    V("head-without-length", sent(b"X-A: 1"), Answered(answer(OK, b"X-A: 1")), request=HEAD),
    V("head-with-body", hello(), Answered(answer(OK, framing=FIVE)), request=HEAD),
    V("head-with-coding", sent(CHUNKED), Answered(answer(OK)), request=HEAD),
    V("head-with-chunks", chunks(HELLO_CHUNKED), Answered(answer(OK)), request=HEAD),
]

INFORMATIONAL = [
    V("continue-unasked", CONTINUE + hello(), Answered(CONTINUE + answer(OK, framing=FIVE, body=b"hello"))),
    V("early-hints", HINTS + hello(), Answered(HINTS + answer(OK, framing=FIVE, body=b"hello"))),
    V("early-hints-many", HINTS * 5 + hello(), Answered(HINTS * 5 + answer(OK, framing=FIVE, body=b"hello"))),
    V("early-hints-then-bad-answer", HINTS + length(b"-5"), BadGateway(after=HINTS)),
    V("early-hints-then-end", HINTS, BadGateway(after=HINTS), close=True),
    V(
        "informational-unknown",
        b"HTTP/1.1 199 Odd\r\n\r\n" + hello(),
        Answered(b"HTTP/1.1 199 Odd\r\n\r\n" + answer(OK, framing=FIVE, body=b"hello")),
    ),
    V(
        "informational-with-framing",
        b"HTTP/1.1 102 Processing\r\nContent-Length: 5\r\nConnection: X-A\r\nX-A: 1\r\n\r\n" + hello(),
        Answered(b"HTTP/1.1 102 Processing\r\n\r\n" + answer(OK, framing=FIVE, body=b"hello")),
    ),
    V(
        "informational-to-1.0",
        HINTS + hello(),
        Answered(answer(OK, framing=(FIVE, b"Connection: close"), body=b"hello"), kept=False),
        request=OLD,
    ),
    V("informational-flood", CONTINUE * 1000 + hello(), BadGateway(after=CONTINUE * 16)),
    V(
        "switching-unasked",
        sent(b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols"),
        BAD,
    ),
    V("switching-to-nothing", sent(line=b"HTTP/1.1 101 Switching Protocols"), BAD, request=UPGRADE),
    V(
        "switching-to-what-was-not-asked",
        sent(b"Connection: Upgrade", b"Upgrade: h2c", line=b"HTTP/1.1 101 Switching Protocols"),
        BAD,
        request=UPGRADE,
    ),
    V(
        "switching-in-1.0",
        sent(b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.0 101 Switching Protocols"),
        BAD,
        request=UPGRADE,
    ),
    V(
        "switching-refused",
        hello(line=b"HTTP/1.1 403 Forbidden"),
        Answered(answer(b"HTTP/1.1 403 Forbidden", framing=FIVE, body=b"hello")),
        request=UPGRADE,
    ),
    V(
        "switching-required",
        hello(b"Upgrade: websocket", b"Connection: Upgrade", line=b"HTTP/1.1 426 Upgrade Required"),
        Answered(
            answer(
                b"HTTP/1.1 426 Upgrade Required",
                framing=(b"Connection: upgrade", b"Upgrade: websocket", FIVE),
                body=b"hello",
            )
        ),
    ),
]

ENDS = [
    # Not a GET, which would be asked for again when the connection had been used before.
    V(
        "end-before-status-line",
        b"",
        BAD,
        request=b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        close=True,
    ),
    V("end-in-status-line", b"HTTP/1.1 20", BAD, close=True),
    V("end-in-head", b"HTTP/1.1 200 OK\r\nContent-Le", BAD, close=True),
    V("end-before-empty-line", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", BAD, close=True),
    V("end-in-body", sent(FIVE, body=b"hel"), CutShort(answer(OK, framing=FIVE, body=b"hel")), close=True),
    V("end-before-body", sent(FIVE), CutShort(answer(OK, framing=FIVE)), close=True),
    V("end-in-chunk", chunks(b"5\r\nhel"), CutShort(answer(OK, framing=CHUNKED, body=b"3\r\nhel\r\n")), close=True),
    V(
        "end-before-last-chunk",
        chunks(b"5\r\nhello\r\n"),
        CutShort(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n")),
        close=True,
    ),
    V(
        "end-in-last-chunk",
        chunks(b"5\r\nhello\r\n0\r\n"),
        CutShort(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n")),
        close=True,
    ),
    V(
        "end-in-trailers",
        chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\n"),
        CutShort(answer(OK, framing=CHUNKED, body=b"5\r\nhello\r\n")),
        close=True,
    ),
    V(
        "end-in-chunk-to-1.0",
        chunks(b"5\r\nhel"),
        CutShort(answer(OK, framing=b"Connection: close", body=b"hel")),
        request=OLD,
        close=True,
    ),
    V("bytes-after-body", hello() + b"extra", HELLO),
    V("answer-after-answer", hello() + sent(b"Content-Length: 4", body=b"evil"), HELLO),
    V("answer-after-chunks", chunks(HELLO_CHUNKED) + sent(b"Content-Length: 4", body=b"evil"), CHUNKED_HELLO),
    V("answer-after-empty-answer", sent(b"Content-Length: 0") + sent(b"Content-Length: 4", body=b"evil"), EMPTY),
    V(
        "answer-after-no-content",
        sent(line=b"HTTP/1.1 204 No Content") + sent(b"Content-Length: 4", body=b"evil"),
        Answered(answer(b"HTTP/1.1 204 No Content")),
    ),
    V(
        "answer-after-not-modified",
        sent(line=b"HTTP/1.1 304 Not Modified") + sent(b"Content-Length: 4", body=b"evil"),
        Answered(answer(b"HTTP/1.1 304 Not Modified")),
    ),
    V(
        "answer-after-head",
        sent(FIVE) + sent(b"Content-Length: 4", body=b"evil"),
        Answered(answer(OK, framing=FIVE)),
        request=HEAD,
    ),
]

ANSWERS = STATUS_LINES + LENGTHS + CODINGS + FIELDS + BODILESS + INFORMATIONAL + ENDS
