"""What the gateway says of itself and of the client, whom it believes, and what a route edits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import Asked, PlayedBackend, PlayedConnection

MADE_ID = re.compile(rb"[0-9a-f]{32}")

ROUTES = """
    [[routes]]
    host = "a.test"
    upstream = "played"

    [[routes]]
    host = "edited.test"
    upstream = "played"
    request.headers = { set = { X-Set = "ours", X-Real = "1" }, add = { X-Add = "ours" }, remove = ["Cookie"] }
    response.headers = { set = { X-Set = "ours" }, add = { Set-Cookie = "ours=1" }, remove = ["Server"] }

    [[routes]]
    host = "edited.test"
    path = "/here"
    respond = { body = "here" }
    response.headers = { set = { X-Set = "ours" } }

    [[routes]]
    host = "rewritten.test"
    path = "/items/{id}/{rest*}"
    upstream = "played"
    rewrite.path = "/v2/{rest}/of/{id}"

    [[routes]]
    host = "rewritten.test"
    path = "/api/{rest*}"
    upstream = "played"
    rewrite = { strip_prefix = "/api", host = "inner.test:8080" }

    [[routes]]
    host = "rewritten.test"
    path = "/old/{rest*}"
    redirect = { to = "/new/{rest}", status = 308 }
"""


@pytest.fixture(scope="module")
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(played: PlayedBackend) -> Iterator[None]:
    yield
    played.hang_up()


def running(played: PlayedBackend, trusted: str, factory: pytest.TempPathFactory) -> GatewayProcess:
    config = f"""
        [server]
        workers = 1
        trusted_proxies = [{trusted}]

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        played.endpoints = ["{played.address}"]
        {ROUTES}
    """
    return GatewayProcess(config, factory.mktemp("headers"))


@pytest.fixture(scope="module")
def distrusting(played: PlayedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running(played, "", tmp_path_factory) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def trusting(played: PlayedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running(played, '"127.0.0.0/8", "10.0.0.0/8"', tmp_path_factory) as gateway:
        yield gateway


def passed(gateway: GatewayProcess, played: PlayedBackend, sent: bytes, *answer_lines: bytes) -> tuple[Asked, Received]:
    """What the backend gets of a request, and the client of its answer."""
    with Client(gateway.address) as client:
        client.send(sent)
        upstream: PlayedConnection = played.accept()
        asked = upstream.read_request()
        upstream.answer(b"ok", *answer_lines, b"Connection: close")
        return asked, client.read_answer()


# The request's id.


def test_a_request_id_is_made_and_told_to_both_sides(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, received = passed(distrusting, played, get())
    assert asked.values(b"x-request-id") == received.values(b"x-request-id")
    assert MADE_ID.fullmatch(asked.values(b"x-request-id")[0])


def test_request_ids_differ(distrusting: GatewayProcess) -> None:
    with Client(distrusting.address) as client:
        ids = {client.ask(get(b"/here", host=b"edited.test")).values(b"x-request-id")[0] for _ in range(100)}
    assert len(ids) == 100
    assert all(MADE_ID.fullmatch(one) for one in ids)


def test_a_strangers_request_id_is_replaced(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, received = passed(distrusting, played, get(b"/", b"X-Request-Id: mine"))
    assert MADE_ID.fullmatch(asked.values(b"x-request-id")[0])
    assert received.values(b"x-request-id") == asked.values(b"x-request-id")


def test_a_trusted_proxys_request_id_is_kept(trusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, received = passed(trusting, played, get(b"/", b"X-Request-Id: edge-1:2/3"))
    assert asked.values(b"x-request-id") == received.values(b"x-request-id") == [b"edge-1:2/3"]


@pytest.mark.parametrize("bad", [b"", b'a"b', b"a b", b"a" * 129, b"a\xff"])
def test_what_is_no_id_is_replaced_even_from_a_trusted_proxy(
    bad: bytes, trusting: GatewayProcess, played: PlayedBackend
) -> None:
    asked, _ = passed(trusting, played, get(b"/", b"X-Request-Id: " + bad))
    assert len(asked.values(b"x-request-id")) == 1
    assert MADE_ID.fullmatch(asked.values(b"x-request-id")[0])


def test_the_backends_own_request_id_does_not_reach_the_client_twice(
    distrusting: GatewayProcess, played: PlayedBackend
) -> None:
    asked, received = passed(distrusting, played, get(), b"X-Request-Id: theirs")
    assert asked.values(b"x-request-id")[0] in received.values(b"x-request-id")


# Whose request it is.


def test_the_connection_says_whose_request_it_is(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, _ = passed(distrusting, played, get(host=b"a.test:8080"))
    assert asked.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert asked.values(b"x-forwarded-proto") == [b"http"]
    assert asked.values(b"x-forwarded-host") == [b"a.test:8080"]
    assert asked.values(b"forwarded") == [b'for=127.0.0.1;proto=http;host="a.test:8080"']


FORGED = (
    b"X-Forwarded-For: 192.0.2.1",
    b"x-forwarded-for: 192.0.2.2",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.test",
    b"Forwarded: for=192.0.2.3;proto=https",
)


def test_a_stranger_is_not_believed(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, _ = passed(distrusting, played, get(b"/", *FORGED))
    assert asked.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert asked.values(b"x-forwarded-proto") == [b"http"]
    assert asked.values(b"x-forwarded-host") == [b"a.test"]
    assert asked.values(b"forwarded") == [b'for=127.0.0.1;proto=http;host="a.test"']
    assert b"192.0.2" not in asked.head


def test_a_trusted_proxy_is_believed_and_added(trusting: GatewayProcess, played: PlayedBackend) -> None:
    lines = (
        b"X-Forwarded-For: 192.0.2.1, 10.1.1.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: shop.test",
        b"Forwarded: for=192.0.2.1;proto=https",
    )
    asked, _ = passed(trusting, played, get(b"/", *lines))
    assert asked.values(b"x-forwarded-for") == [b"192.0.2.1, 10.1.1.1, 127.0.0.1"]
    assert asked.values(b"x-forwarded-proto") == [b"https"]
    assert asked.values(b"x-forwarded-host") == [b"shop.test"]
    assert asked.values(b"forwarded") == [b'for=192.0.2.1;proto=https, for=127.0.0.1;proto=http;host="a.test"']


def test_a_trusted_proxy_that_says_nothing_is_the_client(trusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, _ = passed(trusting, played, get())
    assert asked.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert asked.values(b"forwarded") == [b'for=127.0.0.1;proto=http;host="a.test"']


# Via and Date.


def test_both_sides_see_the_gateway_in_via(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, received = passed(distrusting, played, get(b"/", b"Via: 1.0 theirs"), b"Via: 1.1 inner")
    assert b", ".join(asked.values(b"via")) == b"1.0 theirs, 1.1 fastgw"
    assert b", ".join(received.values(b"via")) == b"1.1 inner, 1.1 fastgw"


def test_via_names_the_version_that_was_received(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    asked, received = passed(distrusting, played, b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
    assert asked.values(b"via") == [b"1.0 fastgw"]
    assert received.values(b"via") == [b"1.1 fastgw"]


def is_now(date: bytes) -> bool:
    return abs(parsedate_to_datetime(date.decode()) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_date_is_added_where_there_is_none(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    _, received = passed(distrusting, played, get())
    assert len(received.values(b"date")) == 1
    assert is_now(received.values(b"date")[0])
    with Client(distrusting.address) as client:
        assert is_now(client.ask(get(b"/here", host=b"edited.test")).values(b"date")[0])


def test_the_backends_date_is_kept(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    date = b"Tue, 15 Nov 1994 08:12:31 GMT"
    _, received = passed(distrusting, played, get(), b"Date: " + date)
    assert received.values(b"date") == [date]


# What passes and what does not.


def test_headers_pass_in_order_and_as_they_are(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    lines = (b"X-B: 2", b"x-a:  1 ", b"X-B: 3", b"Cookie: a=1; b=2", b"X-Empty:", b"X-Bytes: \xc3\xbc")
    asked, received = passed(distrusting, played, get(b"/", *lines), *lines)
    for message in (asked, received):
        assert message.values(b"x-b") == [b"2", b"3"]
        assert message.values(b"x-a") == [b"1"]
        assert message.values(b"cookie") == [b"a=1; b=2"]
        assert message.values(b"x-empty") == [b""]
        assert message.values(b"x-bytes") == [b"\xc3\xbc"]


def test_what_is_about_one_hop_stays_there(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    request_lines = (b"Connection: X-Mine, keep-alive", b"X-Mine: 1", b"Keep-Alive: 5", b"TE: gzip", b"X-Yours: 1")
    with Client(distrusting.address) as client:
        client.send(get(b"/", *request_lines, b"Proxy-Connection: keep-alive"))
        upstream = played.accept()
        asked = upstream.read_request()
        upstream.answer(b"ok", b"Connection: X-Mine, close", b"X-Mine: 1", b"Keep-Alive: 5", b"X-Yours: 1")
        received = client.read_answer()
    for message in (asked, received):
        assert message.values(b"x-yours") == [b"1"]
        for name in (b"x-mine", b"keep-alive", b"proxy-connection", b"connection"):
            assert message.values(name) == []


# Edits.


def test_a_route_edits_requests(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    lines = (b"x-set: theirs", b"X-Set: again", b"X-Add: theirs", b"cookie: a=1", b"X-Other: kept")
    asked, _ = passed(distrusting, played, get(b"/", *lines, host=b"edited.test"))
    assert asked.values(b"x-set") == [b"ours"]
    assert asked.values(b"x-real") == [b"1"]
    assert asked.values(b"x-add") == [b"theirs", b"ours"]
    assert asked.values(b"cookie") == []
    assert asked.values(b"x-other") == [b"kept"]


def test_a_route_edits_answers(distrusting: GatewayProcess, played: PlayedBackend) -> None:
    lines = (b"Server: theirs", b"x-set: theirs", b"Set-Cookie: theirs=1")
    _, received = passed(distrusting, played, get(host=b"edited.test"), *lines)
    assert received.values(b"x-set") == [b"ours"]
    assert received.values(b"server") == []
    assert received.values(b"set-cookie") == [b"theirs=1", b"ours=1"]


def test_a_route_edits_its_own_answers_too(distrusting: GatewayProcess) -> None:
    with Client(distrusting.address) as client:
        assert client.ask(get(b"/here", host=b"edited.test")).values(b"x-set") == [b"ours"]


@pytest.mark.parametrize(
    ("sent", "arrives", "host"),
    [
        (b"/items/7/a/b?q=1", b"/v2/a/b/of/7?q=1", b"rewritten.test"),
        (b"/api/users?x=%20", b"/users?x=%20", b"inner.test:8080"),
        (b"/api/", b"/", b"inner.test:8080"),
    ],
)
def test_a_route_rewrites_what_the_backend_gets(
    sent: bytes, arrives: bytes, host: bytes, distrusting: GatewayProcess, played: PlayedBackend
) -> None:
    asked, _ = passed(distrusting, played, get(sent, host=b"rewritten.test"))
    assert asked.line == b"GET " + arrives + b" HTTP/1.1"
    assert asked.values(b"host") == [host]
    # What the client asked for is told all the same.
    assert asked.values(b"x-forwarded-host")[0] in (b"rewritten.test", host)


def test_a_redirect_keeps_the_path_and_the_query(distrusting: GatewayProcess) -> None:
    with Client(distrusting.address) as client:
        received = client.ask(get(b"/old/a/b?c=d", host=b"rewritten.test", method=b"POST"))
        assert received.status == 308
        assert received.values(b"location") == [b"/new/a/b?c=d"]
