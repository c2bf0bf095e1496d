"""The chunked coding of a request's body (RFC 9112 §7.1). A valid one is sent on in our own chunks."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    CHUNKED,
    HELLO_CHUNKED,
    BrokenOff,
    Forwarded,
    Refused,
    RequestVector,
    forwarded,
    post,
    request,
    target,
)

V = RequestVector

HELLO = forwarded(b"POST /", framing=CHUNKED, body=HELLO_CHUNKED)
EMPTY = forwarded(b"POST /", framing=CHUNKED, body=b"0\r\n\r\n")
REST = b"0\r\n\r\n"


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


def with_trailers(*kept: bytes) -> Forwarded:
    lines = b"".join(b"\r\n" + line for line in kept)
    return forwarded(b"POST /", framing=CHUNKED, body=b"5\r\nhello\r\n0" + lines + b"\r\n\r\n")


def trailers(*lines: bytes) -> bytes:
    return chunks(b"5\r\nhello\r\n0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


SIZES = [
    V(
        "chunk-in-upper-case",
        chunks(b"A\r\nhelloworld\r\n0\r\n\r\n"),
        forwarded(b"POST /", framing=CHUNKED, body=b"a\r\nhelloworld\r\n0\r\n\r\n"),
    ),
    V("chunk-with-leading-zeros", chunks(b"0005\r\nhello\r\n" + REST), HELLO),
    V("chunk-empty-body", chunks(REST), EMPTY),
    V("chunk-last-in-many-zeros", chunks(b"5\r\nhello\r\n000\r\n\r\n"), HELLO),
    V("chunk-size-in-seventeen-digits", chunks(b"00000000000000005\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-past-64-bits", chunks(b"10000000000000005\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-negative", chunks(b"-5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-with-plus", chunks(b"+5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-with-0x", chunks(b"0x5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-with-underscore", chunks(b"0_5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-after-space", chunks(b" 5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-before-space", chunks(b"5 \r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-before-tab", chunks(b"5\t\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-in-two-words", chunks(b"5 5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-with-comma", chunks(b"5,5\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-no-hexadecimal", chunks(b"g\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-empty", chunks(b"\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-with-nul", chunks(b"5\x00\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-line-too-long", chunks(b"5;" + b"x" * 300 + b"\r\nhello\r\n" + REST), BAD_REQUEST),
    V(
        "chunk-size-too-big-to-come",
        chunks(b"fff\r\nhello"),
        BrokenOff(request(b"POST /", framing=CHUNKED, body=b"5\r\nhello\r\n")),
        half_close=True,
    ),
    V("chunk-size-beyond-the-limit", chunks(b"ffffffffffffffff\r\nhello"), Refused(413)),
    V("chunks-beyond-the-limit", chunks(b"1001\r\n" + b"x" * 4097 + b"\r\n" + REST), Refused(413)),
    V(
        "chunks-at-the-limit",
        chunks(b"1000\r\n" + b"x" * 4096 + b"\r\n" + REST),
        forwarded(b"POST /", framing=CHUNKED, body=b"1000\r\n" + b"x" * 4096 + b"\r\n" + REST),
    ),
]

EXTENSIONS = [
    V("extension", chunks(b"5;a=b\r\nhello\r\n" + REST), HELLO),
    V("extension-without-value", chunks(b"5;a\r\nhello\r\n" + REST), HELLO),
    V("extension-quoted", chunks(b'5;a="b;c"\r\nhello\r\n' + REST), HELLO),
    V("extension-after-white-space", chunks(b"5 ; a=b\r\nhello\r\n" + REST), HELLO),
    V("extension-of-last-chunk", chunks(b"5\r\nhello\r\n0;a=b\r\n\r\n"), HELLO),
    V("extension-with-bare-lf", chunks(b"5;a\nhello\r\n" + REST), BAD_REQUEST),
    V("extension-with-bare-lf-hiding-a-size", chunks(b"5;\n0\r\nhello\r\n" + REST), BAD_REQUEST),
    V("extension-with-bare-cr", chunks(b"5;a\rb\r\nhello\r\n" + REST), BAD_REQUEST),
    V("extension-with-nul", chunks(b"5;a\x00\r\nhello\r\n" + REST), BAD_REQUEST),
]

LINE_ENDS = [
    V("chunk-size-before-bare-lf", chunks(b"5\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-before-bare-cr", chunks(b"5\rhello\r\n" + REST), BAD_REQUEST),
    V("chunk-size-before-two-crs", chunks(b"5\r\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-data-before-bare-lf", chunks(b"5\r\nhello\n" + REST), BAD_REQUEST),
    V("chunk-data-before-bare-cr", chunks(b"5\r\nhello\r0\r\n\r\n"), BAD_REQUEST),
    V("chunk-data-without-line-end", chunks(b"5\r\nhello" + REST), BAD_REQUEST),
    V("chunk-data-longer-than-its-size", chunks(b"5\r\nhello!\r\n" + REST), BAD_REQUEST),
    V("chunk-data-shorter-than-its-size", chunks(b"6\r\nhello\r\n" + REST), BAD_REQUEST),
    V("chunk-last-before-bare-lf", chunks(b"5\r\nhello\r\n0\n\n"), BAD_REQUEST),
    V("chunk-end-in-bare-lf", chunks(b"5\r\nhello\r\n0\r\n\n"), BAD_REQUEST),
    V("chunk-end-in-bare-cr", chunks(b"5\r\nhello\r\n0\r\n\rX\r\n"), BAD_REQUEST),
]

TRAILERS = [
    V("trailer", trailers(b"X-Sum: 1"), with_trailers(b"X-Sum: 1")),
    V("trailers-in-order", trailers(b"X-A: 1", b"X-B: 2", b"X-A: 3"), with_trailers(b"X-A: 1", b"X-B: 2", b"X-A: 3")),
    V(
        "trailers-that-frame-route-or-authenticate",
        trailers(
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"Host: b.test",
            b"Connection: close",
            b"Authorization: Basic eA==",
            b"Cookie: a=b",
            b"X-Forwarded-For: 6.6.6.6",
            b"Forwarded: for=6.6.6.6",
            b"X-Request-Id: 1",
            b"Trailer: X-Sum",
            b"Content-Type: a/b",
            b"Content-Encoding: gzip",
            b"Expect: 100-continue",
            b"TE: x",
            b"Upgrade: x",
            b"X-Sum: 1",
        ),
        with_trailers(b"X-Sum: 1"),
    ),
    V("trailers-in-underscore-spelling", trailers(b"Content_Length: 5", b"X_Forwarded_For: 6.6.6.6"), HELLO),
    V("trailer-empty-value", trailers(b"X-Sum:"), with_trailers(b"X-Sum:")),
    V("trailer-folded", trailers(b"X-Sum: 1", b" 2"), BAD_REQUEST),
    V("trailer-without-colon", trailers(b"X-Sum"), BAD_REQUEST),
    V("trailer-without-name", trailers(b": 1"), BAD_REQUEST),
    V("trailer-with-space-before-colon", trailers(b"X-Sum : 1"), BAD_REQUEST),
    V("trailer-with-nul", trailers(b"X-Sum: 1\x00"), BAD_REQUEST),
    V("trailer-with-bare-lf", trailers(b"X-Sum: 1\nX-B: 2"), BAD_REQUEST),
    V("trailer-with-bare-cr", trailers(b"X-Sum: 1\rX-B: 2"), BAD_REQUEST),
    V("trailers-too-large", trailers(*[b"X-Sum: " + b"x" * 1000] * 20), BAD_REQUEST),
]

AFTER = [
    V(
        "chunks-then-next-request",
        chunks(HELLO_CHUNKED) + target(b"/next"),
        Forwarded((request(b"POST /", framing=CHUNKED, body=HELLO_CHUNKED), request(b"GET /next"))),
    ),
    V(
        "chunks-then-garbage",
        chunks(HELLO_CHUNKED) + b"\x00garbage\r\n\r\n",
        Forwarded((request(b"POST /", framing=CHUNKED, body=HELLO_CHUNKED),), kept=False, then=400),
    ),
    V(
        "chunks-without-last",
        chunks(b"5\r\nhello\r\n"),
        BrokenOff(request(b"POST /", framing=CHUNKED, body=b"5\r\nhello\r\n")),
        half_close=True,
    ),
    V(
        "chunks-without-final-line-end",
        chunks(b"5\r\nhello\r\n0\r\n"),
        BrokenOff(request(b"POST /", framing=CHUNKED, body=b"5\r\nhello\r\n")),
        half_close=True,
    ),
]

CHUNKS = SIZES + EXTENSIONS + LINE_ENDS + TRAILERS + AFTER
