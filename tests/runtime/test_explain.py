from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.errors import METHOD_NOT_ALLOWED, NO_ROUTE, ConfigError
from fastgw.http1.fields import values
from fastgw.runtime.dry_run import LiveUpstream
from fastgw.runtime.explain import explain, outcome
from fastgw.runtime.explanation import Explanation
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


def told_of(explanation: Explanation, name: str) -> str:
    """What one step says."""
    return next(line for line in steps(explanation) if line.startswith(f"{name}: ")).removeprefix(f"{name}: ")


def considered(explanation: Explanation, name: str) -> dict[str, tuple[str, str]]:
    """What one step has considered, with verdict and code."""
    step = next(step for step in explanation.steps if step.name == name)
    return {one.name: (one.verdict, one.code) for one in step.considered}


def test_a_request_that_is_forwarded_is_told_step_by_step() -> None:
    told = explained("http://shop.test/items/./7?x=1", ("X-Gone", "1"), ("X-A", "b"))
    assert (told.route, told.upstream, told.path, told.status) == ("item", "a", "/v2/7?x=1", None)
    assert steps(told) == [
        "parse: accepted (host shop.test, path /items/7)",
        "identify: accepted (a client that nobody speaks for, by http)",
        "match route: item (captured 7)",
        "choose upstream: upstream a (the only upstream)",
        "transform request: GET /v2/7?x=1 (rewritten by the route)",
        "admit: admitted (nothing guards it but its bounds)",
        "pick endpoint: b:1 (the only one)",
        "forward: HTTP/1.1 (no retries, but after a failed connection)",
        "transform response: as it comes (Via, X-Request-Id and Date are the gateway's)",
        "finish: logged as json (to stdout)",
    ]
    assert told.request_headers[0] == "Host: inner.test"
    assert "X-Key: k" in told.request_headers
    assert "X-A: b" in told.request_headers
    assert not [line for line in told.request_headers if line.startswith("X-Gone")]


def test_a_split_is_told_with_its_shares() -> None:
    told = explained("/split")
    assert (told.route, told.path) == ("split", "/split")
    assert told_of(told, "choose upstream") == "upstream a (a split: a 75 %, b 25 %)"


def test_a_condition_decides() -> None:
    assert explained("/beta", ("X-Beta", "1")).route == "beta"
    assert (explained("/beta").route, explained("/beta").status) == (None, 404)


def test_a_redirect_and_a_fixed_answer_are_told_with_what_they_send() -> None:
    moved = explained("/old/a/b")
    assert (moved.route, moved.status, moved.location) == ("old", 301, "https://new.test/a/b")
    tea = explained("/status")
    assert (tea.status, tea.reason) == (418, "")
    assert "X-Tea: 1" in tea.response_headers
    assert told_of(tea, "respond") == "418 I'm a Teapot (the route's own reply)"


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
    respond = next(step for step in told.steps if step.name == "respond")
    assert (respond.reason, respond.code) == (reason, reason)


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
    brief = outcome(SNAPSHOT, method, url, headers)
    assert not brief.steps
    brief.steps = told.steps
    assert brief == told
    if exchange.pool is not None:
        assert (told.upstream, told.path) == (exchange.pool.name, exchange.target.decode())
        assert told.request_headers[0] == f"Host: {exchange.host.decode()}"


def test_the_methods_that_there_are_are_told() -> None:
    told = explained("http://shop.test/items/7", method="POST")
    assert told_of(told, "match route") == "none (POST is not among the methods for it: GET, PUT)"
    assert considered(told, "match route") == {"item": ("missed", "method-mismatch")}


def test_listeners_are_told_that_a_request_can_t_come_by_or_that_send_it_away() -> None:
    plain = '[[listeners]]\nname = "p"\naddress = "127.0.0.1:80"\n'
    away = '[[listeners]]\nname = "w"\naddress = "127.0.0.1:81"\nredirect_to_https = true\n'
    snapshot = snapshot_of(plain + away + CONFIG)
    told = considered(explain(snapshot, "GET", "http://h/status", []), "identify")
    assert told == {
        "p on 127.0.0.1:80": ("possible", "accepted"),
        "w on 127.0.0.1:81": ("possible", "redirect-to-https"),
    }
    told = considered(explain(snapshot, "GET", "https://h/status", []), "identify")
    assert set(told.values()) == {("missed", "other-scheme")}


def test_edits_are_told_where_they_are_made() -> None:
    edits = 'response.headers = { set = { X-Frame = "deny" }, add = { Link = "x" }, remove = ["Server"] }'
    snapshot = snapshot_of(CONFIG.replace('match.headers = { X-Beta = "1" }', edits))
    told = {
        step.name: [(one.key, one.value) for one in step.holds] for step in explain(snapshot, "GET", "/beta", []).steps
    }
    assert told["transform response"] == [
        ("routes.beta.response.headers.set.X-Frame", "deny"),
        ("routes.beta.response.headers.add.Link", "x"),
        ("routes.beta.response.headers.remove", "server"),
    ]
    item = {step.name: step.holds for step in explained("http://shop.test/items/7").steps}["transform request"]
    assert [(one.key, one.value) for one in item] == [
        ("routes.item.rewrite.host", "inner.test"),
        ("routes.item.request.headers.set.X-Key", "k"),
        ("routes.item.request.headers.remove", "x-gone"),
    ]


def test_a_request_that_may_go_no_further_is_answered() -> None:
    told = explained("http://shop.test/beta", ("X-Beta", "1"), ("Max-Forwards", "0"), method="OPTIONS")
    assert (told.route, told.status, told.path) == ("beta", 200, None)
    assert told_of(told, "respond") == "200 OK (the gateway's own reply)"


def test_an_open_breaker_and_endpoints_that_are_out_give_their_answers() -> None:
    config = """
        [upstreams.a]
        endpoints = ["b:1", "b:2"]
        panic_threshold = "0%"
        breaker = true
        [[routes]]
        upstream = "a"
        response.headers.set = { X-Edited = "1" }
        """
    snapshot = snapshot_of(config)
    open_now = explain(snapshot, "GET", "/", [], {"a": LiveUpstream(breaker_open_s=4)})
    assert (open_now.status, open_now.reason, open_now.upstream) == (503, "breaker-open", "a")
    assert {"Retry-After: 4", "X-Edited: 1"} <= set(open_now.response_headers)
    assert told_of(open_now, "admit") == "refused (its circuit breaker is open, for 4 s more)"
    nobody = explain(snapshot, "GET", "/", [], {"a": LiveUpstream(unhealthy=frozenset(("b:1", "b:2")))})
    assert (nobody.status, nobody.reason) == (503, "no-endpoint")
    assert told_of(nobody, "pick endpoint") == "none (no endpoint is available)"
    assert considered(nobody, "pick endpoint") == {"b:1": ("out", "unhealthy"), "b:2": ("out", "unhealthy")}
    well = explain(snapshot, "GET", "/", [], {})
    assert (well.status, well.path) == (None, "/")


# Only what the routing itself can say: the answers of routes are their own.
ROUTING = (NO_ROUTE.reason, METHOD_NOT_ALLOWED.reason)


@settings(max_examples=60, deadline=None)
@given(METHODS, URLS, HEADERS)
def test_every_step_has_a_code_and_the_last_one_is_the_log_s(
    method: str, url: str, headers: list[tuple[str, str]]
) -> None:
    told = explain(SNAPSHOT, method, url, headers)
    assert all(step.code and step.verdict for step in told.steps)
    assert told.steps[-1].name == ("respond" if told.reason and told.reason not in ROUTING else "finish")
    assert all(one.code and one.reason for step in told.steps for one in step.considered)


@pytest.mark.parametrize(
    ("retry", "endpoints", "method", "told"),
    [
        ("{ hedge = true }", '["c:1", "c:2"]', "GET", "slower than this share of the answers"),
        ("{ hedge = true }", '["c:1"]', "GET", "but there is no other endpoint"),
        ("{ hedge = true }", '["c:1", "c:2"]', "POST", ""),
        ("true", '["c:1", "c:2"]', "GET", ""),
    ],
)
def test_hedging_is_told(retry: str, endpoints: str, method: str, told: str) -> None:
    config = CONFIG.replace('endpoints = ["c:1"]', f"endpoints = {endpoints}\nretry = {retry}")
    steps = explain(snapshot_of(config), method, "/beta", [("X-Beta", "1")]).steps
    (forward,) = [step for step in steps if step.name == "forward"]
    hedge = {one.key.rpartition(".")[2]: one for one in forward.holds if ".hedge." in one.key}
    assert set(hedge) == ({"quantile", "min_delay"} if told else set())
    if told:
        assert hedge["quantile"].meaning.startswith(told)
        assert (hedge["quantile"].value, hedge["min_delay"].value) == ("95%", "10ms")
