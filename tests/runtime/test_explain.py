from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.errors import ConfigError
from fastgw.http1.fields import values
from fastgw.net.endpoint_states import EndpointStates
from fastgw.policy.arms import Arms
from fastgw.runtime.explain import Explanation, explain
from tests.fakes import FakeConnection, FakePool, Line, snapshot_of

CONFIG = """
[upstreams.a]
endpoints = ["b:1"]
[upstreams.b]
endpoints = ["c:1"]
[[routes]]
name = "item"
host = "shop.test"
path = "/items/{id}"
methods = ["GET", "PUT"]
upstream = "a"
rewrite = { path = "/v2/{id}", host = "inner.test" }
request.headers = { set = { X-Key = "k" }, remove = ["X-Gone"] }
[[routes]]
name = "beta"
path = "/beta"
match.headers = { X-Beta = "1" }
upstream = "b"
[[routes]]
name = "split"
path = "/split"
upstream = [{ upstream = "a", weight = 3 }, { upstream = "b", weight = 1 }]
[[routes]]
name = "old"
path = "/old/{x*}"
redirect = { to = "https://new.test/{x}", status = 301 }
[[routes]]
name = "status"
path = "/status"
respond = { status = 418, body = "tea", headers = { X-Tea = "1" } }
"""
SNAPSHOT = snapshot_of(CONFIG)


def explained(url: str, *headers: tuple[str, str], method: str = "GET") -> Explanation:
    return explain(SNAPSHOT, method, url, list(headers))


def steps(explanation: Explanation) -> list[str]:
    return [f"{step.name}: {step.verdict} ({step.reason})" for step in explanation.steps]


def test_a_request_that_is_forwarded_is_told_step_by_step() -> None:
    told = explained("http://shop.test/items/./7?x=1", ("X-Gone", "1"), ("X-A", "b"))
    assert (told.route, told.upstream, told.path, told.status) == ("item", "a", "/v2/7?x=1", None)
    assert steps(told) == [
        "parse: accepted (host shop.test, path /items/7)",
        "match route: item (captured 7)",
        "transform request: GET /v2/7?x=1 (rewritten by the route)",
        "forward: upstream a (the only upstream)",
        "pick endpoint: b:1 (the only one)",
    ]
    assert told.request_headers[0] == "Host: inner.test"
    assert "X-Key: k" in told.request_headers
    assert "X-A: b" in told.request_headers
    assert not [line for line in told.request_headers if line.startswith("X-Gone")]


def test_a_split_is_told_with_its_shares() -> None:
    told = explained("/split")
    assert (told.route, told.path) == ("split", "/split")
    assert steps(told)[-2] == "forward: upstream a (a split: a 75 %, b 25 %)"


def test_a_condition_decides() -> None:
    assert explained("/beta", ("X-Beta", "1")).route == "beta"
    assert (explained("/beta").route, explained("/beta").status) == (None, 404)


def test_a_redirect_and_a_fixed_answer_are_told_with_what_they_send() -> None:
    moved = explained("/old/a/b")
    assert (moved.route, moved.status, moved.location) == ("old", 301, "https://new.test/a/b")
    tea = explained("/status")
    assert (tea.status, tea.reason) == (418, "")
    assert "X-Tea: 1" in tea.response_headers
    assert steps(tea)[-1] == "respond: 418 I'm a Teapot (the route's own reply)"


@pytest.mark.parametrize(
    ("url", "method", "status", "reason"),
    [
        ("http://other.test/items/7", "GET", 404, "no-route"),
        ("http://shop.test/items/7", "POST", 405, "method-not-allowed"),
        ("http://shop.test/a/../../b", "GET", 400, "bad-target"),
        ("http://shop.test/", "BREW", 501, "unknown-method"),
    ],
)
def test_a_refusal_is_told_with_its_reason(url: str, method: str, status: int, reason: str) -> None:
    told = explained(url, method=method)
    assert (told.status, told.reason, told.route) == (status, reason, None)
    assert reason in told.steps[-1].reason


@pytest.mark.parametrize("url", ["http://", "", "http://a b/", "http://a.test/ x"])
def test_what_is_no_url_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        explained(url)


def test_a_host_header_wins_over_the_url_s() -> None:
    assert explained("http://other.test/items/7", ("Host", "shop.test")).route == "item"


URLS = st.builds(
    lambda host, path, query: f"http://{host}{path}{query}",
    st.sampled_from(["shop.test", "other.test", "SHOP.test:80"]),
    st.sampled_from(
        ["/items/7", "/items/%2e/7", "/items//7", "/items/", "/beta", "/split", "/old/a", "/old/", "/status"]
    )
    | st.sampled_from(["/..", "/%00", "/", "/none"]),
    st.sampled_from(["", "?x=1", "?"]),
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "BREW"])
HEADERS = st.lists(st.sampled_from([("X-Beta", "1"), ("X-Beta", "2"), ("X-Gone", "1"), ("Cookie", "a=b")]), max_size=2)


@settings(max_examples=60, deadline=None)
@given(METHODS, URLS, HEADERS)
def test_what_is_told_is_what_an_exchange_does(method: str, url: str, headers: list[tuple[str, str]]) -> None:
    told = explain(SNAPSHOT, method, url, headers)
    pools = FakePool("a", FakeConnection()), FakePool("b", FakeConnection())
    line = Line(CONFIG, *pools)
    host, slash, path = url.removeprefix("http://").partition("/")
    lines = [f"{method} {slash}{path.removesuffix('?')} HTTP/1.1", f"Host: {host}"]
    exchange = line.request("\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers)]).encode())
    assert told.route == (exchange.route.name if exchange.route else None)
    assert (told.status or 0, told.reason) == (exchange.status, exchange.reason)
    location = values(line.client.fields, b"location")
    assert (told.location or "").encode() == b"".join(location)
    if exchange.pool is not None:
        assert (told.upstream, told.path) == (exchange.pool.name, exchange.target.decode())
        assert told.request_headers[0] == f"Host: {exchange.host.decode()}"


BALANCED = """
[upstreams.a]
endpoints = ["b:1", "b:2", { address = "b:3", backup = true }]
BALANCE
[[routes]]
upstream = "a"
"""


@pytest.mark.parametrize(
    ("balance", "told"),
    [
        ("", "b:1 or b:2 (by round-robin; not b:3: a backup is for when no other is available)"),
        ('balance = "hash"\nhash_on = "header:X-User"', "any (the request has no header:x-user; not b:3:"),
    ],
)
def test_the_endpoint_is_told_and_why_not_the_others(balance: str, told: str) -> None:
    snapshot = snapshot_of(BALANCED.replace("BALANCE", balance))
    assert steps(explain(snapshot, "GET", "/", []))[-1].startswith(f"pick endpoint: {told}")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[]", "none yet (found while the gateway runs: dns app.test:80)"),
        ('["b:1"]', "b:1 (the only one; until others are found: dns app.test:80)"),
        ('["b:1", "b:2"]', "b:1 or b:2 (by round-robin; until others are found: dns app.test:80)"),
    ],
)
def test_that_endpoints_are_found_while_the_gateway_runs_is_told(written: str, told: str) -> None:
    found = f'[upstreams.a]\nendpoints = {written}\ndiscover = {{ dns = "app.test:80" }}\n[[routes]]\nupstream = "a"\n'
    assert steps(explain(snapshot_of(found), "GET", "/", []))[-1] == f"pick endpoint: {told}"


def test_by_key_it_is_the_one_that_traffic_would_have() -> None:
    snapshot = snapshot_of(BALANCED.replace("BALANCE", 'balance = "hash"\nhash_on = "header:X-User"'))
    told = [steps(explain(snapshot, "GET", "/", [("X-User", str(user))]))[-1] for user in range(20)]
    assert {line.split()[2] for line in told} == {"b:1", "b:2"}
    assert told[7].endswith("(header:x-user 7 leads there; not b:3: a backup is for when no other is available)")


def test_a_cookie_s_endpoint_is_told() -> None:
    sticky = 'sticky = { cookie = "s", secret = "0123456789abcdef" }'
    config = f'[upstreams.a]\nendpoints = ["b:1", "b:2"]\n{sticky}\n[[routes]]\nupstream = "a"\n'
    snapshot = snapshot_of(config)
    cookie = EndpointStates(snapshot.upstreams["a"], lambda: 0.0, lambda: 0.0, lambda _: None).sticky
    assert cookie is not None
    value = cookie.line(1, None).split(b"=")[1].split(b";")[0].decode()
    assert steps(explain(snapshot, "GET", "/", [("Cookie", f"s={value}")]))[-1] == (
        "pick endpoint: b:2 (the client's cookie leads there)"
    )
    assert steps(explain(snapshot, "GET", "/", [("Cookie", "s=x")]))[-1].startswith("pick endpoint: b:1 or b:2")


def test_why_a_part_of_a_split_is_chosen_is_told() -> None:
    choice = '\nsplit = { header = "X-Arm", sticky = { cookie = "s", secret = "0123456789abcdef" } }'
    snapshot = snapshot_of(CONFIG.replace("weight = 1 }]", "weight = 1 }]" + choice))
    named = explain(snapshot, "GET", "/split", [("X-Arm", "b")])
    assert (steps(named)[-2], named.is_drawn) == ("forward: upstream b (the request names it)", False)
    route = next(route for route in snapshot.routes if route.name == "split")
    assert route.arms is not None
    sticky = Arms(route.arms, route.upstreams, route.weights, "split split").sticky
    assert sticky is not None
    value = sticky.line(1, None).split(b"=")[1].split(b";")[0].decode()
    kept = explain(snapshot, "GET", "/split", [("Cookie", f"s={value}")])
    assert (steps(kept)[-2], kept.is_drawn) == ("forward: upstream b (the client's cookie leads there)", False)
    drawn = explain(snapshot, "GET", "/split", [])
    assert (steps(drawn)[-2], drawn.is_drawn) == ("forward: upstream a (a split: a 75 %, b 25 %)", True)


def test_a_mirror_is_told() -> None:
    mirror = 'mirror = { upstream = "a", sample = "5%" }'
    snapshot = snapshot_of(CONFIG.replace('match.headers = { X-Beta = "1" }', mirror))
    assert steps(explain(snapshot, "GET", "/beta", []))[-2] == "mirror: upstream a (5 % of the requests)"


@pytest.mark.parametrize(
    ("retry", "endpoints", "method", "told"),
    [
        (
            "{ hedge = true }",
            '["c:1", "c:2"]',
            "GET",
            "hedge: a second try on another endpoint "
            "(when it takes longer than 95 % of the answers, and 10 ms at least)",
        ),
        ("{ hedge = true }", '["c:1"]', "GET", "hedge: no second try (there is no other endpoint)"),
        ("{ hedge = true }", '["c:1", "c:2"]', "POST", "pick endpoint: c:1 or c:2 (by round-robin)"),
        ("true", '["c:1", "c:2"]', "GET", "pick endpoint: c:1 or c:2 (by round-robin)"),
    ],
)
def test_hedging_is_told(retry: str, endpoints: str, method: str, told: str) -> None:
    config = CONFIG.replace('endpoints = ["c:1"]', f"endpoints = {endpoints}\nretry = {retry}")
    assert steps(explain(snapshot_of(config), method, "/beta", [("X-Beta", "1")]))[-1] == told
