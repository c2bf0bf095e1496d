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


# Splits.

SPLIT = """
[upstreams.a]
endpoints = ["b:1"]
[upstreams.b]
endpoints = ["b:2"]
[[routes]]
upstream = [{ upstream = "a", weight = WEIGHT }, { upstream = "b", weight = 50 }]
split = { sticky = { cookie = "arm", secret = "0123456789abcdef" }, header = "X-Arm" }
"""


def split(*lines: bytes, chance: float = 0.0, weight: int = 50) -> tuple[str, Line, FakeConnection]:
    """Where the request goes to."""
    backend = FakeConnection()
    pools = [FakePool("a", backend), FakePool("b", backend)]
    line = Line(SPLIT.replace("WEIGHT", str(weight)), *pools, chance=chance)
    exchange = line.get("/", *lines)
    backend.answers(OK)
    assert exchange.pool is not None
    return exchange.pool.name, line, backend


def test_a_client_stays_in_his_arm() -> None:
    name, line, _ = split(chance=0.0)
    assert name == "a"
    cookie = cookie_of(line)
    assert values(line.client.fields, b"cache-control") == [b"private"]
    name, line, backend = split(b"Cookie: x=1; " + cookie, chance=0.9)
    assert (name, values(line.client.fields, b"set-cookie")) == ("a", [])
    assert values(backend.fields, b"cookie") == [b"x=1"]


def test_an_arm_without_weight_is_left() -> None:
    cookie = cookie_of(split(chance=0.0)[1])
    name, line, _ = split(b"Cookie: " + cookie, weight=0)
    assert name == "b"
    assert cookie_of(line) not in (b"", cookie)


def test_a_request_that_names_an_arm_goes_there_and_its_client_stays_where_he_is() -> None:
    cookie = cookie_of(split(chance=0.9)[1])
    name, line, backend = split(b"Cookie: " + cookie, b"X-Arm: a", weight=0)
    assert (name, values(line.client.fields, b"set-cookie")) == ("a", [])
    assert values(backend.fields, b"cookie") == []
    assert split(b"Cookie: " + cookie)[0] == "b"


def test_the_cookies_of_split_and_endpoint_go_together() -> None:
    config = SPLIT.replace("WEIGHT", "1").replace('["b:1"]', f'["b:1", "b:2"]\n{STICKY}')
    backend = FakeConnection()
    line = Line(config, pool(backend, config=config), FakePool("b"))
    line.get("/")
    backend.answers(OK)
    cookies = [cookie.partition(b"=")[0] for cookie in values(line.client.fields, b"set-cookie")]
    assert cookies == [b"arm", b"s"]
    assert values(line.client.fields, b"cache-control") == [b"private"]
