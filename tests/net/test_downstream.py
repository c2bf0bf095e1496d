from __future__ import annotations

import json

import pytest

from tests.net.rig import CONFIG, HIGH_WATER, Message, Rig, Wire, messages

GET = b"GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n"
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
LIMITED = '[[listeners]]\nname = "in"\naddress = "127.0.0.1:0"\n'


def limited(*limits: str) -> Rig:
    return Rig(LIMITED + "".join(f"limits.{limit}\n" for limit in limits) + CONFIG)


def answer(client: Wire) -> Message:
    """The one answer that the client got."""
    (message,) = messages(client.take(), closed=client.closed)
    return message


def reason(client: Wire) -> tuple[bytes, str]:
    message = answer(client)
    return message.start[9:12], json.loads(message.body)["reason"]


def closes_gently(client: Wire) -> bool:
    """The answer is followed by the end of what we say, and what still comes is read: nothing is reset."""
    return client.sent_eof and client.reading and not client.closed


# Requests in order


def test_pipelined_requests_are_answered_in_order_one_after_the_other() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1 + GET % 2 + GET % 3)
    for number in (1, 2, 3):
        (request,) = messages(backend.take())
        assert request.start == b"GET /%d HTTP/1.1" % number
        backend.receive(OK.replace(b"ok", b"o%d" % number))
    assert [message.body for message in messages(client.sent)] == [b"o1", b"o2", b"o3"]


def test_a_request_that_comes_between_an_answer_and_the_next_turn_of_the_loop_is_not_taken_into_the_one_before() -> (
    None
):
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1 + GET % 2)
    backend.take()
    # Both arrive in one turn of the loop.
    backend.protocol.data_received(OK)
    client.protocol.data_received(b"GET /3 HTTP/1.0\r\nX-A: b\r\n\r\n")
    rig.loop.run()
    (request,) = messages(backend.take())
    assert request.start == b"GET /2 HTTP/1.1"
    backend.receive(OK)
    (request,) = messages(backend.take())
    assert request.start == b"GET /3 HTTP/1.1"


def test_what_a_client_pipelines_without_end_is_left_in_the_socket() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    while client.reading:
        client.receive(GET % 2 * 500)
        assert len(client.sent) == 0
    backend.receive(OK)
    assert client.reading


def test_a_half_head_waits_behind_an_answer() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1 + b"GET /2 HT")
    backend.receive(OK)
    backend.take()
    client.receive(b"TP/1.1\r\nHost: a.test\r\n\r\n")
    assert backend.take().startswith(b"GET /2 HTTP/1.1")


@pytest.mark.parametrize("cut", range(1, 5))
def test_empty_lines_before_a_request_are_ignored_however_they_come(cut: int) -> None:
    rig = Rig()
    client, backend = rig.both()
    data = b"\r\n\r\n" + GET % 1
    client.receive(data[:cut], data[cut:])
    assert backend.sent.startswith(b"GET /1 ")


# Keep-alive


@pytest.mark.parametrize(
    ("line", "connection", "says", "stays"),
    [
        (b"HTTP/1.1", b"", [], True),
        (b"HTTP/1.1", b"\r\nConnection: close", [b"Connection: close"], False),
        (b"HTTP/1.0", b"", [b"Connection: close"], False),
        (b"HTTP/1.0", b"\r\nConnection: keep-alive", [b"Connection: keep-alive"], True),
    ],
)
def test_the_connection_stays_as_the_client_asks(
    line: bytes, connection: bytes, says: list[bytes], stays: bool
) -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(b"GET / " + line + b"\r\nHost: a.test" + connection + b"\r\n\r\n")
    backend.receive(OK)
    assert [text for text in answer(client).framing if text.startswith(b"Connection")] == says
    assert client.closed is not stays
    assert not client.aborted
    assert not backend.closed


def test_the_last_request_that_a_connection_may_carry_is_told_so() -> None:
    rig = limited("requests_per_connection = 2")
    client, backend = rig.both()
    for last in (False, True):
        client.receive(GET % 1)
        backend.receive(OK)
        assert (b"Connection: close" in answer(client).framing, client.closed) == (last, last)


def test_an_http_1_0_client_gets_a_body_of_unknown_length_until_close() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    backend.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n")
    message = answer(client)
    assert (message.framing, message.body, client.closed) == ([b"Connection: close"], b"abc", True)


def test_a_draining_gateway_says_close_with_each_answer() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    rig.server.draining = True
    backend.receive(OK)
    assert (b"Connection: close" in answer(client).framing, client.closed) == (True, True)


# Refusals


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"\x16\x03\x01\x02\x00", b"400", "malformed-request"),
        (b"GET / HTTP/1.1\nHost: a\n\n", b"400", "malformed-request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400", "bad-host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 33_000, b"431", "head-too-large"),
        (b"GET /" + b"x" * 33_000, b"414", "target-too-long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 33_000 + b"\r\n\r\n", b"431", "head-too-large"),
    ],
)
def test_a_head_that_can_not_be_taken_is_answered_and_the_connection_closed_gently(
    sent: bytes, status: bytes, why: str
) -> None:
    rig = Rig()
    client = rig.client()
    client.receive(sent)
    assert reason(client) == (status, why)
    assert closes_gently(client)
    assert [exchange.reason for exchange in rig.logged] == [why]
    # What still comes is dropped, and in the end so is the connection.
    client.receive(GET % 1)
    assert client.take() == b""
    rig.after(6.0)
    assert client.closed
    assert len(rig.logged) == 1


@pytest.mark.parametrize("before", [b"", GET % 1], ids=["first request", "second request"])
@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n63\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    ],
)
def test_a_refused_body_that_still_comes_does_not_reset_the_answer(before: bytes, sent: bytes) -> None:
    rig = limited('body_size = "10B"')
    client, backend = rig.both()
    if before:
        client.receive(before)
        backend.receive(OK)
        client.take()
    client.receive(sent)
    assert answer(client).start[9:12] in (b"413", b"400", b"501")
    assert closes_gently(client)
    client.receive(b"x" * 99)
    assert backend.sent == b"" or before


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"a\r\n0123456789\r\n", b"1\r\nx\r\n"], "body-too-large"),
        ([b"a\r\n0123456789\r\n", b"ff\r\n"], "body-too-large"),
        ([b"1\r\nx\r\n", b"no\r\n"], "bad-chunk"),
    ],
)
def test_a_body_that_goes_wrong_on_its_way_is_answered_and_the_upstream_s_connection_dropped(
    pieces: list[bytes], why: str
) -> None:
    rig = limited('body_size = "10B"')
    client, backend = rig.both()
    client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces)
    assert reason(client)[1] == why
    assert backend.aborted
    assert closes_gently(client)
    assert rig.pool.active == [0]


def test_an_answer_before_the_whole_request_came_closes_both_connections() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(POST + b"he")
    backend.receive(OK)
    message = answer(client)
    assert (message.start, b"Connection: close" in message.framing) == (b"HTTP/1.1 200 OK", True)
    assert closes_gently(client)
    assert backend.closed
    client.receive(b"llo")


def test_more_connections_than_there_may_be_are_told_so() -> None:
    rig = Rig(LIMITED + "max_connections = 1\n" + CONFIG)
    first, second = rig.client(), rig.client()
    assert reason(second) == (b"503", "connection-limit")
    assert second.sent_eof
    second.lose()
    rig.backend()
    first.receive(GET % 1)
    assert rig.pool.active == [1]
    first.lose()
    assert rig.server.connections == set()


# Clients that leave


@pytest.mark.parametrize("way", ["gone", "half closed", "reset"])
@pytest.mark.parametrize("sent", [GET % 1, POST + b"he"], ids=["answer awaited", "inside the body"])
def test_a_client_that_leaves_takes_the_upstream_s_connection_with_it(way: str, sent: bytes) -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(sent)
    if way == "half closed":
        client.half_close()
    else:
        client.lose(ConnectionResetError() if way == "reset" else None)
    assert [(exchange.status, exchange.reason) for exchange in rig.logged] == [(499, "client-left")]
    assert backend.aborted
    assert (rig.pool.active, rig.sweep.watched) == ([0], set())


def test_a_client_that_leaves_inside_a_head_is_logged_and_one_between_requests_is_not() -> None:
    rig = Rig()
    client = rig.client()
    client.half_close()
    assert (client.closed, rig.logged) == (True, [])
    client = rig.client()
    client.receive(b"GET / HT")
    client.half_close()
    assert [exchange.reason for exchange in rig.logged] == ["client-left"]


def test_a_bug_is_answered_with_500_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    client, backend = rig.both()
    rig.bugs.expected = True
    monkeypatch.setattr(type(rig.gateway.snapshot.router), "match", lambda *_: 1 // 0)
    client.receive(GET % 1)
    assert reason(client) == (b"500", "internal-error")
    assert (rig.bugs.count, [exchange.status for exchange in rig.logged]) == (1, [500])
    assert client.closed or client.sent_eof
    assert backend.sent == b""


# Back-pressure


def test_a_client_that_does_not_read_stops_the_upstream_s_reading_until_it_does() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    client.blocked = True
    backend.receive(BIG + b"x" * HIGH_WATER)
    assert not backend.reading
    client.unblock()
    assert backend.reading
    backend.receive(b"x" * (200_000 - HIGH_WATER))
    assert answer(client).complete


def test_a_client_that_has_not_read_the_answer_before_does_not_fill_the_memory_with_the_next() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    client.blocked = True
    backend.receive(BIG + b"x" * 200_000)
    backend.take()
    if client.reading:
        client.receive(GET % 2)
    # Either the next request waits, or its answer is not read.
    if backend.take():
        backend.receive(BIG + b"y" * HIGH_WATER)
        assert not backend.reading
    client.unblock()
    assert client.reading
    assert backend.reading


def test_an_upstream_that_does_not_read_stops_the_client_s_reading_until_it_does() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(UPLOAD)
    backend.blocked = True
    client.receive(b"x" * (HIGH_WATER + 1))
    assert not client.reading
    backend.unblock()
    assert client.reading


def test_an_upstream_that_does_not_take_the_first_of_a_body_stops_the_client_s_reading_too() -> None:
    rig = Rig()
    client, backend = rig.both()
    backend.blocked = True
    client.receive(UPLOAD + b"x" * (HIGH_WATER + 1))
    assert not client.reading
    backend.unblock()
    assert client.reading


def test_a_client_is_not_read_while_its_body_waits_for_a_connection() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(POST + b"he")
    assert rig.loop.connecting == 1
    assert not client.reading


# Deadlines


def test_a_client_that_connects_and_says_nothing_is_closed_after_the_time_of_a_head() -> None:
    rig = Rig()
    client = rig.client()
    rig.after(9.9)
    assert not client.closed
    rig.after(0.2)
    assert (client.closed, client.sent, rig.logged) == (True, b"", [])


def test_a_head_that_takes_too_long_is_answered_however_its_bytes_drip() -> None:
    rig = Rig()
    client = rig.client()
    rig.after(5.0)
    for _ in range(9):
        client.receive(b"G")
        rig.after(1.0)
    assert client.sent == b""
    client.receive(b"G")
    rig.after(1.1)
    assert reason(client) == (b"408", "head-timeout")
    assert closes_gently(client)
    assert [exchange.reason for exchange in rig.logged] == ["head-timeout"]


def test_an_idle_connection_is_closed_without_a_word() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    backend.receive(OK)
    client.take()
    rig.after(74.0)
    assert not client.closed
    rig.after(2.0)
    assert (client.closed, client.aborted, client.sent) == (True, False, b"")


def test_the_time_of_the_next_head_begins_with_its_first_byte() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    backend.receive(OK)
    client.take()
    rig.after(60.0)
    client.receive(b"GET")
    rig.after(9.0)
    assert client.sent == b""
    rig.after(2.0)
    assert reason(client)[1] == "head-timeout"


def test_a_body_slower_than_it_may_be_is_answered() -> None:
    rig = limited('body_min_rate = "10B/s"')
    client, backend = rig.both()
    client.receive(UPLOAD)
    client.receive(b"x" * 100)
    rig.after(10.1)
    assert client.sent == b""
    client.receive(b"x" * 99)
    rig.after(10.1)
    assert reason(client) == (b"408", "body-too-slow")
    assert backend.aborted
    assert closes_gently(client)


def test_a_body_that_an_upstream_does_not_take_is_not_called_slow() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(UPLOAD)
    backend.blocked = True
    client.receive(b"x" * (HIGH_WATER + 1))
    assert not client.reading
    rig.after(10.1)
    rig.after(10.1)
    assert client.sent == b""


def test_a_client_that_reads_nothing_is_dropped_and_one_that_reads_a_little_is_not() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET % 1)
    client.blocked = True
    backend.receive(BIG + b"x" * HIGH_WATER)
    for _ in range(3):
        rig.after(59.0)
        client.buffer = client.buffer[1000:]
        rig.after(2.0)
        assert not client.closed
    rig.after(61.0)
    assert client.aborted
    assert [exchange.reason for exchange in rig.logged] == ["client-too-slow"]
    assert backend.aborted


@pytest.mark.parametrize("sent", [GET % 1, POST + b"he"], ids=["answer awaited", "inside the body"])
def test_a_route_s_time_is_over_wherever_its_exchange_is(sent: bytes) -> None:
    rig = Rig(CONFIG + 'timeout = "2s"\n')
    client, backend = rig.both()
    client.receive(sent)
    rig.after(1.9)
    assert client.sent == b""
    rig.after(0.2)
    assert reason(client) == (b"504", "route-timeout")
    assert backend.aborted


def test_a_route_s_time_that_is_over_inside_an_answer_breaks_it_off() -> None:
    rig = Rig(CONFIG + 'timeout = "2s"\n')
    client, backend = rig.both()
    client.receive(GET % 1)
    backend.receive(BIG + b"x")
    rig.after(2.1)
    assert client.aborted
    assert backend.aborted
    assert [(exchange.status, exchange.reason) for exchange in rig.logged] == [(200, "route-timeout")]


# Tunnels

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def tunnel() -> tuple[Rig, Wire, Wire]:
    rig = Rig()
    client, backend = rig.both()
    client.receive(UPGRADE + b"early")
    assert b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in backend.take()
    backend.receive(SWITCH + b"first")
    assert client.take().endswith(b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
    assert backend.take() == b"early"
    return rig, client, backend


def test_a_tunnel_passes_bytes_both_ways_and_is_logged_at_its_end() -> None:
    rig, client, backend = tunnel()
    client.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert backend.take() == b"GET / HTTP/1.1\r\n\r\n"
    backend.receive(b"\x00\xff")
    assert client.take() == b"\x00\xff"
    assert rig.logged == []
    client.lose()
    assert backend.closed
    (exchange,) = rig.logged
    assert (exchange.status, exchange.reason) == (101, "")
    assert rig.pool.active == [0]


def test_a_tunnel_has_two_halves_that_close_one_by_one() -> None:
    rig, client, backend = tunnel()
    client.half_close()
    assert (backend.sent_eof, client.closed, backend.closed) == (True, False, False)
    backend.receive(b"more")
    assert client.take() == b"more"
    backend.half_close()
    assert (client.closed, backend.closed, len(rig.logged)) == (True, True, 1)


def test_what_an_upstream_said_before_it_went_still_arrives() -> None:
    rig, client, backend = tunnel()
    backend.lose()
    assert (client.closed, client.aborted, len(rig.logged)) == (True, False, 1)


def test_a_tunnel_has_back_pressure_both_ways() -> None:
    _, client, backend = tunnel()
    for one, other in ((client, backend), (backend, client)):
        one.blocked = True
        other.receive(b"x" * (HIGH_WATER + 1))
        assert not other.reading
        one.unblock()
        assert other.reading


def test_a_tunnel_through_which_nothing_passes_is_closed() -> None:
    rig, client, backend = tunnel()
    rig.after(3500.0)
    client.receive(b"x")
    rig.after(3500.0)
    assert not client.closed
    rig.after(200.0)
    assert (client.closed, backend.closed, len(rig.logged)) == (True, True, 1)
