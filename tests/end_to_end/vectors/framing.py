"""Where a request's body ends: Content-Length, Transfer-Encoding and both (RFC 9112 §6, RFC 9110 §8.6)."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    CHUNKED,
    HELLO_CHUNKED,
    Forwarded,
    Refused,
    RequestVector,
    forwarded,
    get,
    post,
    request,
)

V = RequestVector

HELLO = forwarded(b"POST /", framing=b"Content-Length: 5", body=b"hello")
CHUNKED_HELLO = forwarded(b"POST /", framing=CHUNKED, body=HELLO_CHUNKED)


def length(value: bytes) -> bytes:
    """A POST whose body is `hello`, and whose Content-Length has this value."""
    return post(b"Content-Length: " + value, body=b"hello")


def coding(value: bytes) -> bytes:
    """A POST with a chunked body and this value of Transfer-Encoding."""
    return post(b"Transfer-Encoding: " + value, body=HELLO_CHUNKED)


LENGTHS = [
    V("length", length(b"5"), HELLO),
    V("length-zero", post(b"Content-Length: 0"), forwarded(b"POST /", framing=b"Content-Length: 0")),
    V("length-with-leading-zeros", length(b"0000000005"), HELLO),
    V("length-without-space", post(b"Content-Length:5", body=b"hello"), HELLO),
    V("length-between-spaces-and-tabs", length(b" \t5\t "), HELLO),
    V("length-in-lower-case-name", post(b"content-length: 5", body=b"hello"), HELLO),
    V("length-in-odd-case-name", post(b"cOnTeNt-LeNgTh: 5", body=b"hello"), HELLO),
    V(
        "length-on-get",
        get(b"Content-Length: 5") + b"hello",
        forwarded(b"GET /", framing=b"Content-Length: 5", body=b"hello"),
    ),
    V("length-with-plus", length(b"+5"), BAD_REQUEST),
    V("length-negative", length(b"-5"), BAD_REQUEST),
    V("length-minus-zero", length(b"-0"), BAD_REQUEST),
    V("length-hexadecimal", length(b"0x5"), BAD_REQUEST),
    V("length-with-letter", length(b"5a"), BAD_REQUEST),
    V("length-with-underscore", length(b"0_5"), BAD_REQUEST),
    V("length-with-point", length(b"5.0"), BAD_REQUEST),
    V("length-with-exponent", length(b"5e0"), BAD_REQUEST),
    V("length-in-two-words", length(b"5 5"), BAD_REQUEST),
    V("length-in-arabic-digits", length(b"\xd9\xa5"), BAD_REQUEST),
    V("length-quoted", length(b'"5"'), BAD_REQUEST),
    V("length-with-parameter", length(b"5;a=b"), BAD_REQUEST),
    V("length-list-of-equals", length(b"5, 5"), BAD_REQUEST),
    V("length-list-of-equals-without-space", length(b"5,5"), BAD_REQUEST),
    V("length-list-of-different", length(b"5, 6"), BAD_REQUEST),
    V("length-list-with-empty-member", length(b"5,"), BAD_REQUEST),
    V("length-empty", length(b""), BAD_REQUEST),
    V("length-blank", length(b"  \t"), BAD_REQUEST),
    V("length-with-nul", length(b"5\x00"), BAD_REQUEST),
    V("length-with-vertical-tab", length(b"\x0b5"), BAD_REQUEST),
    V("length-twice-the-same", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), BAD_REQUEST),
    V("length-twice-different", post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello"), BAD_REQUEST),
    V("length-twice-in-different-case", post(b"Content-Length: 0", b"content-length: 5", body=b"hello"), BAD_REQUEST),
    V("length-past-64-bits", length(b"18446744073709551621"), BAD_REQUEST),
    V("length-beyond-the-limit", length(b"4097"), Refused(413)),
    V("length-in-nineteen-digits", length(b"9223372036854775807"), Refused(413)),
    V("length-on-folded-line", post(b"Content-Length:\r\n 5", body=b"hello"), BAD_REQUEST),
    V("length-with-space-before-colon", post(b"Content-Length : 5", body=b"hello"), BAD_REQUEST),
    V("length-with-tab-before-colon", post(b"Content-Length\t: 5", body=b"hello"), BAD_REQUEST),
    V("length-with-space-before-name", post(b"X-A: 1", b" Content-Length: 5", body=b"hello"), BAD_REQUEST),
    V("length-with-underscore-name", get(b"Content_Length: 5"), forwarded(b"GET /")),
    V(
        "length-shorter-than-what-follows",
        length(b"4") + b"\x00",
        Forwarded((request(b"POST /", framing=b"Content-Length: 4", body=b"hell"),), kept=False, then=400),
    ),
]

CODINGS = [
    V("chunked", coding(b"chunked"), CHUNKED_HELLO),
    V("chunked-on-get", get(CHUNKED) + HELLO_CHUNKED, forwarded(b"GET /", framing=CHUNKED, body=HELLO_CHUNKED)),
    V("chunked-in-upper-case", coding(b"CHUNKED"), CHUNKED_HELLO),
    V("chunked-in-mixed-case", coding(b"cHuNkEd"), CHUNKED_HELLO),
    V("chunked-without-space", post(b"Transfer-Encoding:chunked", body=HELLO_CHUNKED), CHUNKED_HELLO),
    V("chunked-after-tab", post(b"Transfer-Encoding:\tchunked", body=HELLO_CHUNKED), CHUNKED_HELLO),
    V("chunked-before-space", coding(b"chunked "), CHUNKED_HELLO),
    # White space by the grammar, but not to llhttp, and so not to backends in Node.
    V("chunked-before-tab", coding(b"chunked\t"), BAD_REQUEST),
    V("coding-in-odd-case-name", post(b"tRANSFER-eNCODING: chunked", body=HELLO_CHUNKED), CHUNKED_HELLO),
    V("coding-empty", coding(b""), BAD_REQUEST),
    V("coding-unknown", coding(b"xchunked"), BAD_REQUEST),
    V("coding-cut", coding(b"chunke"), BAD_REQUEST),
    V("coding-identity", coding(b"identity"), BAD_REQUEST),
    V("coding-gzip", coding(b"gzip"), BAD_REQUEST),
    V("coding-gzip-then-chunked", coding(b"gzip, chunked"), Refused(501)),
    V("coding-identity-then-chunked", coding(b"identity, chunked"), Refused(501)),
    V("coding-chunked-then-gzip", coding(b"chunked, gzip"), BAD_REQUEST),
    V("coding-chunked-then-identity", coding(b"chunked, identity"), BAD_REQUEST),
    V("coding-chunked-twice", coding(b"chunked, chunked"), BAD_REQUEST),
    V("coding-chunked-twice-without-space", coding(b"chunked,chunked"), BAD_REQUEST),
    V("coding-chunked-gzip-chunked", coding(b"chunked, gzip, chunked"), BAD_REQUEST),
    V("coding-after-empty-member", coding(b", chunked"), BAD_REQUEST),
    V("coding-before-empty-member", coding(b"chunked,"), BAD_REQUEST),
    V("coding-with-parameter", coding(b"chunked;q=1"), BAD_REQUEST),
    V("coding-quoted", coding(b'"chunked"'), BAD_REQUEST),
    V("coding-in-two-words", coding(b"chunked chunked"), BAD_REQUEST),
    V("coding-after-vertical-tab", coding(b"\x0bchunked"), BAD_REQUEST),
    V("coding-before-vertical-tab", coding(b"chunked\x0b"), BAD_REQUEST),
    V("coding-after-form-feed", coding(b"\x0cchunked"), BAD_REQUEST),
    V("coding-with-nul", coding(b"chunked\x00"), BAD_REQUEST),
    V("coding-after-no-break-space", coding(b"\xa0chunked"), BAD_REQUEST),
    V("coding-before-no-break-space", coding(b"chunked\xa0"), BAD_REQUEST),
    V("coding-with-space-before-colon", post(b"Transfer-Encoding : chunked", body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-with-tab-before-colon", post(b"Transfer-Encoding\t: chunked", body=HELLO_CHUNKED), BAD_REQUEST),
    V(
        "coding-with-space-before-name",
        post(b"X-A: 1", b" Transfer-Encoding: chunked", body=HELLO_CHUNKED),
        BAD_REQUEST,
    ),
    V("coding-on-folded-line", post(b"Transfer-Encoding:\r\n chunked", body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-folded-after-value", post(b"Transfer-Encoding: chunked\r\n , identity", body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-with-underscore-name", get(b"Transfer_Encoding: chunked"), forwarded(b"GET /")),
    V("coding-on-two-lines", post(CHUNKED, CHUNKED, body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-gzip-on-line-before", post(b"Transfer-Encoding: gzip", CHUNKED, body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-identity-on-line-after", post(CHUNKED, b"Transfer-Encoding: identity", body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-x-on-line-after", post(CHUNKED, b"Transfer-encoding: x", body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-in-1.0", post(CHUNKED, body=HELLO_CHUNKED, line=b"POST / HTTP/1.0"), BAD_REQUEST),
    V(
        "coding-in-1.0-with-keep-alive",
        post(CHUNKED, b"Connection: keep-alive", body=HELLO_CHUNKED, line=b"POST / HTTP/1.0"),
        BAD_REQUEST,
    ),
]

BOTH = [
    V("length-then-coding", post(b"Content-Length: 15", CHUNKED, body=HELLO_CHUNKED), BAD_REQUEST),
    V("coding-then-length", post(CHUNKED, b"Content-Length: 15", body=HELLO_CHUNKED), BAD_REQUEST),
    V("length-zero-and-coding", post(b"Content-Length: 0", CHUNKED, body=HELLO_CHUNKED), BAD_REQUEST),
    V(
        "length-and-coding-with-request-inside",
        post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nGET /inside HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        BAD_REQUEST,
    ),
    V("length-and-unknown-coding", post(b"Content-Length: 5", b"Transfer-Encoding: x", body=b"hello"), BAD_REQUEST),
    V("length-and-identity", post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"), BAD_REQUEST),
    V("length-and-empty-coding", post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello"), BAD_REQUEST),
    V(
        "length-and-coding-in-1.0",
        post(b"Content-Length: 5", CHUNKED, body=b"hello", line=b"POST / HTTP/1.0"),
        BAD_REQUEST,
    ),
    V("length-and-coding-after-bare-lf", post(b"Content-Length: 5", b"X-A: 1\n" + CHUNKED, body=b"hello"), BAD_REQUEST),
    V("length-and-coding-after-bare-cr", post(b"Content-Length: 5", b"X-A: 1\r" + CHUNKED, body=b"hello"), BAD_REQUEST),
    V("length-named-by-connection", post(b"Connection: Content-Length", b"Content-Length: 5", body=b"hello"), HELLO),
    V("coding-named-by-connection", post(b"Connection: Transfer-Encoding", CHUNKED, body=HELLO_CHUNKED), CHUNKED_HELLO),
]

FRAMING = LENGTHS + CODINGS + BOTH
