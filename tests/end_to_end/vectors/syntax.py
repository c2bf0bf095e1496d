"""Request lines, methods, versions, field lines and line ends (RFC 9112 §2.2, §3, §5)."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    AnsweredHere,
    Refused,
    RequestVector,
    forwarded,
    get,
    target,
)

V = RequestVector
GET_FORWARDED = forwarded(b"GET /")


def line(text: bytes) -> bytes:
    """A whole request with this request line."""
    return text + b"\r\nHost: a.test\r\n\r\n"


def with_field(field: bytes) -> bytes:
    return get(field)


LINE_ENDS = [
    V("head-in-bare-lf", b"GET / HTTP/1.1\nHost: a.test\n\n", BAD_REQUEST),
    V("head-in-bare-cr", b"GET / HTTP/1.1\rHost: a.test\r\r", BAD_REQUEST),
    V("request-line-before-bare-lf", b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", BAD_REQUEST),
    V("request-line-before-bare-cr", b"GET / HTTP/1.1\rHost: a.test\r\n\r\n", BAD_REQUEST),
    V("request-line-before-two-crs", b"GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n", BAD_REQUEST),
    V("field-before-bare-lf", get(b"X-A: 1\nX-B: 2"), BAD_REQUEST),
    V("field-before-bare-cr", get(b"X-A: 1\rX-B: 2"), BAD_REQUEST),
    V("field-before-two-crs", get(b"X-A: 1\r"), BAD_REQUEST),
    V("head-ends-in-bare-lf", b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", BAD_REQUEST),
    V("head-ends-in-two-bare-lfs", b"GET / HTTP/1.1\r\nHost: a.test\n\n", BAD_REQUEST),
    V("head-ends-in-lf-crlf", b"GET / HTTP/1.1\r\nHost: a.test\n\r\n", BAD_REQUEST),
    V("empty-line-first", b"\r\n" + get(), GET_FORWARDED),
    V("empty-lines-first", b"\r\n" * 3 + get(), GET_FORWARDED),
    V("bare-lf-first", b"\n" + get(), BAD_REQUEST),
    V("bare-cr-first", b"\r" + get(), BAD_REQUEST),
    V("space-first", b" " + get(), BAD_REQUEST),
    V("nul-first", b"\x00" + get(), BAD_REQUEST),
    V("byte-order-mark-first", b"\xef\xbb\xbf" + get(), BAD_REQUEST),
]

REQUEST_LINES = [
    V("two-spaces-before-target", line(b"GET  / HTTP/1.1"), BAD_REQUEST),
    V("two-spaces-before-version", line(b"GET /  HTTP/1.1"), BAD_REQUEST),
    V("tab-before-target", line(b"GET\t/ HTTP/1.1"), BAD_REQUEST),
    V("tab-before-version", line(b"GET /\tHTTP/1.1"), BAD_REQUEST),
    V("space-after-version", line(b"GET / HTTP/1.1 "), BAD_REQUEST),
    V("words-after-version", line(b"GET / HTTP/1.1 x"), BAD_REQUEST),
    V("no-method", line(b" / HTTP/1.1"), BAD_REQUEST),
    V("no-target", line(b"GET HTTP/1.1"), BAD_REQUEST),
    V("empty-target", line(b"GET  HTTP/1.1"), BAD_REQUEST),
    V("nothing-but-method", b"GET\r\n\r\n", BAD_REQUEST),
]

VERSIONS = [
    V("http-0.9-simple", b"GET /\r\n\r\n", BAD_REQUEST),
    V("http-0.9-with-fields", line(b"GET /"), BAD_REQUEST),
    V("http-0.9", line(b"GET / HTTP/0.9"), Refused(505)),
    V("http-1.0", line(b"GET / HTTP/1.0"), forwarded(b"GET /", via=b"1.0", kept=False)),
    V("http-1.0-keep-alive", get(b"Connection: keep-alive", line=b"GET / HTTP/1.0"), forwarded(b"GET /", via=b"1.0")),
    V("http-1.2", line(b"GET / HTTP/1.2"), Refused(505)),
    V("http-1.9", line(b"GET / HTTP/1.9"), Refused(505)),
    V("http-2.0", line(b"GET / HTTP/2.0"), Refused(505)),
    V("http-3.0", line(b"GET / HTTP/3.0"), Refused(505)),
    V("version-in-lower-case", line(b"GET / http/1.1"), BAD_REQUEST),
    V("version-of-two-digits", line(b"GET / HTTP/1.10"), BAD_REQUEST),
    V("version-with-leading-zero", line(b"GET / HTTP/01.1"), BAD_REQUEST),
    V("version-without-minor", line(b"GET / HTTP/1"), BAD_REQUEST),
    V("version-with-comma", line(b"GET / HTTP/1,1"), BAD_REQUEST),
    V("version-with-space", line(b"GET / HTTP /1.1"), BAD_REQUEST),
    V("version-with-letter", line(b"GET / HTTP/1.1a"), BAD_REQUEST),
    V("version-with-plus", line(b"GET / HTTP/1.+1"), BAD_REQUEST),
    V("version-of-https", line(b"GET / HTTPS/1.1"), BAD_REQUEST),
    V("version-of-rtsp", line(b"GET / RTSP/1.0"), BAD_REQUEST),
    V("version-of-icecast", line(b"SOURCE / ICE/1.0"), BAD_REQUEST),
    V("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(505)),
    V("http-2-preface-with-settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", Refused(505)),
    V("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 64, BAD_REQUEST),
    V("proxy-protocol-unasked", b"PROXY TCP4 6.6.6.6 127.0.0.1 1 80\r\n" + get(), BAD_REQUEST),
    V("proxy-protocol-2-unasked", b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + b"\1" * 12 + get(), BAD_REQUEST),
    V("ssh-banner", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", BAD_REQUEST),
]

METHODS = [
    *(
        V(f"method-{method.decode().lower()}", target(b"/", method), forwarded(method + b" /"))
        for method in (
            b"OPTIONS",
            b"PUT",
            b"DELETE",
            b"PATCH",
            b"TRACE",
            b"PURGE",
            b"PROPFIND",
            b"MKCOL",
            b"REPORT",
            b"M-SEARCH",
        )
    ),
    V("method-unknown", target(b"/", b"FROBNICATE"), Refused(501)),
    V("method-in-lower-case", target(b"/", b"get"), Refused(501)),
    V("method-in-mixed-case", target(b"/", b"Get"), Refused(501)),
    V("method-longer-than-known", target(b"/", b"GETS"), Refused(501)),
    V("method-of-a-hundred-letters", target(b"/", b"M" * 100), Refused(501)),
    V("method-of-odd-token-characters", target(b"/", b"X!#$%&'*+-.^_`|~1"), Refused(501)),
    V("method-with-parenthesis", target(b"/", b"GE(T"), BAD_REQUEST),
    V("method-with-colon", target(b"/", b"GET:"), BAD_REQUEST),
    V("method-with-nul", target(b"/", b"GET\x00"), BAD_REQUEST),
    V("method-quoted", target(b"/", b'"GET"'), BAD_REQUEST),
    V("method-not-ascii", target(b"/", b"G\xc9T"), BAD_REQUEST),
    V("connect", b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", Refused(501)),
    V("connect-to-inside", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused(501)),
    V("connect-with-path", b"CONNECT / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused(501)),
    V("connect-after-bare-lf", b"\nCONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a.test\r\n\r\n", BAD_REQUEST),
    V("head-after-bare-cr", b"\rHEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n", BAD_REQUEST),
    V("method-the-route-does-not-take", b"DELETE / HTTP/1.1\r\nHost: get.test\r\n\r\n", Refused(405, kept=True)),
    # RFC 9110 §7.6.2: an intermediary counts Max-Forwards down, and answers itself at 0.
    V(
        "options-max-forwards",
        get(b"Max-Forwards: 5", line=b"OPTIONS / HTTP/1.1"),
        forwarded(b"OPTIONS /", b"Max-Forwards: 4"),
    ),
    V("options-max-forwards-zero", get(b"Max-Forwards: 0", line=b"OPTIONS / HTTP/1.1"), AnsweredHere(200)),
    V("get-max-forwards", get(b"Max-Forwards: 0"), forwarded(b"GET /", b"Max-Forwards: 0")),
]

FIELDS = [
    V("field-passes-as-it-is", with_field(b"X-A: \t a  b\t "), forwarded(b"GET /", b"X-A: \t a  b\t ")),
    V("field-without-space", with_field(b"X-A:1"), forwarded(b"GET /", b"X-A:1")),
    V("field-empty", with_field(b"X-A:"), forwarded(b"GET /", b"X-A:")),
    V(
        "field-of-odd-token-characters",
        with_field(b"X!#$%&'*+-.^_`|~1: 1"),
        forwarded(b"GET /", b"X!#$%&'*+-.^_`|~1: 1"),
    ),
    V(
        "fields-of-one-name-in-order",
        get(b"X-A: 1", b"X-B: 2", b"x-a: 3"),
        forwarded(b"GET /", b"X-A: 1", b"X-B: 2", b"x-a: 3"),
    ),
    V("field-in-latin-1", with_field(b"X-A: caf\xe9"), forwarded(b"GET /", b"X-A: caf\xe9")),
    V("field-in-utf-8", with_field("X-A: café".encode()), forwarded(b"GET /", "X-A: café".encode())),
    V("field-with-tab-inside", with_field(b"X-A: a\tb"), forwarded(b"GET /", b"X-A: a\tb")),
    V("field-with-colons", with_field(b"X-A: a:b: c"), forwarded(b"GET /", b"X-A: a:b: c")),
    V("field-without-colon", with_field(b"X-A"), BAD_REQUEST),
    V("field-without-name", with_field(b": 1"), BAD_REQUEST),
    V("field-nothing-but-colon", with_field(b":"), BAD_REQUEST),
    V("field-with-space-before-colon", with_field(b"X-A : 1"), BAD_REQUEST),
    V("field-with-tab-before-colon", with_field(b"X-A\t: 1"), BAD_REQUEST),
    V("field-with-space-in-name", with_field(b"X A: 1"), BAD_REQUEST),
    V("field-with-parenthesis-in-name", with_field(b"X(A): 1"), BAD_REQUEST),
    V("field-with-slash-in-name", with_field(b"X/A: 1"), BAD_REQUEST),
    V("field-with-at-in-name", with_field(b"X@A: 1"), BAD_REQUEST),
    V("field-with-bracket-in-name", with_field(b"X[A]: 1"), BAD_REQUEST),
    V("field-with-quote-in-name", with_field(b'"X-A": 1'), BAD_REQUEST),
    V("field-with-nul-in-name", with_field(b"X\x00A: 1"), BAD_REQUEST),
    V("field-with-high-byte-in-name", with_field(b"X\xe9: 1"), BAD_REQUEST),
    V("field-with-del-in-name", with_field(b"X\x7f: 1"), BAD_REQUEST),
    V("field-with-nul", with_field(b"X-A: a\x00b"), BAD_REQUEST),
    V("field-with-bell", with_field(b"X-A: a\x07b"), BAD_REQUEST),
    V("field-with-escape", with_field(b"X-A: a\x1b[0m"), BAD_REQUEST),
    V("field-with-vertical-tab", with_field(b"X-A: a\x0bb"), BAD_REQUEST),
    V("field-with-del", with_field(b"X-A: a\x7fb"), BAD_REQUEST),
    V("field-folded-with-space", with_field(b"X-A: 1\r\n 2"), BAD_REQUEST),
    V("field-folded-with-tab", with_field(b"X-A: 1\r\n\t2"), BAD_REQUEST),
    V("field-folded-to-nothing", with_field(b"X-A: 1\r\n "), BAD_REQUEST),
    V("first-field-after-space", b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", BAD_REQUEST),
    V("first-field-after-tab", b"GET / HTTP/1.1\r\n\tX-A: 1\r\nHost: a.test\r\n\r\n", BAD_REQUEST),
]

SYNTAX = LINE_ENDS + REQUEST_LINES + VERSIONS + METHODS + FIELDS
