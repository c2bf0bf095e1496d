"""HTTP/1.1 both ways: framing in all its forms, the order of answers, answers before the answer, and addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backend import RecordingBackend
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend, PlayedConnection

CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedBackend]:
    """A backend on a Unix socket."""
    with PlayedBackend(path=tmp_path_factory.mktemp("sockets") / "backend.sock") as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(played: PlayedBackend, local: PlayedBackend) -> Iterator[None]:
    yield
    played.hang_up()
    local.hang_up()


def free_port_v6() -> int:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def port_v6() -> int:
    return free_port_v6()


@pytest.fixture(scope="module")
def gateway(
    played: PlayedBackend,
    local: PlayedBackend,
    backend: RecordingBackend,
    port_v6: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    config = f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"

        [[listeners]]
        address = "[::1]:{port_v6}"

        [[listeners]]
        address = "unix:gateway.sock"
        limits.body_size = "1KiB"

        [upstreams]
        played.endpoints = ["{played.address}"]
        local.endpoints = ["{local.address}"]
        recording.endpoints = ["{backend.address}"]

        [[routes]]
        host = "a.test"
        upstream = "played"

        [[routes]]
        host = "local.test"
        upstream = "local"

        [[routes]]
        host = "recording.test"
        upstream = "recording"

        [[routes]]
        host = "get.test"
        methods = ["GET"]
        upstream = "recording"

        [[routes]]
        host = "here.test"
        respond = {{ body = "here" }}
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("messages")) as running:
        yield running


def begin(client: Client, played: PlayedBackend, sent: bytes) -> PlayedConnection:
    """Sends a request; the connection on which it arrives."""
    client.send(sent)
    return played.accept()


# Connections.


def test_a_connection_carries_one_request_after_the_other(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        for number in range(50):
            received = client.ask(get(b"/%d" % number, host=b"recording.test"))
            assert (received.status, received.body) == (200, b"ok")
            assert received.values(b"connection") == []


def test_a_client_that_says_close_is_closed_after_its_answer(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        received = client.ask(get(b"/", b"Connection: close", host=b"recording.test"))
        assert received.values(b"connection") == [b"close"]
        assert client.read_to_end() == b""


def test_pipelined_requests_are_answered_in_order(gateway: GatewayProcess, played: PlayedBackend) -> None:
    count = 100
    with Client(gateway.address) as client:
        client.send(b"".join(get(b"/%d" % number) for number in range(count)))
        upstream = played.accept()
        for number in range(count):
            assert upstream.read_request().line == b"GET /%d HTTP/1.1" % number
            # One at a time: a request is sent only when the answer before it has passed.
            assert upstream.buffer == b""
            upstream.answer(b"%d" % number)
        assert [client.read_answer().body for _ in range(count)] == [b"%d" % number for number in range(count)]


def test_pipelined_requests_of_all_sorts_keep_their_order(gateway: GatewayProcess) -> None:
    sent = [
        get(b"/", host=b"recording.test"),
        get(host=b"here.test"),
        get(host=b"nobody.test"),
        get(b"/", b"Content-Length: 4", host=b"recording.test", method=b"POST") + b"body",
        get(b"/", CHUNKED, host=b"recording.test", method=b"PUT") + b"4\r\nbody\r\n0\r\n\r\n",
        get(host=b"get.test", method=b"DELETE"),
        get(b"/", b"Connection: close", host=b"here.test"),
        get(b"/never", host=b"recording.test"),
    ]
    with Client(gateway.address) as client:
        client.send(b"".join(sent))
        received = [client.read_answer() for _ in sent[:-1]]
        assert [one.status for one in received] == [200, 200, 404, 200, 200, 405, 200]
        assert received[-1].values(b"connection") == [b"close"]
        assert client.read_to_end() == b""


def test_a_client_that_pipelines_without_end_is_held_back(gateway: GatewayProcess, played: PlayedBackend) -> None:
    count = 5000
    with Client(gateway.address) as client:
        upstream = begin(client, played, get())
        upstream.read_request()
        client.send(b"".join(get(b"/%d" % number, host=b"here.test") for number in range(count)))
        upstream.answer()
        assert client.read_answer().body == b"ok"
        assert [client.read_answer().body for _ in range(count)] == [b"here"] * count


# HTTP/1.0.


@pytest.mark.parametrize("kept", [False, True])
def test_a_client_of_http_1_0_is_kept_when_it_asks_for_it(kept: bool, gateway: GatewayProcess) -> None:
    line = b"Connection: keep-alive\r\n" if kept else b""
    sent = b"GET / HTTP/1.0\r\nHost: recording.test\r\n" + line + b"\r\n"
    with Client(gateway.address) as client:
        received = client.ask(sent)
        assert received.status == 200
        assert received.values(b"connection") == ([b"keep-alive"] if kept else [b"close"])
        if kept:
            assert client.ask(sent).status == 200
        else:
            assert client.read_to_end() == b""


def test_a_client_of_http_1_0_gets_no_chunks(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
        # To the backend it is a request like others.
        assert upstream.read_request().line == b"GET / HTTP/1.1"
        upstream.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n" % CHUNKED)
        received = client.read_answer()
        assert received.values(b"transfer-encoding") == received.values(b"content-length") == []
        assert received.values(b"connection") == [b"close"]
        assert received.body == b"hello"


def test_a_client_of_http_1_0_gets_no_answer_before_the_answer(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
        upstream.read_request()
        upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        upstream.answer()
        assert client.read_answer().status == 200


def test_a_backend_of_http_1_0_is_understood(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get())
        upstream.read_request()
        upstream.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the close")
        upstream.close()
        received = client.read_answer()
        assert received.head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert received.body == b"until the close"
        # The client's connection outlives it.
        assert client.ask(get(host=b"here.test")).body == b"here"


# Bodies.


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_body_passes_as_it_is_framed(
    chunked: bool, pieces: int, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    parts = [b"part %d, " % number for number in range(pieces)]
    whole = b"".join(parts)
    framing = CHUNKED if chunked else b"Content-Length: %d" % len(whole)
    with Client(gateway.address) as client:
        client.send(get(b"/", framing, method=b"POST"))
        for part in parts:
            client.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        if chunked:
            client.send(b"0\r\n\r\n")
        asked = (upstream := played.accept()).read_request()
        assert asked.body == whole
        assert asked.values(b"content-length") == ([] if chunked else [b"%d" % len(whole)])
        assert asked.values(b"transfer-encoding") == ([b"chunked"] if chunked else [])
        upstream.answer()
        assert client.read_answer().status == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"])
def test_any_method_may_have_a_body(method: bytes, gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"/", b"Content-Length: 4", method=method) + b"body")
        asked = upstream.read_request()
        assert asked.line == method + b" / HTTP/1.1"
        assert asked.body == b"body"
        upstream.answer(b"")
        assert client.read_answer(to_head=method == b"HEAD").status == 200


@pytest.mark.parametrize("kind", ["length", "chunked", "until the close", "empty", "empty chunks"])
def test_an_answer_passes_however_it_is_framed(kind: str, gateway: GatewayProcess, played: PlayedBackend) -> None:
    answers = {
        "length": b"Content-Length: 10\r\n\r\nthe answer",
        "chunked": CHUNKED + b"\r\n\r\n4\r\nthe \r\n6\r\nanswer\r\n0\r\n\r\n",
        "until the close": b"\r\nthe answer",
        "empty": b"Content-Length: 0\r\n\r\n",
        "empty chunks": CHUNKED + b"\r\n\r\n0\r\n\r\n",
    }
    with Client(gateway.address) as client:
        upstream = begin(client, played, get())
        upstream.read_request()
        upstream.send(b"HTTP/1.1 200 OK\r\n" + answers[kind])
        if kind == "until the close":
            upstream.close()
        received = client.read_answer()
        assert received.body == (b"" if "empty" in kind else b"the answer")
        assert received.values(b"transfer-encoding") == ([b"chunked"] if kind not in ("length", "empty") else [])
        assert client.ask(get(host=b"here.test")).body == b"here"


def test_trailers_pass_both_ways(gateway: GatewayProcess, played: PlayedBackend) -> None:
    body = b"4\r\nbody\r\n0\r\nX-Checksum: 1\r\n\r\n"
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"/", CHUNKED, b"Trailer: X-Checksum", b"TE: trailers", method=b"POST"))
        client.send(body)
        asked = upstream.read_head()
        assert asked.values(b"trailer") == [b"X-Checksum"]
        assert upstream.read_exactly(len(body)) == body
        upstream.send(b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\n%b\r\n\r\n%b" % (CHUNKED, body))
        received = client.read_answer()
        assert received.values(b"trailer") == [b"X-Checksum"]
        assert received.raw.endswith(body)


def test_no_trailer_passes_that_would_be_a_header(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"/", CHUNKED, method=b"POST"))
        client.send(b"0\r\nContent-Length: 5\r\nX-Good: 1\r\nHost: evil.test\r\n\r\n")
        upstream.read_head()
        assert upstream.read_until(b"\r\n\r\n") == b"0\r\nX-Good: 1\r\n\r\n"
        upstream.answer()
        assert client.read_answer().status == 200


# Answers that have no body.


def test_the_answer_to_head_says_the_length_and_has_no_body(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(method=b"HEAD"))
        upstream.read_request()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        assert client.read_answer(to_head=True).values(b"content-length") == [b"1000"]
        # At once, not when a body that never comes is there.
        client.send(get(b"/next"))
        assert upstream.read_request().line == b"GET /next HTTP/1.1"
        upstream.answer()
        assert client.read_answer().body == b"ok"


def test_the_gateways_own_answers_to_head_have_no_body(gateway: GatewayProcess) -> None:
    with Client(gateway.address) as client:
        for host, status, length in ((b"here.test", 200, b"4"), (b"nobody.test", 404, None)):
            client.send(get(host=host, method=b"HEAD"))
            received = client.read_answer(to_head=True)
            assert received.status == status
            assert received.values(b"content-length") != []
            assert length is None or received.values(b"content-length") == [length]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_never_has_a_body_ends_at_once(
    status: bytes, gateway: GatewayProcess, played: PlayedBackend
) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get())
        upstream.read_request()
        upstream.send(b'HTTP/1.1 %b\r\nETag: "1"\r\n\r\n' % status)
        received = client.read_answer()
        assert received.head.startswith(b"HTTP/1.1 " + status)
        assert received.values(b"transfer-encoding") == []
        client.send(get())
        upstream.read_request()
        upstream.answer()
        assert client.read_answer().body == b"ok"


# Answers before the answer.


def test_the_100_comes_from_the_backend(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        head = get(b"/", b"Content-Length: 4", b"Expect: 100-continue", method=b"POST")
        upstream = begin(client, played, head)
        assert upstream.read_head().values(b"expect") == [b"100-continue"]
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.read_answer().status == 100
        client.send(b"body")
        assert upstream.read_exactly(4) == b"body"
        upstream.answer()
        assert client.read_answer().status == 200
        client.send(get(b"/next"))
        assert upstream.read_request().line == b"GET /next HTTP/1.1"
        upstream.answer()
        assert client.read_answer().status == 200


def test_a_backend_that_does_not_want_the_body_is_not_sent_it(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"/", b"Content-Length: 4", b"Expect: 100-continue", method=b"PUT"))
        upstream.read_head()
        upstream.answer(b"no", status=b"403 Forbidden")
        received = client.read_answer()
        assert (received.status, received.body) == (403, b"no")
        # Whether the body comes now can't be known, so neither connection can be used again.
        assert received.values(b"connection") == [b"close"]
        assert upstream.ended()


@pytest.mark.parametrize(
    ("host", "body", "status"), [(b"nobody.test", b"4", 404), (b"get.test", b"4", 405), (b"a.test", b"99999", 413)]
)
def test_who_waits_for_a_100_gets_the_gateways_refusal_at_once(
    host: bytes, body: bytes, status: int, gateway: GatewayProcess
) -> None:
    with Client(str(gateway.directory / "gateway.sock")) as client:
        client.send(get(b"/", b"Content-Length: " + body, b"Expect: 100-continue", host=host, method=b"POST"))
        assert client.read_answer().status == status


def test_early_hints_are_passed_on_as_they_come(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get())
        upstream.read_request()
        for name in (b"a", b"b"):
            upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </%b.css>\r\n\r\n" % name)
            hints = client.read_answer()
            assert hints.status == 103
            assert hints.values(b"link") == [b"</%b.css>" % name]
        upstream.answer()
        assert client.read_answer().status == 200


# Targets.


def test_options_is_for_the_backend(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"/some", method=b"OPTIONS"))
        assert upstream.read_request().line == b"OPTIONS /some HTTP/1.1"
        upstream.answer(b"", b"Allow: GET, OPTIONS")
        assert client.read_answer().values(b"allow") == [b"GET, OPTIONS"]


def test_options_for_the_server_as_a_whole_is_answered(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, played, get(b"*", method=b"OPTIONS"))
        assert upstream.read_request().line == b"OPTIONS * HTTP/1.1"
        upstream.answer(b"", b"Allow: GET, OPTIONS")
        assert client.read_answer().status == 200


@pytest.mark.parametrize("target", [b"a.test:443", b"/", b"http://a.test/"])
def test_connect_is_refused(target: bytes, gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        client.send(get(target, host=b"a.test:443" if target == b"a.test:443" else b"a.test", method=b"CONNECT"))
        assert client.read_answer().status in (400, 501)
        assert client.read_to_end() == b""
    assert played.nobody_connects()


# Where it listens, and where backends do.


def test_it_listens_on_a_unix_socket(gateway: GatewayProcess, played: PlayedBackend) -> None:
    with Client(str(gateway.directory / "gateway.sock")) as client:
        upstream = begin(client, played, get())
        assert upstream.read_request().values(b"forwarded") == [b'for=unknown;proto=http;host="a.test"']
        upstream.answer()
        assert client.read_answer().status == 200


def test_it_listens_on_ipv6(gateway: GatewayProcess, played: PlayedBackend, port_v6: int) -> None:
    with Client(("::1", port_v6)) as client:
        upstream = begin(client, played, get())
        asked = upstream.read_request()
        assert asked.values(b"x-forwarded-for") == [b"::1"]
        assert asked.values(b"forwarded") == [b'for="[::1]";proto=http;host="a.test"']
        upstream.answer()
        assert client.read_answer().status == 200


def test_a_backend_may_be_on_a_unix_socket(gateway: GatewayProcess, local: PlayedBackend) -> None:
    with Client(gateway.address) as client:
        upstream = begin(client, local, get(host=b"local.test"))
        assert upstream.read_request().line == b"GET / HTTP/1.1"
        upstream.answer(b"local")
        assert client.read_answer().body == b"local"
        client.send(get(b"/again", host=b"local.test"))
        assert upstream.read_request().line == b"GET /again HTTP/1.1"
        upstream.answer(b"again")
        assert client.read_answer().body == b"again"


def test_the_sockets_it_made_are_gone_when_it_has_ended(tmp_path: Path) -> None:
    config = f"""
        [[listeners]]
        address = "{LISTEN}"

        [[listeners]]
        address = "unix:gateway.sock"

        [[routes]]
        respond = {{ body = "here" }}
    """
    path = tmp_path / "gateway.sock"
    with GatewayProcess(config, tmp_path):
        assert path.is_socket()
        with Client(str(path)) as client:
            assert client.ask(get()).body == b"here"
    assert not path.exists()
