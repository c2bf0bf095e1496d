"""Raw bytes in at one side of the running gateway, and what comes out at the other; the tables are in `vectors`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.vectors import ANSWERS, REQUESTS
from tests.end_to_end.vectors.outcome import (
    Answered,
    AnsweredHere,
    AnswerVector,
    BadGateway,
    BrokenOff,
    CutShort,
    Dropped,
    Forwarded,
    Refused,
    RequestVector,
    answer,
    request,
    without_chance,
)
from tests.end_to_end.vectors.sequences import BODY_SIZE, HEAD_SIZE, HEADER_COUNT, TARGET_SIZE
from tests.support.backend import Answer, RecordingBackend
from tests.support.client import Client, Received
from tests.support.gateway import LISTEN, GatewayProcess

AFTER = b"GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n"
AFTER_FORWARDED = request(b"GET /after")
OK = answer(b"HTTP/1.1 200 OK", framing=b"Content-Length: 2", body=b"ok")
LAST_OK = answer(b"HTTP/1.1 200 OK", framing=(b"Content-Length: 2", b"Connection: close"), body=b"ok")


@pytest.fixture(scope="module")
def gateway(backend: RecordingBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    config = f"""
        [server]
        workers = 1
        drain_timeout = "2s"

        [[listeners]]
        address = "{LISTEN}"
        [listeners.limits]
        head_size = "{HEAD_SIZE}B"
        target_size = "{TARGET_SIZE}B"
        header_count = {HEADER_COUNT}
        body_size = "{BODY_SIZE}B"

        [upstreams.backend]
        endpoints = ["{backend.address}"]

        [[routes]]
        host = ["a.test", "b.test", "127.0.0.1", "[::1]"]
        upstream = "backend"

        [[routes]]
        host = "get.test"
        methods = ["GET", "HEAD"]
        upstream = "backend"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("vectors")) as running:
        yield running


def nothing_else_arrived(gateway: GatewayProcess, backend: RecordingBackend, before: bytes = b"") -> None:
    """A request that follows arrives right behind `before`: the backend has got nothing in between."""
    with Client(gateway.address) as client:
        client.send(AFTER)
        assert client.read_answer().status == 200
    assert without_chance(backend.received) == before + AFTER_FORWARDED


def refused(received: Received, status: int) -> None:
    assert received.status == status, received.raw
    assert b"\r\nContent-Type: application/problem+json\r\n" in received.head


@pytest.mark.parametrize("vector", [pytest.param(one, id=one.id) for one in REQUESTS])
def test_a_request_is_forwarded_in_one_form_or_refused(
    vector: RequestVector, gateway: GatewayProcess, backend: RecordingBackend
) -> None:
    backend.expect()
    outcome = vector.outcome
    with Client(gateway.address) as client:
        client.send(vector.sent)
        if vector.half_close and not isinstance(outcome, Forwarded):
            client.half_close()
        if isinstance(outcome, Forwarded):
            is_forwarded(client, outcome, backend, vector.half_close)
        elif isinstance(outcome, Refused):
            refused(client.read_answer(to_head=vector.sent.startswith(b"HEAD")), outcome.status)
            if outcome.kept:
                client.send(AFTER)
                assert client.read_answer().status == 200
                assert without_chance(backend.received) == AFTER_FORWARDED
            else:
                assert client.read_to_end() == b""
                nothing_else_arrived(gateway, backend)
        elif isinstance(outcome, AnsweredHere):
            assert client.read_answer().status == outcome.status
            client.send(AFTER)
            assert client.read_answer().status == 200
            assert without_chance(backend.received) == AFTER_FORWARDED
        elif isinstance(outcome, BrokenOff):
            told = client.read_to_end()
            assert told[9:12] == b"%d" % outcome.status if outcome.status else told == b""
            backend.wait_for(lambda: any(one.partial and one.closed for one in backend.connections), "it isn't closed")
            assert without_chance(backend.received) == outcome.request
        elif isinstance(outcome, Dropped):
            assert client.read_to_end() == b""
            nothing_else_arrived(gateway, backend)


def is_forwarded(client: Client, outcome: Forwarded, backend: RecordingBackend, half_close: bool) -> None:
    count = len(outcome.requests)
    received = [client.read_answer() for _ in range(count)]
    assert all(one.head.count(b"\r\nDate: ") == 1 for one in received)
    answers = [without_chance(one.raw) for one in received]
    if half_close:
        client.half_close()
    last = OK if outcome.kept or outcome.then or half_close else LAST_OK
    if b"Via: 1.0 fastgw" in outcome.requests[-1] and outcome.kept:
        last = answer(b"HTTP/1.1 200 OK", framing=(b"Content-Length: 2", b"Connection: keep-alive"), body=b"ok")
    assert answers == [OK] * (count - 1) + [last]
    if outcome.then:
        refused(client.read_answer(), outcome.then)
    expected = b"".join(outcome.requests)
    if outcome.kept:
        assert without_chance(backend.received) == expected
        client.send(AFTER)
        assert client.read_answer().status == 200
        expected += AFTER_FORWARDED
    else:
        assert client.read_to_end() == b""
    assert without_chance(backend.received) == expected


@pytest.mark.parametrize("vector", [pytest.param(one, id=one.id) for one in ANSWERS])
def test_an_answer_arrives_in_one_form_or_not_at_all(
    vector: AnswerVector, gateway: GatewayProcess, backend: RecordingBackend
) -> None:
    backend.expect(Answer(vector.answer, vector.later, vector.close), Answer())
    outcome = vector.outcome
    with Client(gateway.address) as client:
        client.send(vector.request)
        if vector.later:
            client.buffer = client.read_until(vector.seen)
            backend.proceed()
        if isinstance(outcome, CutShort):
            came = without_chance(client.read_to_end())
            assert outcome.received.startswith(came)
            return
        if isinstance(outcome, BadGateway):
            assert not outcome.after or client.read_exactly(len(outcome.after)) == outcome.after
            refused(client.read_answer(), 502)
            kept = True
        else:
            is_answered(client, outcome, to_head=vector.request.startswith(b"HEAD"))
            kept = outcome.kept
        if kept:
            client.send(AFTER)
            assert without_chance(client.read_answer().raw) == OK
    nothing_else_arrived_but_once(backend)


def is_answered(client: Client, outcome: Answered, to_head: bool) -> None:
    came = b""
    status = 100
    while status < 200:
        received = client.read_answer(to_head)
        status = received.status
        came += received.raw
    assert received.head.count(b"\r\nDate: ") == 1
    if not outcome.kept:
        came += client.read_to_end()
    assert without_chance(came) == outcome.received


def nothing_else_arrived_but_once(backend: RecordingBackend) -> None:
    """What was answered badly was not asked for again."""
    assert without_chance(backend.received).count(b"X-Request-Id: ID") <= 2


def test_there_are_vectors_enough_and_their_names_tell_them_apart() -> None:
    names = [vector.id for vector in (*REQUESTS, *ANSWERS)]
    assert len(set(names)) == len(names) >= 400
