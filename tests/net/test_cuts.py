"""However a message is cut on its way in, the same comes out on the other side."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http1.heads import CUTS, pieces
from tests.net.rig import Message, Rig, Wire, messages

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ID = b"X-Request-Id: "

BODIES = st.binary(max_size=40)
LINES = st.lists(st.sampled_from([b"X-A: 1", b"x-b:", b"Cookie: a=b; c=d", b"Accept:\t*/*"]), max_size=3)
TRAILERS = st.lists(st.sampled_from([b"X-T: 1", b"x-sum:abc"]), max_size=2)
EXTENSIONS = st.sampled_from([b"", b";a=b"])


@dataclass(frozen=True)
class Sent:
    """A message as it is sent, and what should arrive of it."""

    data: bytes
    start: bytes
    body: bytes = b""
    trailers: tuple[bytes, ...] = ()


def _with_length(start: bytes, lines: list[bytes], body: bytes) -> Sent:
    head = b"\r\n".join([start, b"Host: a.test", *lines, b"Content-Length: %d" % len(body), b"", b""])
    return Sent(head + body, start, body)


def _chunked(start: bytes, lines: list[bytes], parts: list[bytes], extension: bytes, trailers: list[bytes]) -> Sent:
    head = b"\r\n".join([start, b"Host: a.test", *lines, b"Transfer-Encoding: chunked", b"", b""])
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part)
    end = b"\r\n".join([b"0" + extension, *trailers, b"", b""])
    return Sent(head + chunks + end, start, b"".join(parts), tuple(trailers))


def _bare(start: bytes, lines: list[bytes]) -> Sent:
    return Sent(b"\r\n".join([start, b"Host: a.test", *lines, b"", b""]), start)


PARTS = st.lists(BODIES, max_size=4)
POST = st.just(b"POST /p?q HTTP/1.1")
REQUESTS = st.one_of(
    st.builds(_bare, st.sampled_from([b"GET /g HTTP/1.1", b"OPTIONS * HTTP/1.1"]), LINES),
    st.builds(_with_length, POST, LINES, BODIES),
    st.builds(_with_length, POST, st.just([b"Expect: 100-continue"]), BODIES),
    st.builds(_chunked, POST, LINES, PARTS, EXTENSIONS, TRAILERS),
)
STATUS = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 "])
ANSWERS = st.one_of(
    st.builds(_with_length, STATUS, LINES, BODIES),
    st.builds(_chunked, STATUS, LINES, PARTS, EXTENSIONS, TRAILERS),
    st.builds(_bare, st.sampled_from([b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"]), LINES),
)
EARLY = st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n"]), max_size=2)


def without_ids(arrived: list[Message]) -> list[Message]:
    for message in arrived:
        message.lines = [line for line in message.lines if not line.startswith(_ID)]
    return arrived


def forward(sent: bytes, cuts: list[int]) -> list[Message]:
    """What the backend gets, which answers each request as soon as it is whole."""
    rig = Rig()
    client, backend = rig.both()
    got: list[Message] = []
    partial = b""
    for piece in pieces(sent, cuts):
        client.receive(piece)
        while new := backend.take():
            partial += new
            arrived = messages(partial)
            if arrived[-1].complete:
                got += arrived
                partial = b""
                backend.receive(OK)
    assert partial == b""
    answered = messages(client.sent)
    assert [message.body for message in answered] == [b"ok"] * len(got)
    assert (client.closed, len(rig.logged)) == (False, len(got))
    return without_ids(got)


@settings(max_examples=80, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=3), CUTS)
def test_requests_arrive_as_they_were_sent_however_they_are_cut(sent: list[Sent], cuts: list[int]) -> None:
    data = b"".join(request.data for request in sent)
    arrived = forward(data, cuts)
    assert [(message.start, message.body, tuple(message.trailers)) for message in arrived] == [
        (request.start, request.body, request.trailers) for request in sent
    ]
    whole = [forward(request.data, [])[0] for request in sent]
    assert [(message.lines, message.framing) for message in arrived] == [(one.lines, one.framing) for one in whole]


def respond(sent: bytes, cuts: list[int], *, ends: bool, minor: int = 1) -> tuple[list[Message], Rig, Wire]:
    """What the client gets; `ends`: the backend closes the connection at the end."""
    rig = Rig()
    client, backend = rig.both()
    client.receive(b"GET / HTTP/1.%d\r\nHost: a.test\r\n\r\n" % minor)
    backend.receive(*pieces(sent, cuts))
    if ends:
        backend.half_close()
    return without_ids(messages(client.sent, closed=client.closed)), rig, backend


@settings(max_examples=80, deadline=None)
@given(EARLY, ANSWERS, CUTS)
def test_an_answer_arrives_as_it_was_sent_however_it_is_cut(early: list[bytes], sent: Sent, cuts: list[int]) -> None:
    *before, arrived = respond(b"".join(early) + sent.data, cuts, ends=False)[0]
    assert [message.start for message in before] == [one.partition(b"\r\n")[0] for one in early]
    assert (arrived.start, arrived.body, tuple(arrived.trailers)) == (sent.start, sent.body, sent.trailers)
    assert arrived.complete
    whole, rig, backend = respond(sent.data, [], ends=False)
    assert (arrived.lines, arrived.framing) == (whole[0].lines, whole[0].framing)
    assert not backend.closed
    assert [exchange.bytes_out for exchange in rig.logged] == [len(sent.body)]


@settings(max_examples=30, deadline=None)
@given(STATUS, BODIES, CUTS, st.sampled_from([0, 1]))
def test_an_answer_until_close_arrives_whole_however_it_is_cut(
    status: bytes, body: bytes, cuts: list[int], minor: int
) -> None:
    (arrived,), rig, backend = respond(status + b"\r\n\r\n" + body, cuts, ends=True, minor=minor)
    assert (arrived.start, arrived.body, arrived.complete) == (status, body, True)
    assert backend.closed
    assert [exchange.reason for exchange in rig.logged] == [""]


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@settings(max_examples=30, deadline=None)
@given(BODIES, BODIES, CUTS, CUTS)
def test_a_tunnel_carries_the_same_bytes_however_they_are_cut(
    up: bytes, down: bytes, up_cuts: list[int], down_cuts: list[int]
) -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(*pieces(UPGRADE + up, up_cuts))
    backend.receive(*pieces(SWITCH + down, down_cuts))
    assert client.sent.partition(b"\r\n\r\n")[2] == down
    assert backend.sent.partition(b"\r\n\r\n")[2] == up
    client.lose()
    (exchange,) = rig.logged
    assert (exchange.status, exchange.bytes_in, exchange.bytes_out) == (101, len(up), len(down))


EXAMPLES = [
    b"GET /g HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    b"\r\n\r\nGET /g HTTP/1.1\r\nHost: a.test\r\n\r\n",
]


@pytest.mark.parametrize("sent", EXAMPLES)
def test_a_request_may_be_cut_at_every_place(sent: bytes) -> None:
    whole = forward(sent, [])
    assert [forward(sent, [cut]) == whole for cut in range(1, len(sent))] == [True] * (len(sent) - 1)
    assert forward(sent, list(range(len(sent)))) == whole


REFUSED = [
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
    (b"GET /\r\n\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
]


@pytest.mark.parametrize(("sent", "status"), REFUSED)
def test_a_request_that_is_refused_is_refused_wherever_it_is_cut(sent: bytes, status: bytes) -> None:
    for cut in range(1, len(sent)):
        rig = Rig()
        client, _ = rig.both()
        client.receive(sent[:cut], sent[cut:])
        (answer,) = messages(client.sent)
        assert (cut, answer.start[9:12]) == (cut, status)
        assert len(rig.logged) == 1


BROKEN = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\nX: y\n\n",
    b"ICY 200 OK\r\n\r\n",
]


@pytest.mark.parametrize("sent", BROKEN)
def test_an_answer_that_is_refused_is_refused_wherever_it_is_cut(sent: bytes) -> None:
    for cut in range(1, len(sent)):
        (answer,), _, backend = respond(sent, [cut], ends=False)
        assert (cut, answer.start[9:12], backend.closed) == (cut, b"502", True)
