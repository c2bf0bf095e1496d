"""Connections to backends: which one a request gets, when it is sent again, and what it gets when there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.client import Client, ConnectionEndedError, Received, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import connections_of, descriptors, eventually
from tests.support.played import PlayedBackend, PlayedConnection

# Upstreams, by the first part of the host, and what is special about each; PORT is its backend's port.
UPSTREAMS = {
    "plain": "",
    "idle": 'idle_timeout = "300ms"',
    "silent": 'response_timeout = "300ms"',
    "stalling": 'body_timeout = "300ms"',
    "narrow": 'max_connections = 1\nmax_queued = 1\nqueue_timeout = "5s"',
    "impatient": 'max_connections = 1\nqueue_timeout = "300ms"',
    "narrow-pair": "max_connections = 2",
}
HEAD_OF_4 = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, PlayedBackend]]:
    running = {name: PlayedBackend() for name in (*UPSTREAMS, "routed")}
    yield running
    for one in running.values():
        one.close()


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    """The address of a backend that accepts no connection: its queue is full, so the kernel drops what comes."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def gateway(
    backends: dict[str, PlayedBackend], full: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    plain = backends["plain"].address
    port = plain.rpartition(":")[2]
    nobody, nobody_either = free_port(), free_port()
    endpoints = {name: f'"{backends[name].address}"' for name in UPSTREAMS}
    endpoints["routed"] = f'"{backends["routed"].address}"'
    endpoints["refusing"] = f'"127.0.0.1:{nobody}"'
    endpoints["refusing-both"] = f'"127.0.0.1:{nobody}", "127.0.0.1:{nobody_either}"'
    endpoints["half-refusing"] = f'"127.0.0.1:{nobody}", "{plain}"'
    endpoints["named"] = f'"localhost:{port}"'
    endpoints["nameless"] = '"nowhere.invalid:80"'
    endpoints["full"] = f'"{full}"'
    settings = {**UPSTREAMS, "full": 'connect_timeout = "300ms"', "nameless": 'connect_timeout = "20s"'}
    parts = [f'[server]\nworkers = 1\n[[listeners]]\naddress = "{LISTEN}"\n']
    for name, addresses in endpoints.items():
        parts.append(f"[upstreams.{name}]\nendpoints = [{addresses}]\n{settings.get(name, '')}\n")
        timeout = 'timeout = "300ms"' if name == "routed" else ""
        parts.append(f'[[routes]]\nname = "{name}"\nhost = "{name}.test"\nupstream = "{name}"\n{timeout}\n')
    with GatewayProcess("\n".join(parts), tmp_path_factory.mktemp("pool")) as running:
        yield running


@pytest.fixture(scope="module")
def at_rest(gateway: GatewayProcess) -> int:
    """How many files the worker has open when it has no connections; some it opens at the first request."""
    with Client(gateway.address) as client:
        client.ask(get(host=b"nobody.test"))
    worker = gateway.worker_pid()
    assert eventually(lambda: connections_of(worker, gateway.port) == 0)
    return descriptors(worker)


@pytest.fixture(autouse=True)
def _nothing_is_left(backends: dict[str, PlayedBackend], gateway: GatewayProcess, at_rest: int) -> Iterator[None]:
    """Each test begins with empty pools: the gateway has seen the end of all connections."""
    yield
    for one in backends.values():
        one.hang_up()
    worker = gateway.worker_pid()
    assert eventually(lambda: descriptors(worker) <= at_rest), "connections are left over"


def ask_in_vain(gateway: GatewayProcess, host: bytes) -> Received:
    with Client(gateway.address, patience=30) as client:
        return client.ask(get(host=host))


def reason(received: Received) -> bytes:
    return received.body.partition(b'"reason":"')[2].partition(b'"')[0]


def exchange(client: Client, upstream: PlayedConnection, host: bytes) -> None:
    """A request and its answer on a connection that is there already."""
    client.send(get(host=host))
    upstream.read_request()
    upstream.answer()
    assert client.read_answer().status == 200


def first_exchange(client: Client, backend: PlayedBackend, host: bytes) -> PlayedConnection:
    """A request and its answer on a new connection, which the gateway keeps."""
    client.send(get(host=host))
    upstream = backend.accept()
    upstream.read_request()
    upstream.answer()
    assert client.read_answer().status == 200
    return upstream


# Keeping.


def test_a_connection_is_used_again_by_all_clients(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        upstream = first_exchange(one, backends["plain"], b"plain.test")
        for client in (other, one, other):
            exchange(client, upstream, b"plain.test")
        assert backends["plain"].nobody_connects()


def test_the_connection_that_was_used_last_is_used_next(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        one.send(get(b"/first", host=b"plain.test"))
        first = backends["plain"].accept()
        first.read_request()
        other.send(get(b"/second", host=b"plain.test"))
        second = backends["plain"].accept()
        second.read_request()
        for client, upstream in ((other, second), (one, first)):
            upstream.answer()
            client.read_answer()
        exchange(other, first, b"plain.test")
        exchange(one, first, b"plain.test")


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: Close, X-A"])
def test_a_connection_that_the_backend_closes_is_not_kept(
    line: bytes, gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"plain.test"))
        upstream = backends["plain"].accept()
        upstream.read_request()
        upstream.answer(b"ok", line)
        received = client.read_answer()
        # What the backend does with its connection is no business of the client's.
        assert received.values(b"connection") == []
        assert upstream.ended()
        first_exchange(client, backends["plain"], b"plain.test")


def test_a_connection_that_has_closed_meanwhile_is_not_used(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    worker = gateway.worker_pid()
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        before = descriptors(worker)
        upstream.close()
        assert eventually(lambda: descriptors(worker) < before)
        # A POST would not be sent again.
        client.send(get(host=b"plain.test", method=b"POST"))
        fresh = backends["plain"].accept()
        fresh.read_request()
        fresh.answer()
        assert client.read_answer().status == 200


def test_a_connection_on_which_something_comes_unasked_is_not_used(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        upstream.send(HEAD_OF_4 + b"evil")
        assert upstream.ended()
        first_exchange(client, backends["plain"], b"plain.test")


def test_an_idle_connection_is_closed_in_time(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["idle"], b"idle.test")
        assert upstream.ended()
        first_exchange(client, backends["idle"], b"idle.test")


# Sending again.


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
def test_a_request_that_finds_its_connection_dead_is_sent_again_when_that_is_safe(
    method: bytes, gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        body = b"" if method in (b"GET", b"HEAD") else b"the body"
        lines = (b"Content-Length: %d" % len(body),) if body else ()
        client.send(get(b"/again", *lines, host=b"plain.test", method=method) + body)
        first = upstream.read_request()
        upstream.close()
        fresh = backends["plain"].accept()
        assert fresh.read_request() == first
        fresh.answer(b"" if method == b"HEAD" else b"again")
        received = client.read_answer(to_head=method == b"HEAD")
        assert received.status == 200
        assert received.body == (b"" if method == b"HEAD" else b"again")


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"LOCK"])
def test_a_request_that_may_have_had_its_effect_is_not_sent_again(
    method: bytes, gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        client.send(get(host=b"plain.test", method=method))
        upstream.read_request()
        upstream.close()
        received = client.read_answer()
        assert (received.status, reason(received)) == (502, b"upstream-reset")
        assert backends["plain"].nobody_connects()


def test_a_body_that_is_gone_is_not_sent_again(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        client.send(get(b"/", b"Content-Length: 8", host=b"plain.test", method=b"PUT") + b"half")
        upstream.read_until(b"half")
        client.send(b"half")
        upstream.read_until(b"half")
        upstream.close()
        assert client.read_answer().status == 502
        assert backends["plain"].nobody_connects()


def test_a_request_is_sent_again_only_once(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        client.send(get(host=b"plain.test"))
        upstream.read_request()
        upstream.close()
        fresh = backends["plain"].accept()
        fresh.read_request()
        fresh.close()
        assert client.read_answer().status == 502
        assert backends["plain"].nobody_connects()


def test_a_request_that_is_sent_again_takes_no_other_old_connection(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        one.send(get(host=b"plain.test"))
        first = backends["plain"].accept()
        first.read_request()
        second = first_exchange(other, backends["plain"], b"plain.test")
        first.answer()
        one.read_answer()
        one.send(get(host=b"plain.test"))
        first.read_request()
        first.close()
        fresh = backends["plain"].accept()
        fresh.read_request()
        fresh.answer()
        assert one.read_answer().status == 200
        assert second.buffer == b""


def test_a_request_whose_answer_has_begun_is_not_sent_again(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"plain.test")
        client.send(get(host=b"plain.test"))
        upstream.read_request()
        upstream.send(b"HTTP/1.1 200 O")
        upstream.close()
        assert client.read_answer().status == 502
        assert backends["plain"].nobody_connects()


def test_a_fresh_connection_that_dies_unanswered_is_a_bad_gateway(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"plain.test"))
        upstream = backends["plain"].accept()
        upstream.read_request()
        upstream.close()
        assert client.read_answer().status == 502
        assert backends["plain"].nobody_connects()


# Not getting one.


@pytest.mark.parametrize("host", [b"refusing.test", b"refusing-both.test"])
def test_a_backend_that_refuses_is_a_bad_gateway(host: bytes, gateway: GatewayProcess) -> None:
    received = ask_in_vain(gateway, host)
    assert (received.status, reason(received)) == (502, b"connect-failed")
    assert received.values(b"proxy-status") == [b"fastgw; error=connection_refused"]


def test_another_endpoint_is_tried_when_one_refuses(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"half-refusing.test")
        for _ in range(4):
            # Whichever endpoint comes first, it is answered; a POST too, since nothing has been sent before.
            client.send(get(host=b"half-refusing.test", method=b"POST"))
            upstream.read_request()
            upstream.answer()
            assert client.read_answer().status == 200


def test_a_request_with_a_body_goes_whole_to_the_endpoint_that_is_tried_next(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    body = bytes(range(256)) * 1000
    for _ in range(2):
        with Client(gateway.address) as client:
            head = get(b"/", b"Content-Length: %d" % len(body), host=b"half-refusing.test", method=b"POST")
            client.send(head + body)
            upstream = backends["plain"].accept()
            assert upstream.read_request().body == body
            upstream.answer(b"ok", b"Connection: close")
            assert client.read_answer().status == 200


def test_a_backend_that_accepts_nothing_is_a_gateway_timeout(gateway: GatewayProcess) -> None:
    received = ask_in_vain(gateway, b"full.test")
    assert (received.status, reason(received)) == (504, b"connect-timeout")


def test_a_name_is_looked_up(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as client:
        upstream = first_exchange(client, backends["plain"], b"named.test")
        exchange(client, upstream, b"named.test")


def test_a_name_without_an_address_is_a_bad_gateway(gateway: GatewayProcess) -> None:
    received = ask_in_vain(gateway, b"nameless.test")
    assert (received.status, reason(received)) == (502, b"name-unresolved")
    assert received.values(b"proxy-status") == [b"fastgw; error=dns_error"]


# Time-outs.


def test_a_backend_that_does_not_answer_is_a_gateway_timeout(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"silent.test"))
        upstream = backends["silent"].accept()
        upstream.read_request()
        received = client.read_answer()
        assert (received.status, reason(received)) == (504, b"response-timeout")
        assert upstream.ended()
        # The client's own connection goes on.
        first_exchange(client, backends["plain"], b"plain.test")


def test_the_time_for_an_answer_begins_when_the_request_is_complete(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(b"/", b"Content-Length: 3", host=b"silent.test", method=b"POST") + b"a")
        upstream = backends["silent"].accept()
        upstream.read_head()
        upstream.sock.settimeout(0.6)
        upstream.read_exactly(1)
        with pytest.raises(TimeoutError):
            upstream.read_exactly(1)
        client.send(b"bc")
        upstream.read_exactly(2)
        upstream.answer()
        assert client.read_answer().status == 200


def test_a_route_that_takes_too_long_is_a_gateway_timeout(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"routed.test"))
        upstream = backends["routed"].accept()
        upstream.read_request()
        received = client.read_answer()
        assert (received.status, reason(received)) == (504, b"route-timeout")
        assert upstream.ended()


def test_a_route_that_takes_too_long_inside_its_answer_is_broken_off(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"routed.test"))
        upstream = backends["routed"].accept()
        upstream.read_request()
        upstream.send(HEAD_OF_4 + b"ha")
        with pytest.raises(ConnectionEndedError):
            client.read_answer()
        assert upstream.ended()


def test_an_answer_that_stalls_is_broken_off(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as client:
        client.send(get(host=b"stalling.test"))
        upstream = backends["stalling"].accept()
        upstream.read_request()
        upstream.send(HEAD_OF_4 + b"ha")
        with pytest.raises(ConnectionEndedError):
            client.read_answer()
        assert upstream.ended()


# The bound, and the queue before it.


def test_past_the_bound_a_request_waits_and_takes_the_connection_that_comes_free(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        one.send(get(b"/one", host=b"narrow.test"))
        upstream = backends["narrow"].accept()
        upstream.read_request()
        other.send(get(b"/other", host=b"narrow.test"))
        wait_until_queued(gateway)
        upstream.answer(b"one")
        assert one.read_answer().body == b"one"
        assert upstream.read_request().line == b"GET /other HTTP/1.1"
        upstream.answer(b"other")
        assert other.read_answer().body == b"other"
        assert backends["narrow"].nobody_connects()


def test_past_the_queue_a_request_is_refused_at_once(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other, Client(gateway.address) as third:
        one.send(get(b"/one", host=b"narrow.test"))
        upstream = backends["narrow"].accept()
        upstream.read_request()
        other.send(get(b"/other", host=b"narrow.test"))
        wait_until_queued(gateway)
        received = third.ask(get(b"/third", host=b"narrow.test"))
        assert (received.status, reason(received)) == (503, b"queue-full")
        assert received.values(b"retry-after") == [b"1"]
        for client, body in ((one, b"one"), (other, b"other")):
            upstream.answer(body)
            assert client.read_answer().body == body
            if client is one:
                upstream.read_request()


def test_a_client_that_leaves_the_queue_makes_room_in_it(
    gateway: GatewayProcess, backends: dict[str, PlayedBackend]
) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as third:
        one.send(get(b"/one", host=b"narrow.test"))
        upstream = backends["narrow"].accept()
        upstream.read_request()
        worker = gateway.worker_pid()
        with Client(gateway.address) as other:
            other.send(get(b"/other", host=b"narrow.test"))
            wait_until_queued(gateway)
            before = descriptors(worker)
        assert eventually(lambda: descriptors(worker) < before)
        third.send(get(b"/third", host=b"narrow.test"))
        wait_until_queued(gateway)
        upstream.answer(b"one")
        assert one.read_answer().body == b"one"
        assert upstream.read_request().line == b"GET /third HTTP/1.1"
        upstream.answer(b"third")
        assert third.read_answer().body == b"third"


def test_a_request_waits_only_so_long(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        one.send(get(host=b"impatient.test"))
        upstream = backends["impatient"].accept()
        upstream.read_request()
        received = other.ask(get(host=b"impatient.test"))
        assert (received.status, reason(received)) == (503, b"queue-timeout")
        assert received.values(b"retry-after") == [b"1"]
        upstream.answer()
        assert one.read_answer().status == 200


def test_a_connection_that_breaks_lets_the_next_in(gateway: GatewayProcess, backends: dict[str, PlayedBackend]) -> None:
    with Client(gateway.address) as one, Client(gateway.address) as other:
        one.send(get(host=b"narrow.test"))
        upstream = backends["narrow"].accept()
        upstream.read_request()
        other.send(get(b"/other", host=b"narrow.test"))
        wait_until_queued(gateway)
        upstream.close()
        assert one.read_answer().status == 502
        fresh = backends["narrow"].accept()
        assert fresh.read_request().line == b"GET /other HTTP/1.1"
        fresh.answer(b"other")
        assert other.read_answer().body == b"other"


def wait_until_queued(gateway: GatewayProcess) -> None:
    """What was sent before has been read, once an answer to what is sent after it is there."""
    for _ in range(2):
        # Twice, since the order within one turn of the loop is nobody's.
        with Client(gateway.address) as client:
            assert client.ask(get(host=b"nobody.test")).status == 404
