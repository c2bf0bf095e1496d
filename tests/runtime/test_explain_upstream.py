from __future__ import annotations

import pytest

from fastgw.net.endpoint_states import EndpointStates
from fastgw.policy.arms import Arms
from fastgw.runtime.dry_run import Live, LiveUpstream
from fastgw.runtime.explain import explain
from fastgw.runtime.explanation import Explanation, Step
from fastgw.snapshot import Snapshot
from tests.fakes import snapshot_of

BALANCED = """
[upstreams.a]
endpoints = ["b:1", "b:2", { address = "b:3", backup = true }]
BALANCE
[[routes]]
upstream = "a"
"""
SPLIT = """
[upstreams.a]
endpoints = ["b:1"]
[upstreams.b]
endpoints = ["c:1"]
[[routes]]
name = "split"
upstream = [{ upstream = "a", weight = 3 }, { upstream = "b", weight = 1 }]
CHOICE
"""
BY_USER = 'balance = "hash"\nhash_on = "header:X-User"'


def balanced(more: str) -> Snapshot:
    return snapshot_of(BALANCED.replace("BALANCE", more))


def split(choice: str) -> Snapshot:
    return snapshot_of(SPLIT.replace("CHOICE", choice))


def step(name: str, snapshot: Snapshot, *headers: tuple[str, str], live: Live | None = None) -> Step:
    return next(one for one in explain(snapshot, "GET", "/", list(headers), live).steps if one.name == name)


def endpoint(snapshot: Snapshot, *headers: tuple[str, str], live: Live | None = None) -> str:
    found = step("pick endpoint", snapshot, *headers, live=live)
    return f"{found.verdict} ({found.reason})"


def verdicts(found: Step) -> dict[str, str]:
    return {one.name: f"{one.verdict}: {one.code}" for one in found.considered}


def shares(found: Step) -> dict[str, float | None]:
    return {one.name: one.share for one in found.considered}


def test_endpoints_are_told_with_their_shares_and_why_the_others_are_none() -> None:
    found = step("pick endpoint", balanced(""))
    assert (found.verdict, found.reason, found.code) == ("b:1 or b:2", "by round-robin", "round-robin")
    assert verdicts(found) == {"b:1": "possible: round-robin", "b:2": "possible: round-robin", "b:3": "out: backup"}
    assert shares(found) == {"b:1": 0.5, "b:2": 0.5, "b:3": None}


def test_without_the_key_of_a_hash_it_may_be_any() -> None:
    assert endpoint(balanced(BY_USER)) == "b:1 or b:2 (any: the request has no header:x-user)"


def test_by_key_it_is_the_one_that_traffic_would_have() -> None:
    snapshot = balanced(BY_USER)
    told = [step("pick endpoint", snapshot, ("X-User", str(user))) for user in range(20)]
    assert {one.verdict for one in told} == {"b:1", "b:2"}
    assert told[7].reason == "header:x-user 7 leads there"
    others = {"b:1", "b:2"} - {told[7].verdict}
    assert verdicts(told[7]) == {
        told[7].verdict: "chosen: hash-key",
        others.pop(): "not chosen: hash-key",
        "b:3": "out: backup",
    }


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
    assert endpoint(snapshot_of(found)) == told


def test_an_upstream_that_is_known_to_have_found_nobody_yet_answers_503() -> None:
    found = '[upstreams.a]\nendpoints = []\ndiscover = { dns = "app.test:80" }\n[[routes]]\nupstream = "a"\n'
    told = explain(snapshot_of(found), "GET", "/", [], {})
    assert (told.status, told.reason) == (503, "no-endpoint")


def test_a_cookie_s_endpoint_is_told() -> None:
    snapshot = balanced('sticky = { cookie = "s", secret = "0123456789abcdef" }')
    cookie = EndpointStates(snapshot.upstreams["a"], lambda: 0.0, lambda: 0.0, lambda _: None).sticky
    assert cookie is not None
    value = cookie.line(1, None).split(b"=")[1].split(b";")[0].decode()
    assert endpoint(snapshot, ("Cookie", f"s={value}")) == "b:2 (the client's cookie leads there)"
    assert endpoint(snapshot, ("Cookie", "s=x")) == "b:1 or b:2 (by round-robin)"
    gone = {"a": LiveUpstream(unhealthy=frozenset(("b:2",)))}
    assert endpoint(snapshot, ("Cookie", f"s={value}"), live=gone) == (
        "b:1 (by round-robin; its cookie leads to b:2, which is out)"
    )
    holds = step("transform response", snapshot).holds
    assert [(one.key, one.value) for one in holds] == [("upstreams.a.sticky.cookie", "s")]


def test_what_speaks_against_endpoints_just_now_is_told() -> None:
    snapshot = balanced("outliers = true")
    live = LiveUpstream(unhealthy=frozenset(("b:1",)))
    found = step("pick endpoint", snapshot, live={"a": live})
    assert (found.verdict, verdicts(found)["b:1"], verdicts(found)["b:3"]) == ("b:2", "out: unhealthy", "out: backup")
    live = LiveUpstream(ejected=frozenset(("b:1",)), draining=frozenset(("b:2",)))
    found = step("pick endpoint", snapshot, live={"a": live})
    assert verdicts(found) == {"b:3": "chosen: round-robin", "b:1": "out: ejected", "b:2": "out: draining"}


def test_in_a_panic_all_are_told_with_what_speaks_against_them() -> None:
    everybody = LiveUpstream(unhealthy=frozenset(("b:1", "b:2", "b:3")))
    found = step("pick endpoint", balanced(""), live={"a": everybody})
    assert verdicts(found)["b:1"] == "possible: round-robin"
    assert found.considered[0].reason == "by weight 1; its checks fail, but too few others are available"


def test_arms_are_told_with_their_shares() -> None:
    found = step("choose upstream", split(""))
    assert (found.verdict, found.reason, found.code) == ("upstream a", "a split: a 75 %, b 25 %", "drawn")
    assert shares(found) == {"a": 0.75, "b": 0.25}
    assert verdicts(found) == {"a": "possible: drawn", "b": "possible: drawn"}


def is_drawn(found: Explanation) -> tuple[str | None, bool]:
    return found.upstream, found.is_drawn


def test_why_a_part_of_a_split_is_chosen_is_told() -> None:
    snapshot = split('split = { header = "X-Arm", sticky = { cookie = "s", secret = "0123456789abcdef" } }')
    assert is_drawn(explain(snapshot, "GET", "/", [("X-Arm", "b")])) == ("b", False)
    named = step("choose upstream", snapshot, ("X-Arm", "b"))
    assert (named.code, verdicts(named)) == ("arm-named", {"a": "not chosen: arm-named", "b": "chosen: arm-named"})
    route = snapshot.routes[0]
    assert route.arms is not None
    sticky = Arms(route.arms, route.upstreams, route.weights, "split split").sticky
    assert sticky is not None
    value = sticky.line(1, None).split(b"=")[1].split(b";")[0].decode()
    kept = step("choose upstream", snapshot, ("Cookie", f"s={value}"))
    assert (kept.verdict, kept.reason, kept.code) == ("upstream b", "the client's cookie leads there", "arm-kept")
    assert is_drawn(explain(snapshot, "GET", "/", [])) == ("a", True)
    cookie = [(one.key, one.meaning) for one in step("transform response", snapshot).holds]
    assert cookie == [("routes.split.split.sticky.cookie", "set anew")]


def test_a_mirror_is_told_and_what_is_not_copied() -> None:
    snapshot = split(
        'mirror = { upstream = "c", sample = "5%", max_body = "1KiB" }\n[upstreams.c]\nendpoints = ["d:1"]'
    )
    found = step("mirror", snapshot)
    assert (found.verdict, found.reason) == ("upstream c", "5 % of the requests")
    assert [(one.key, one.value) for one in found.holds][:2] == [
        ("routes.split.mirror.sample", "5%"),
        ("routes.split.mirror.max_body", "1KiB"),
    ]
    assert step("mirror", snapshot, ("Content-Length", "1025")).code == "mirror-body-too-large"
    assert step("mirror", snapshot, ("Connection", "upgrade"), ("Upgrade", "websocket")).code == "mirror-upgrade"


def test_what_holds_at_the_upstream_is_told() -> None:
    snapshot = balanced('breaker = true\nconcurrency = true\nmax_requests = 9\nretry = { on = ["reset", "503"] }')
    told = {one.key: one.value for name in ("admit", "forward") for one in step(name, snapshot).holds}
    expected = {
        "upstreams.a.breaker.open_for": "5s",
        "upstreams.a.concurrency.initial_limit": 20,
        "upstreams.a.max_requests": 9,
        "upstreams.a.retry.on": "reset, 503",
        "upstreams.a.retry.attempts": 2,
        "upstreams.a.response_timeout": "30s",
    }
    assert {key: told[key] for key in expected} == expected
    assert step("forward", snapshot).reason == "up to 2 retries"
    without = snapshot_of(BALANCED.replace("BALANCE", "retry = true") + 'retry = false\ntimeout = "3s"\n')
    found = step("forward", without)
    assert found.reason == "the route wants no retries, but after a failed connection"
    assert (found.holds[0].key, found.holds[0].value) == ("routes.route-1.timeout", "3s")
