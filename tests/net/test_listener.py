from __future__ import annotations

import socket
from dataclasses import replace

from tests.net.rig import CONFIG, Rig

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_listener_knows_its_connections_until_they_are_closed() -> None:
    rig = Rig()
    first, second = rig.client(), rig.client()
    assert rig.server.connections == rig.sweep.watched == {first.protocol, second.protocol}
    first.lose()
    assert rig.server.connections == rig.sweep.watched == {second.protocol}


def test_it_takes_as_many_as_it_may_and_another_when_one_has_gone() -> None:
    rig = Rig('[[listeners]]\naddress = "127.0.0.1:0"\nmax_connections = 2\n' + CONFIG)
    first, _, third = (rig.client() for _ in range(3))
    assert third.sent.startswith(b"HTTP/1.1 503 ")
    third.lose()
    first.lose()
    assert rig.client().sent == b""


def test_draining_closes_what_is_idle_and_lets_the_others_have_their_answers() -> None:
    rig = Rig()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        idle, busy, new = rig.client(), rig.client(), rig.client()
        served = rig.backend()
        for client in (idle, busy, new):
            client._extra["socket"] = ours  # type: ignore[attr-defined]
        for client in (idle, busy):
            client.receive(GET)
            served.receive(OK)
        rig.clock.now += 1.1
        busy.receive(GET)
        rig.server.draining = True
        rig.server.drain()
        rig.loop.run()
        assert (idle.closed, busy.closed, new.closed) == (True, False, False)
        served.receive(OK)
        assert busy.closed
        new.receive(GET)
        served.receive(OK)
        assert (b"Connection: close" in new.sent, new.closed) == (True, True)


def test_draining_lets_a_request_that_has_arrived_already_have_its_answer() -> None:
    rig = Rig()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client, backend = rig.both()
        client._extra["socket"] = ours  # type: ignore[attr-defined]
        client.receive(GET)
        backend.receive(OK)
        theirs.send(GET)
        rig.server.drain()
        assert not client.closed


def test_draining_gives_one_that_has_said_nothing_yet_a_second() -> None:
    rig = Rig()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = rig.client()
        client._extra["socket"] = ours  # type: ignore[attr-defined]
        rig.server.drain()
        rig.after(0.9)
        assert not client.closed
        rig.after(0.2)
        assert client.closed


def test_draining_gives_one_that_just_had_an_answer_a_second_for_the_next_request() -> None:
    rig = Rig()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client, backend = rig.both()
        client._extra["socket"] = ours  # type: ignore[attr-defined]
        client.receive(GET)
        backend.receive(OK)
        rig.server.drain()
        rig.after(0.5)
        assert not client.closed
        client.receive(GET)
        backend.receive(OK)
        assert b"Connection: close" in client.sent
        rig.loop.run()
        assert client.closed


def test_a_new_configuration_of_the_listener_is_for_the_connections_that_it_has() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET)
    backend.receive(OK)
    listener = rig.server.listener
    rig.server.adopt(replace(listener, name="renamed", limits=replace(listener.limits, header_count=1)))
    client.receive(GET.replace(b"\r\n\r\n", b"\r\nX: 1\r\n\r\n"))
    assert rig.logged[-1].status == 431
    assert rig.logged[-1].downstream.listener_name == "renamed"


def test_in_the_end_everything_is_closed() -> None:
    rig = Rig()
    client, backend = rig.both()
    client.receive(GET)
    rig.server.abort()
    rig.loop.run()
    assert (client.aborted, backend.closed, rig.server.connections) == (True, True, set())


# Heads that are remembered.


def test_a_new_connection_that_begins_as_another_did_is_answered_for_what_it_asks() -> None:
    rig = Rig()
    first, backend = rig.both()
    first.receive(GET)
    backend.receive(OK)
    second = rig.client()
    second.receive(GET.replace(b" / ", b" /other?a=b "))
    assert backend.sent.count(b"GET / HTTP/1.1\r\n") == 1
    assert backend.sent.count(b"GET /other?a=b HTTP/1.1\r\n") == 1
    assert [head.path for head in rig.server.heads.values()] == [b"/"]


def test_another_method_with_the_same_lines_is_another_request() -> None:
    rig = Rig()
    first, backend = rig.both()
    first.receive(GET)
    backend.receive(OK)
    rig.client().receive(GET.replace(b"GET", b"DELETE"))
    assert backend.sent.count(b"DELETE / HTTP/1.1\r\n") == 1


def test_a_failure_that_ends_one_connection_ends_no_other_that_begins_alike() -> None:
    rig = Rig('[[listeners]]\naddress = "127.0.0.1:0"\nlimits.body_min_rate = "1MB/s"\n' + CONFIG)
    post = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n"
    slow, _ = rig.both()
    slow.receive(post + b"o")
    rig.after(10.1)
    assert slow.sent.startswith(b"HTTP/1.1 408 ")
    prompt, backend = rig.both()
    prompt.receive(post + b"ok")
    backend.receive(OK)
    assert prompt.sent.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" not in prompt.sent


def test_what_clients_invent_is_not_remembered_without_a_bound() -> None:
    rig = Rig()
    backend = rig.backend()
    for number in range(2000):
        client = rig.client()
        client.receive(GET[:-2] + b"X-A: %d\r\n\r\n" % number)
        backend.receive(OK)
        client.lose()
    assert 0 < len(rig.server.heads) <= 512


def test_heads_are_judged_again_under_new_limits() -> None:
    rig = Rig()
    first, backend = rig.both()
    first.receive(GET[:-2] + b"X-A: b\r\n\r\n")
    backend.receive(OK)
    listener = rig.server.listener
    rig.server.adopt(replace(listener, limits=replace(listener.limits, header_count=1)))
    second = rig.client()
    second.receive(GET[:-2] + b"X-A: b\r\n\r\n")
    assert second.sent.startswith(b"HTTP/1.1 431 ")
