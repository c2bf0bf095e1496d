"""What concerns this hop alone, and what clients say of those before them (RFC 9110 §7.6, §7.8, §10.1.1)."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    CHUNKED,
    Refused,
    RequestVector,
    forwarded,
    get,
    post,
)

V = RequestVector
BARE = forwarded(b"GET /")
LENGTH = b"Content-Length: 5"

HOP_BY_HOP = [
    V("connection-close", get(b"Connection: close"), forwarded(b"GET /", kept=False)),
    V("connection-close-in-capitals", get(b"CONNECTION: CLOSE"), forwarded(b"GET /", kept=False)),
    V("connection-close-among-others", get(b"Connection: x-a, Close ,"), forwarded(b"GET /", kept=False)),
    V("connection-close-and-keep-alive", get(b"Connection: keep-alive, close"), forwarded(b"GET /", kept=False)),
    V("connection-keep-alive", get(b"Connection: keep-alive"), BARE),
    V("connection-empty", get(b"Connection:"), BARE),
    V(
        "connection-names-a-field",
        get(b"Connection: X-Hop", b"X-Hop: 1", b"X-End: 2"),
        forwarded(b"GET /", b"X-End: 2"),
    ),
    V("connection-names-a-field-in-other-case", get(b"x-hop: 1", b"connection: keep-alive,X-HOP"), BARE),
    V("connection-names-fields-on-two-lines", get(b"Connection: X-A", b"X-A: 1", b"Connection: X-B", b"X-B: 2"), BARE),
    V("connection-names-a-field-twice-there", get(b"Connection: X-A", b"X-A: 1", b"X-A: 2"), BARE),
    V("connection-names-forwarding", get(b"Connection: X-Forwarded-For, X-Forwarded-Host, Via, X-Request-Id"), BARE),
    V("connection-names-too-much", get(b"Connection: " + b", ".join(b"X-%d" % n for n in range(40))), BAD_REQUEST),
    V("keep-alive", get(b"Keep-Alive: timeout=5, max=100"), BARE),
    V("proxy-connection", get(b"Proxy-Connection: keep-alive"), BARE),
    V("proxy-authorization", get(b"Proxy-Authorization: Basic eDp5"), BARE),
    V("te", get(b"TE: trailers, gzip"), BARE),
    V("hop-fields-in-odd-case", get(b"kEEP-aLIVE: 1", b"te: x", b"PROXY-CONNECTION: x"), BARE),
    V(
        "hop-fields-in-underscore-spelling",
        get(b"Keep_Alive: 1", b"Proxy_Connection: x", b"Proxy-Authorization: x"),
        BARE,
    ),
    V(
        "field-names-that-begin-alike",
        get(b"TEA: 1", b"Hostess: 2", b"Expectation: 3"),
        forwarded(b"GET /", b"TEA: 1", b"Hostess: 2", b"Expectation: 3"),
    ),
    V("trailer-announcement", get(b"Trailer: X-Sum"), forwarded(b"GET /", b"Trailer: X-Sum")),
    V(
        "upgrade",
        get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        forwarded(b"GET /", b"Sec-WebSocket-Version: 13", framing=(b"Connection: upgrade", b"Upgrade: websocket")),
    ),
    V(
        "upgrade-with-body",
        post(b"Connection: Upgrade", b"Upgrade: websocket", LENGTH, body=b"hello"),
        forwarded(b"POST /", framing=(b"Connection: upgrade", b"Upgrade: websocket", LENGTH), body=b"hello"),
    ),
    V("upgrade-without-connection", get(b"Upgrade: websocket"), BARE),
    V("upgrade-connection-without-upgrade", get(b"Connection: Upgrade"), BARE),
    V(
        "upgrade-in-1.0",
        get(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.0"),
        forwarded(b"GET /", via=b"1.0", kept=False),
    ),
    V(
        "upgrade-to-h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        BARE,
    ),
    V("upgrade-to-h2c-in-capitals", get(b"Connection: Upgrade", b"Upgrade: H2C"), BARE),
    V("upgrade-to-h2c-among-others", get(b"Connection: Upgrade", b"Upgrade: websocket, h2c"), BARE),
    V("upgrade-to-h2c-on-second-line", get(b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"), BARE),
    V("upgrade-to-h2c-on-first-line", get(b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"), BARE),
    V("upgrade-to-tls", get(b"Connection: Upgrade", b"Upgrade: TLS/1.0"), BARE),
]

EXPECTATIONS = [
    V(
        "expect",
        post(b"Expect: 100-continue", LENGTH, body=b"hello"),
        forwarded(b"POST /", framing=(b"Expect: 100-continue", LENGTH), body=b"hello"),
    ),
    V(
        "expect-in-capitals",
        post(b"EXPECT: 100-CONTINUE", LENGTH, body=b"hello"),
        forwarded(b"POST /", framing=(b"Expect: 100-continue", LENGTH), body=b"hello"),
    ),
    V(
        "expect-in-1.0",
        post(b"Expect: 100-continue", LENGTH, body=b"hello", line=b"POST / HTTP/1.0"),
        forwarded(b"POST /", framing=LENGTH, body=b"hello", via=b"1.0", kept=False),
    ),
    V("expect-unknown", post(b"Expect: 200-ok", LENGTH, body=b"hello"), Refused(417)),
    V("expect-empty", post(b"Expect:", LENGTH, body=b"hello"), Refused(417)),
    V("expect-with-more", post(b"Expect: 100-continue, x", LENGTH, body=b"hello"), Refused(417)),
    V("expect-quoted", post(b'Expect: "100-continue"', LENGTH, body=b"hello"), Refused(417)),
    V("expect-cut", post(b"Expect: 100-continu", LENGTH, body=b"hello"), Refused(417)),
    V("expect-twice-one-unknown", post(b"Expect: 100-continue", b"Expect: x", LENGTH, body=b"hello"), Refused(417)),
]

_SPOOFED = (
    b"X-Forwarded-For", b"x-forwarded-for", b"X-FORWARDED-FOR", b"X_Forwarded_For", b"X-Forwarded_For",
    b"x_forwarded-for", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Forwarded-Server",
    b"X-Forwarded-Prefix", b"X-Forwarded-Ssl", b"X-Forwarded-Scheme", b"X_FORWARDED_PROTO", b"X-Real-IP", b"X_Real_IP",
    b"Forwarded", b"forwarded", b"X-Request-Id", b"X_Request_Id",
)  # fmt: skip

FORWARDING = [
    *(V(f"spoofed-{name.decode()}", get(name + b": 6.6.6.6"), BARE) for name in _SPOOFED),
    V("spoofed-all-at-once", get(*(name + b": 6.6.6.6" for name in _SPOOFED[:8])), BARE),
    V("via-of-those-before-stays", get(b"Via: 1.0 before"), forwarded(b"GET /", b"Via: 1.0 before")),
    V(
        "chunked-and-spoofed",
        post(b"X-Real-IP: 6.6.6.6", CHUNKED, body=b"0\r\n\r\n"),
        forwarded(b"POST /", framing=CHUNKED, body=b"0\r\n\r\n"),
    ),
]

HOPS = HOP_BY_HOP + EXPECTATIONS + FORWARDING
