"""Whom a request is for: Host (RFC 9110 §7.2, RFC 9112 §3.2) and the target's forms and spellings (RFC 3986 §6)."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    Forwarded,
    Refused,
    RequestVector,
    forwarded,
    get,
    target,
)

V = RequestVector


def host(value: bytes) -> bytes:
    """A GET with this value of Host."""
    return get(host=b"Host: " + value + b"\r\n")


def hosts(*lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with these lines."""
    return get(line=b"GET / " + version, host=b"".join(line + b"\r\n" for line in lines))


def path(normal: bytes) -> Forwarded:
    return forwarded(b"GET " + normal)


NO_ROUTE = Refused(404, kept=True)

HOSTS = [
    V("host", host(b"a.test"), path(b"/")),
    V("host-with-port", host(b"a.test:8080"), forwarded(b"GET /", host=b"a.test:8080")),
    V("host-with-empty-port", host(b"a.test:"), forwarded(b"GET /", host=b"a.test:")),
    V("host-in-upper-case", host(b"A.TEST"), forwarded(b"GET /", host=b"A.TEST")),
    V("host-with-final-dot", host(b"a.test."), forwarded(b"GET /", host=b"a.test.")),
    V("host-of-ipv4", host(b"127.0.0.1"), forwarded(b"GET /", host=b"127.0.0.1")),
    V("host-of-ipv6", host(b"[::1]:8080"), forwarded(b"GET /", host=b"[::1]:8080")),
    V("host-name-in-upper-case", hosts(b"HOST: a.test"), path(b"/")),
    V("host-name-in-odd-case", hosts(b"hOsT: a.test"), path(b"/")),
    V("host-last", hosts(b"X-A: 1", b"Host: a.test"), forwarded(b"GET /", b"X-A: 1")),
    V("host-before-white-space", host(b"a.test \t"), path(b"/")),
    V("host-unknown", host(b"nowhere.test"), NO_ROUTE),
    V("host-none", hosts(), BAD_REQUEST),
    V("host-none-in-1.0", hosts(version=b"HTTP/1.0"), Refused(404)),
    V("host-empty", hosts(b"Host:"), BAD_REQUEST),
    V("host-blank", hosts(b"Host: \t"), BAD_REQUEST),
    V("host-twice-the-same", hosts(b"Host: a.test", b"Host: a.test"), BAD_REQUEST),
    V("host-twice-different", hosts(b"Host: a.test", b"Host: b.test"), BAD_REQUEST),
    V("host-twice-in-different-case", hosts(b"Host: a.test", b"host: b.test"), BAD_REQUEST),
    V("host-twice-one-empty", hosts(b"Host: a.test", b"Host:"), BAD_REQUEST),
    V("host-twice-in-1.0", hosts(b"Host: a.test", b"Host: b.test", version=b"HTTP/1.0"), BAD_REQUEST),
    V("host-twice-with-space-before-colon", hosts(b"Host: a.test", b"Host : b.test"), BAD_REQUEST),
    V("host-with-userinfo", host(b"user:secret@a.test"), BAD_REQUEST),
    V("host-with-at", host(b"b.test@a.test"), BAD_REQUEST),
    V("host-in-two-words", host(b"a.test b.test"), BAD_REQUEST),
    V("host-list", host(b"a.test, b.test"), BAD_REQUEST),
    V("host-list-without-space", host(b"a.test,b.test"), BAD_REQUEST),
    V("host-with-named-port", host(b"a.test:http"), BAD_REQUEST),
    V("host-with-port-too-high", host(b"a.test:65536"), BAD_REQUEST),
    V("host-with-port-of-six-digits", host(b"a.test:000080"), BAD_REQUEST),
    V("host-with-negative-port", host(b"a.test:-1"), BAD_REQUEST),
    V("host-with-two-ports", host(b"a.test:80:80"), BAD_REQUEST),
    V("host-nothing-but-port", host(b":80"), BAD_REQUEST),
    V("host-with-path", host(b"a.test/x"), BAD_REQUEST),
    V("host-with-query", host(b"a.test?x"), BAD_REQUEST),
    V("host-with-fragment", host(b"a.test#x"), BAD_REQUEST),
    V("host-with-backslash", host(b"a.test\\b.test"), BAD_REQUEST),
    V("host-with-scheme", host(b"http://a.test"), BAD_REQUEST),
    V("host-percent-encoded", host(b"a%2etest"), BAD_REQUEST),
    V("host-not-ascii", host("ä.test".encode()), BAD_REQUEST),
    V("host-with-nul", host(b"a.test\x00.b.test"), BAD_REQUEST),
    V("host-with-tab", host(b"a\ttest"), BAD_REQUEST),
    V("host-with-semicolon", host(b"a.test;b"), BAD_REQUEST),
    V("host-with-quote", host(b'a.test"'), BAD_REQUEST),
    V("host-of-bare-ipv6", host(b"::1"), BAD_REQUEST),
    V("host-of-open-bracket", host(b"[::1"), BAD_REQUEST),
    V("host-of-empty-brackets", host(b"[]"), BAD_REQUEST),
    V("host-of-no-ipv6", host(b"[1.2.3.4.5]"), BAD_REQUEST),
    V("host-of-ipv6-with-zone", host(b"[fe80::1%25eth0]"), BAD_REQUEST),
    V("host-too-long", host(b"a" * 300 + b".test"), BAD_REQUEST),
    V("host-with-space-before-colon", hosts(b"Host : a.test"), BAD_REQUEST),
    V("host-on-folded-line", hosts(b"Host:\r\n a.test"), BAD_REQUEST),
    V("host-named-by-connection", get(b"Connection: Host"), path(b"/")),
]

FORMS = [
    V("absolute-form", target(b"http://a.test/x?y=z"), path(b"/x?y=z")),
    V("absolute-form-replaces-host", target(b"http://b.test/x"), forwarded(b"GET /x", host=b"b.test")),
    V("absolute-form-with-port", target(b"http://b.test:81/x"), forwarded(b"GET /x", host=b"b.test:81")),
    V("absolute-form-in-upper-case", target(b"HTTP://B.TEST/x"), forwarded(b"GET /x", host=b"B.TEST")),
    V("absolute-form-without-path", target(b"http://a.test"), path(b"/")),
    V("absolute-form-without-path-but-query", target(b"http://a.test?y=z"), path(b"/?y=z")),
    V("absolute-form-is-normalized", target(b"http://a.test/a/%2e%2e//b"), path(b"/b")),
    V("absolute-form-to-unknown-host", target(b"http://nowhere.test/x"), NO_ROUTE),
    # RFC 9112 §3.2: a bad Host is refused, though the target's authority would replace it.
    V("absolute-form-without-host", b"GET http://a.test/ HTTP/1.1\r\n\r\n", BAD_REQUEST),
    V("absolute-form-with-bad-host", b"GET http://a.test/ HTTP/1.1\r\nHost: a b\r\n\r\n", BAD_REQUEST),
    V(
        "absolute-form-with-two-hosts",
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        BAD_REQUEST,
    ),
    V("absolute-form-with-userinfo", target(b"http://user:secret@a.test/"), BAD_REQUEST),
    V("absolute-form-with-bad-port", target(b"http://a.test:port/"), BAD_REQUEST),
    V("absolute-form-with-empty-authority", target(b"http:///x"), BAD_REQUEST),
    V("absolute-form-with-fragment", target(b"http://a.test/x#y"), BAD_REQUEST),
    V("absolute-form-with-backslash", target(b"http://a.test\\@b.test/"), BAD_REQUEST),
    # RFC 9110 §7.4: an https resource is not served over a connection without TLS.
    V("absolute-form-of-https", target(b"https://a.test/"), Refused(421)),
    V("absolute-form-of-ftp", target(b"ftp://a.test/"), BAD_REQUEST),
    V("absolute-form-of-file", target(b"file:///etc/passwd"), BAD_REQUEST),
    V(
        "absolute-form-in-1.0",
        b"GET http://b.test/x HTTP/1.0\r\n\r\n",
        forwarded(b"GET /x", host=b"b.test", via=b"1.0", kept=False),
    ),
    V("authority-form", target(b"a.test:80"), BAD_REQUEST),
    V("relative-target", target(b"x"), BAD_REQUEST),
    V("relative-target-of-dots", target(b"../x"), BAD_REQUEST),
    V("query-without-path", target(b"?x"), BAD_REQUEST),
    V("asterisk-of-options", target(b"*", b"OPTIONS"), forwarded(b"OPTIONS *")),
    # RFC 9112 §3.2.4.
    V("asterisk-of-options-in-absolute-form", target(b"http://a.test", b"OPTIONS"), forwarded(b"OPTIONS *")),
    V("asterisk-of-get", target(b"*"), BAD_REQUEST),
    V("asterisk-with-more", target(b"*x", b"OPTIONS"), BAD_REQUEST),
]

PATHS = [
    V("path-double-slash", target(b"//a//b"), path(b"/a/b")),
    V("path-like-an-authority", target(b"//b.test/x"), path(b"/b.test/x")),
    V("path-like-a-url", target(b"/http://b.test/x"), path(b"/http:/b.test/x")),
    V("path-dot", target(b"/./a/./b/."), path(b"/a/b/")),
    V("path-dot-dot", target(b"/a/../b"), path(b"/b")),
    V("path-dot-dot-last", target(b"/a/b/.."), path(b"/a/")),
    V("path-dot-dot-to-root", target(b"/a/.."), path(b"/")),
    V("path-three-dots", target(b"/.../a"), path(b"/.../a")),
    V("path-dot-file", target(b"/.well-known/x"), path(b"/.well-known/x")),
    V("path-above-root", target(b"/../a"), BAD_REQUEST),
    V("path-above-root-later", target(b"/a/../../b"), BAD_REQUEST),
    V("path-above-root-over-double-slash", target(b"/a//../../b"), BAD_REQUEST),
    V("path-encoded-dots", target(b"/a/%2e%2e/b"), path(b"/b")),
    V("path-half-encoded-dots", target(b"/a/.%2E/b"), path(b"/b")),
    V("path-encoded-dot", target(b"/a/%2e/b"), path(b"/a/b")),
    V("path-encoded-dots-above-root", target(b"/%2e%2e/etc/passwd"), BAD_REQUEST),
    V("path-dots-behind-encoded-slash", target(b"/a/..%2fb"), path(b"/a/..%2Fb")),
    V("path-dots-with-parameter", target(b"/a/..;/b"), BAD_REQUEST),
    V("path-encoded-slash", target(b"/a%2fb"), path(b"/a%2Fb")),
    V("path-encoded-slash-doubled", target(b"/a%2f%2fb"), path(b"/a%2F%2Fb")),
    V("path-encoded-letters", target(b"/%61%42%7e%2D"), path(b"/aB~-")),
    V("path-encoded-utf-8", target(b"/caf%c3%a9"), path(b"/caf%C3%A9")),
    V("path-encoded-space", target(b"/a%20b"), path(b"/a%20b")),
    V("path-encoded-percent", target(b"/%252e%252e/"), path(b"/%252e%252e/")),
    V("path-encoded-line-end", target(b"/a%0d%0aX-A:%201"), path(b"/a%0D%0AX-A:%201")),
    V("path-plus-and-semicolon", target(b"/a+b;c=d,e"), path(b"/a+b;c=d,e")),
    V("path-encoded-nul", target(b"/a%00b"), BAD_REQUEST),
    V("path-encoded-backslash", target(b"/a%5c..%5cb"), BAD_REQUEST),
    V("path-backslash", target(b"/a\\b"), BAD_REQUEST),
    V("path-backslash-dots", target(b"/..\\..\\etc"), BAD_REQUEST),
    V("path-bad-escape", target(b"/%zz"), BAD_REQUEST),
    V("path-cut-escape", target(b"/%4"), BAD_REQUEST),
    V("path-percent-last", target(b"/a%"), BAD_REQUEST),
    V("path-escape-of-unicode", target(b"/%u002e%u002e/"), BAD_REQUEST),
    V("path-escape-with-sign", target(b"/%+41"), BAD_REQUEST),
    V("path-fragment", target(b"/a#b"), BAD_REQUEST),
    V("path-latin-1", target(b"/caf\xe9"), BAD_REQUEST),
    V("path-utf-8", target("/café".encode()), BAD_REQUEST),
    V("path-overlong-utf-8", target(b"/\xc0\xae\xc0\xae/"), BAD_REQUEST),
    V("path-space", target(b"/a b"), BAD_REQUEST),
    V("path-tab", target(b"/a\tb"), BAD_REQUEST),
    V("path-nul", target(b"/a\x00b"), BAD_REQUEST),
    V("path-del", target(b"/a\x7fb"), BAD_REQUEST),
    V("path-form-feed", target(b"/a\x0cb"), BAD_REQUEST),
    V("path-bare-cr", target(b"/a\rb"), BAD_REQUEST),
    V("path-bare-lf", target(b"/a\nb"), BAD_REQUEST),
    V("query-passes-as-it-is", target(b"/x?a=%2e%2E&b=/../&&c=%zz"), path(b"/x?a=%2e%2E&b=/../&&c=%zz")),
    V("query-of-question-marks", target(b"/x??a=b?"), path(b"/x??a=b?")),
    V("query-empty", target(b"/x?"), path(b"/x?")),
    V("query-fragment", target(b"/x?a#b"), BAD_REQUEST),
    V("query-space", target(b"/x?a b"), BAD_REQUEST),
    V("query-nul", target(b"/x?a\x00b"), BAD_REQUEST),
    V("query-not-ascii", target(b"/x?caf\xe9"), BAD_REQUEST),
]

TARGETS = HOSTS + FORMS + PATHS
