"""Too much, too little, and one after another."""

from __future__ import annotations

from tests.end_to_end.vectors.outcome import (
    BAD_REQUEST,
    BrokenOff,
    Dropped,
    Forwarded,
    Refused,
    RequestVector,
    forwarded,
    get,
    post,
    request,
    target,
)

V = RequestVector

# The limits of the gateway under test, which see `test_vectors`.
HEAD_SIZE = 4096
TARGET_SIZE = 1024
HEADER_COUNT = 30
BODY_SIZE = 4096

_BARE_HEAD = len(get(b"X-A: "))

OVERSIZE = [
    V(
        "head-at-the-limit",
        get(b"X-A: " + b"x" * (HEAD_SIZE - _BARE_HEAD)),
        forwarded(b"GET /", b"X-A: " + b"x" * (HEAD_SIZE - _BARE_HEAD)),
    ),
    V("head-beyond-the-limit", get(b"X-A: " + b"x" * (HEAD_SIZE - _BARE_HEAD + 1)), Refused(431)),
    V("head-that-never-ends", get()[:-2] + b"X-A: " + b"x" * HEAD_SIZE, Refused(431)),
    V(
        "headers-at-the-limit",
        get(*[b"X-A: 1"] * (HEADER_COUNT - 1)),
        forwarded(b"GET /", *[b"X-A: 1"] * (HEADER_COUNT - 1)),
    ),
    V("headers-beyond-the-limit", get(*[b"X-A: 1"] * HEADER_COUNT), Refused(431)),
    V("target-at-the-limit", target(b"/" + b"x" * (TARGET_SIZE - 1)), forwarded(b"GET /" + b"x" * (TARGET_SIZE - 1))),
    V("target-beyond-the-limit", target(b"/" + b"x" * TARGET_SIZE), Refused(414)),
    V("target-beyond-the-limit-in-the-query", target(b"/?" + b"x" * TARGET_SIZE), Refused(414)),
    V("target-that-never-ends", b"GET /" + b"x" * HEAD_SIZE, Refused(414)),
    V(
        "target-beyond-the-limit-on-405",
        b"DELETE /" + b"x" * TARGET_SIZE + b" HTTP/1.1\r\nHost: get.test\r\n\r\n",
        Refused(414),
    ),
    V(
        "body-at-the-limit",
        post(b"Content-Length: 4096", body=b"x" * BODY_SIZE),
        forwarded(b"POST /", framing=b"Content-Length: 4096", body=b"x" * BODY_SIZE),
    ),
    V("body-beyond-the-limit", post(b"Content-Length: 4097", body=b"x" * (BODY_SIZE + 1)), Refused(413)),
    V("body-beyond-the-limit-that-waits-for-100", post(b"Expect: 100-continue", b"Content-Length: 4097"), Refused(413)),
]

CUT_OFF = [
    V("nothing-then-end", b"", Dropped(), half_close=True),
    V("empty-line-then-end", b"\r\n", Dropped(), half_close=True),
    V("half-a-request-line-then-end", b"GET /", Dropped(), half_close=True),
    V("head-without-its-empty-line-then-end", b"GET / HTTP/1.1\r\nHost: a.test\r\n", Dropped(), half_close=True),
    V(
        "no-body-then-end",
        post(b"Content-Length: 5"),
        BrokenOff(request(b"POST /", framing=b"Content-Length: 5")),
        half_close=True,
    ),
    V(
        "half-a-body-then-end",
        post(b"Content-Length: 5", body=b"hel"),
        BrokenOff(request(b"POST /", framing=b"Content-Length: 5", body=b"hel")),
        half_close=True,
    ),
]

PIPELINED = [
    V("two-requests", target(b"/1") + target(b"/2"), Forwarded((request(b"GET /1"), request(b"GET /2")))),
    V(
        "ten-requests",
        b"".join(target(b"/%d" % n) for n in range(10)),
        Forwarded(tuple(request(b"GET /%d" % n) for n in range(10))),
    ),
    V(
        "two-requests-and-an-empty-line-between",
        target(b"/1") + b"\r\n" + target(b"/2"),
        Forwarded((request(b"GET /1"), request(b"GET /2"))),
    ),
    V(
        "body-then-request",
        post(b"Content-Length: 5", body=b"hello") + target(b"/2"),
        Forwarded((request(b"POST /", framing=b"Content-Length: 5", body=b"hello"), request(b"GET /2"))),
    ),
    V(
        "second-is-malformed",
        target(b"/1") + b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n" + target(b"/3"),
        Forwarded((request(b"GET /1"),), kept=False, then=400),
    ),
    V(
        "second-is-ambiguous",
        target(b"/1") + post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        Forwarded((request(b"GET /1"),), kept=False, then=400),
    ),
    V(
        "second-is-too-large",
        target(b"/1") + get(b"X-A: " + b"x" * HEAD_SIZE),
        Forwarded((request(b"GET /1"),), kept=False, then=431),
    ),
    V("second-after-close", get(b"Connection: close") + target(b"/2"), forwarded(b"GET /", kept=False)),
    V("second-after-1.0", get(line=b"GET / HTTP/1.0") + target(b"/2"), forwarded(b"GET /", via=b"1.0", kept=False)),
    V("second-after-refusal", get(b"X A: 1") + target(b"/2"), BAD_REQUEST),
    V(
        "second-after-upgrade-that-is-refused",
        get(b"Connection: upgrade", b"Upgrade: websocket") + target(b"/2"),
        Forwarded((request(b"GET /", framing=(b"Connection: upgrade", b"Upgrade: websocket")), request(b"GET /2"))),
    ),
    V(
        "second-inside-get-body",
        get(b"Content-Length: 36") + target(b"/inside")[:36] + target(b"/2"),
        Forwarded((request(b"GET /", framing=b"Content-Length: 36", body=target(b"/inside")[:36]), request(b"GET /2"))),
    ),
    V(
        "half-a-second-then-end",
        target(b"/1") + b"GET /2",
        Forwarded((request(b"GET /1"),), kept=False),
        half_close=True,
    ),
]

SEQUENCES = OVERSIZE + CUT_OFF + PIPELINED
