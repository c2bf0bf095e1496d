"""Cookies that bring a client back, on the line."""

from __future__ import annotations

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1.fields import values
from fastgw.net.endpoint_states import EndpointStates
from tests.fakes import FakeConnection, FakePool, Line, snapshot_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0"
STICKY = 'sticky = { cookie = "s", secret = "0123456789abcdef" }'
CONFIG = f'[upstreams.a]\nendpoints = ["b:1", "b:2"]\n{STICKY}\n[[routes]]\nupstream = "a"\n'


def pool(*connections: FakeConnection | Failure, config: str = CONFIG) -> FakePool:
    made = FakePool("a", *connections)
    upstream = snapshot_of(config).upstreams["a"]
    made.sticky = EndpointStates(upstream, lambda: 0.0, lambda: 0.0, lambda _: None).sticky
    return made


def asked(*lines: bytes, answer: bytes = OK, config: str = CONFIG) -> tuple[Line, FakeConnection]:
    """A request with those header lines that the second endpoint answers."""
    backend = FakeConnection()
    backend.endpoint_index = 1
    line = Line(config, pool(backend, config=config))
    line.get("/", *lines)
    backend.answers(answer)
    return line, backend


def cookie_of(line: Line) -> bytes:
    (cookie,) = values(line.client.fields, b"set-cookie")
    return cookie.partition(b";")[0]


def test_a_new_client_is_told_how_to_come_back() -> None:
    line, _ = asked()
    (cookie,) = values(line.client.fields, b"set-cookie")
    assert cookie.startswith(b"s=")
    assert cookie.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert values(line.client.fields, b"cache-control") == [b"private"]


def test_whoever_comes_back_is_told_nothing_and_the_upstream_does_not_see_it() -> None:
    cookie = cookie_of(asked()[0])
    line, backend = asked(b"Cookie: a=1; " + cookie)
    assert values(line.client.fields, b"set-cookie") == []
    assert values(line.client.fields, b"cache-control") == []
    assert values(backend.fields, b"cookie") == [b"a=1"]


def test_a_forged_cookie_is_taken_out_and_replaced() -> None:
    line, backend = asked(b"Cookie: s=forged")
    assert cookie_of(line) == cookie_of(asked()[0])
    assert values(backend.fields, b"cookie") == []


def test_the_upstream_s_own_cookies_stay_and_edits_do_not_concern_ours() -> None:
    line, _ = asked(answer=OK + b"\r\nSet-Cookie: own=1")
    assert len(values(line.client.fields, b"set-cookie")) == 2
    edits = 'response.headers = { remove = ["Set-Cookie"], set = { Cache-Control = "public, max-age=9" } }\n'
    line, _ = asked(answer=OK + b"\r\nSet-Cookie: own=1", config=CONFIG + edits)
    assert cookie_of(line).startswith(b"s=")
    assert values(line.client.fields, b"cache-control") == [b"public, max-age=9", b"private"]


def test_an_answer_of_the_gateway_itself_sets_none() -> None:
    line = Line(CONFIG, pool(errors.NO_ENDPOINT))
    line.get("/")
    assert line.client.status == b"503 Service Unavailable"
    assert values(line.client.fields, b"set-cookie") == []
