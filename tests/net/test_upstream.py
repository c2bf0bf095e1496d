from __future__ import annotations

import json

import pytest

from fastgw.net.upstream import UpstreamConnection
from tests.net.rig import CONFIG, HIGH_WATER, Message, Rig, Wire, messages

GET = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def asked(sent: bytes = GET, config: str = CONFIG) -> tuple[Rig, Wire, Wire]:
    """A request is out on the backend's connection."""
    rig = Rig(config)
    client, backend = rig.both()
    client.receive(sent)
    assert backend.take()
    return rig, client, backend


def answer(client: Wire) -> Message:
    (message,) = messages(client.take(), closed=client.closed)
    return message


def reason(client: Wire) -> tuple[bytes, str]:
    message = answer(client)
    return message.start[9:12], json.loads(message.body)["reason"]


def is_idle(rig: Rig, backend: Wire) -> bool:
    """The connection is in the pool, ready for another request."""
    return not backend.closed and repr(rig.pool) == "<UpstreamPool a active=[0] idle=[1] queued=0>"


def is_gone(rig: Rig, backend: Wire) -> bool:
    return backend.closed and repr(rig.pool) == "<UpstreamPool a active=[0] idle=[0] queued=0>"


# Connections that are used again


@pytest.mark.parametrize(
    "sent",
    [
        OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    ],
)
@pytest.mark.parametrize("cut", [None, 20, -1])
def test_a_connection_whose_answer_is_whole_serves_the_next_request(sent: bytes, cut: int | None) -> None:
    rig, client, backend = asked()
    backend.receive(*((sent[:cut], sent[cut:]) if cut else (sent,)))
    assert is_idle(rig, backend)
    client.receive(GET)
    assert backend.take().startswith(b"GET /x ")


@pytest.mark.parametrize(
    "sent",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more",
        b"HTTP/1.1 204 No Content\r\n\r\nmore",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\nmore",
        CHUNKED + b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\nmore",
    ],
)
def test_a_connection_that_closes_or_said_more_than_it_should_is_not_used_again(sent: bytes) -> None:
    rig, client, backend = asked()
    backend.receive(sent)
    assert answer(client).body in (b"ok", b"")
    assert is_gone(rig, backend)
    assert not client.closed


def test_the_last_piece_of_a_body_with_more_behind_it_is_not_passed_on() -> None:
    rig, client, backend = asked()
    backend.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cdHTTP/1.1 200 OK\r\n")
    assert answer(client).body == b"abcd"
    assert is_gone(rig, backend)


def test_an_idle_connection_that_the_upstream_closes_leaves_the_pool() -> None:
    rig = Rig()
    backend = rig.backend()
    backend.half_close()
    assert is_gone(rig, backend)
    assert rig.sweep.watched == set()


def test_what_an_idle_connection_says_closes_it() -> None:
    rig = Rig()
    backend = rig.backend()
    backend.receive(OK)
    assert is_gone(rig, backend)


def test_a_connection_that_has_not_taken_its_whole_request_does_not_swallow_the_next() -> None:
    rig = Rig()
    client, backend = rig.both()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    backend.blocked = True
    client.receive(head + b"x" * 200_000)
    backend.receive(OK)
    assert answer(client).body == b"ok"
    client.receive(head)
    if not backend.closed and client.reading:
        client.receive(b"x" * (HIGH_WATER + 1))
    # Either it was closed, or back-pressure holds for the next request too.
    assert backend.closed or not client.reading


def test_an_answer_to_head_has_no_body_whatever_it_says() -> None:
    rig, client, backend = asked(GET.replace(b"GET", b"HEAD"))
    backend.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    (message,) = messages(client.take(), bodiless=1)
    assert (message.framing, message.body) == ([b"Content-Length: 99"], b"")
    assert is_idle(rig, backend)


# Framing


def test_a_request_s_chunks_are_made_anew() -> None:
    rig = Rig()
    client, backend = rig.both()
    head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.receive(head + b"2;x=y\r\nab\r\n01\r\nc", b"\r\n0\r\nX-T: 1\r\nHost: b\r\n\r\n")
    (request,) = messages(backend.sent)
    assert (request.body, request.trailers, request.framing) == (
        b"abc",
        [b"X-T: 1"],
        [b"Transfer-Encoding: chunked"],
    )


def test_an_answer_s_trailers_pass_but_those_that_frame_or_steer() -> None:
    _, client, backend = asked()
    backend.receive(CHUNKED + b"2\r\nok\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\nSet-Cookie: x\r\n\r\n")
    message = answer(client)
    assert (message.body, message.trailers) == (b"ok", [b"X-T: 1"])


@pytest.mark.parametrize(("error", "reason_logged"), [(None, ""), (ConnectionResetError(), "upstream-reset")])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_body_until_close_is_whole_when_the_connection_closes_and_not_when_it_breaks(
    error: Exception | None, reason_logged: str, version: bytes
) -> None:
    rig, client, backend = asked()
    backend.receive(version + b" 200 OK\r\n\r\nab", b"c")
    backend.lose(error)
    message = answer(client)
    assert (message.body, message.complete) == (b"abc", error is None)
    assert client.aborted is (error is not None)
    assert [exchange.reason for exchange in rig.logged] == [reason_logged]


def test_answers_before_the_answer_pass_and_too_many_are_refused() -> None:
    _, client, backend = asked()
    backend.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert [message.start[9:12] for message in messages(client.take())] == [b"100", b"103", b"200"]
    _, client, backend = asked()
    backend.receive(b"HTTP/1.1 102 Processing\r\n\r\n" * 17)
    last = messages(client.take())[-1]
    assert (last.start[9:12], backend.closed) == (b"502", True)


def test_an_expectation_passes_and_its_answer_too() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert b"\r\nExpect: 100-continue\r\n" in backend.sent
    backend.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.receive(b"hi")
    assert backend.sent.endswith(b"\r\n\r\nhi")
    backend.receive(OK)
    assert is_idle(rig, backend)


# Failures


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"HTTP/1.1 099 X\r\n\r\n", "upstream-malformed"),
        (b"hello\r\n\r\n", "upstream-malformed"),
        (b"HTTP/1.1 200 OK\nX: y\n\n", "upstream-malformed"),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "upstream-malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "upstream-malformed"),
        (CHUNKED + b"no\r\n", "upstream-malformed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 66_000, "upstream-head-too-large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 66_000 + b"\r\n\r\n", "upstream-head-too-large"),
    ],
)
def test_an_answer_that_can_not_be_used_is_502_and_its_connection_dropped(sent: bytes, why: str) -> None:
    rig, client, backend = asked()
    backend.receive(sent)
    assert reason(client) == (b"502", why)
    assert is_gone(rig, backend)
    assert not client.closed


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", CHUNKED + b"2\r\nab\r\n"])
@pytest.mark.parametrize("way", ["closed", "reset"])
def test_an_answer_that_breaks_off_is_broken_off(begun: bytes, way: str) -> None:
    rig, client, backend = asked()
    backend.receive(begun)
    if way == "closed":
        backend.half_close()
    else:
        backend.lose(ConnectionResetError())
    assert client.aborted
    assert not answer(client).complete
    assert [(exchange.status, exchange.reason) for exchange in rig.logged] == [(200, "upstream-reset")]


def test_chunks_that_go_wrong_on_their_way_break_the_answer_off() -> None:
    rig, client, backend = asked()
    backend.receive(CHUNKED + b"2\r\nab\r\n", b"1\r\nc\r\nno\r\n")
    assert client.aborted
    assert [exchange.reason for exchange in rig.logged] == ["upstream-malformed"]


@pytest.mark.parametrize(
    ("sent", "again"), [(GET, True), (POST, False), (POST.replace(b"POST", b"PUT"), True)], ids=["GET", "POST", "PUT"]
)
def test_a_reused_connection_that_dies_unanswered_is_replaced_for_what_may_be_sent_twice(
    sent: bytes, again: bool
) -> None:
    rig, client, backend = asked()
    backend.receive(OK)
    client.take()
    client.receive(sent)
    assert backend.take()
    backend.half_close()
    assert rig.loop.connecting == int(again)
    if not again:
        assert reason(client) == (b"502", "upstream-reset")


def test_the_first_request_of_a_connection_is_not_sent_again() -> None:
    rig, client, backend = asked()
    backend.half_close()
    assert reason(client) == (b"502", "upstream-reset")
    assert rig.loop.connecting == 0


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_request_that_was_answered_in_part_is_not_sent_again(begun: bytes) -> None:
    rig, client, backend = asked()
    backend.receive(OK)
    client.take()
    client.receive(GET)
    backend.receive(begun)
    backend.half_close()
    assert rig.loop.connecting == 0
    assert messages(client.sent)[-1].start[9:12] == b"502"


def test_a_bug_inside_an_answer_is_counted_and_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, client, backend = asked()
    rig.bugs.expected = True
    monkeypatch.setattr(UpstreamConnection, "_read_head", lambda *_: 1 // 0)
    backend.receive(OK)
    assert reason(client) == (b"500", "internal-error")
    assert rig.bugs.count == 1
    assert is_gone(rig, backend)


# Deadlines


def test_an_answer_that_does_not_come_is_504() -> None:
    rig, client, backend = asked()
    rig.after(29.9)
    assert client.sent == b""
    rig.after(0.2)
    assert reason(client) == (b"504", "response-timeout")
    assert is_gone(rig, backend)


def test_the_time_for_an_answer_begins_when_the_request_is_complete() -> None:
    config = '[[listeners]]\nname = "in"\naddress = "127.0.0.1:0"\nlimits.body_min_rate = "1B/s"\n' + CONFIG
    rig, client, _ = asked(POST.replace(b"Content-Length: 5", b"Content-Length: 500")[:-5], config)
    for _ in range(5):
        client.receive(b"x" * 100)
        rig.after(9.0)
        if client.sent:
            break
    assert client.sent == b""
    rig.after(22.0)
    assert reason(client) == (b"504", "response-timeout")


def test_a_client_that_is_slow_to_take_an_answer_before_the_answer_wins_no_time() -> None:
    rig, client, backend = asked()
    client.blocked = True
    early = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 40_000 + b"\r\n\r\n"
    backend.receive(early + early)
    rig.after(1.0)
    client.unblock()
    client.take()
    rig.after(31.0)
    assert reason(client) == (b"504", "response-timeout")


def test_answers_before_the_answer_win_no_time() -> None:
    rig, client, backend = asked()
    for _ in range(10):
        rig.after(2.9)
        backend.receive(b"HTTP/1.1 102 Processing\r\n\r\n")
    client.take()
    rig.after(1.2)
    assert reason(client)[0] == b"504"


def test_a_body_that_stalls_is_broken_off_and_one_that_drips_is_not() -> None:
    rig, client, backend = asked()
    backend.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    for _ in range(3):
        rig.after(59.0)
        backend.receive(b"x")
    assert not client.closed
    rig.after(61.0)
    assert client.aborted
    assert [(exchange.status, exchange.reason) for exchange in rig.logged] == [(200, "upstream-stalled")]


def test_a_body_that_the_client_does_not_take_has_not_stalled() -> None:
    rig, client, backend = asked()
    client.blocked = True
    backend.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * HIGH_WATER)
    rig.after(59.0)
    client.buffer = client.buffer[1000:]
    rig.after(5.0)
    assert not backend.closed
    client.unblock()
    rig.after(59.0)
    assert not client.closed
    rig.after(2.0)
    assert [exchange.reason for exchange in rig.logged] == ["upstream-stalled"]


def test_an_upstream_that_does_not_take_a_request_is_504() -> None:
    rig = Rig()
    client, backend = rig.both()
    backend.blocked = True
    client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
    client.receive(b"x" * (HIGH_WATER + 1))
    for _ in range(2):
        rig.after(50.0)
        backend.buffer = backend.buffer[1000:]
        rig.after(11.0)
        assert client.sent == b""
    rig.after(61.0)
    assert reason(client) == (b"504", "response-timeout")
    assert is_gone(rig, backend)


def test_an_idle_connection_is_closed_in_the_end() -> None:
    rig = Rig()
    backend = rig.backend()
    rig.after(59.0)
    assert not backend.closed
    rig.after(2.0)
    assert is_gone(rig, backend)
