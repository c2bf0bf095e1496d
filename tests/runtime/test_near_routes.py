from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.http1.message import RequestHead
from fastgw.policy.router import Condition, Router, Rule
from fastgw.runtime.explanation import Considered
from fastgw.runtime.near_routes import NEAR_MAX, differs_at, host_rank, likeness, near_routes


def request(path: str, host: str = "shop.test", method: str = "GET", *headers: str) -> RequestHead:
    head = RequestHead("\r\n".join(["", *headers]).encode(), method.encode(), 1)
    path, mark, query = path.partition("?")
    head.path, head.query, head.host_name = path.encode(), (mark + query).encode(), host.encode()
    return head


def rule(path: str, *hosts: str, methods: str = "", conditions: tuple[Condition, ...] = ()) -> Rule:
    return Rule(tuple(host.encode() for host in hosts), path.encode(), tuple(methods.encode().split()), conditions)


def near(rules: list[Rule], head: RequestHead) -> list[Considered]:
    router = Router(rules)
    winner, _ = router.match(head.host_name, head.path, head.method, head)
    return list(near_routes(router, [str(index) for index in range(len(rules))], head, winner))


def told(rules: list[Rule], head: RequestHead) -> list[str]:
    return [f"{one.name} {one.verdict} {one.code}: {one.reason}" for one in near(rules, head)]


def test_a_route_that_fails_on_its_method_is_the_nearest() -> None:
    rules = [rule("/items/{id}", "shop.test", methods="PUT DELETE"), rule("/items/all", "shop.test")]
    assert told(rules, request("/items/7"))[0] == "0 missed method-mismatch: takes PUT, DELETE, not GET"


def test_a_condition_is_told_with_what_was_wanted_and_what_was_there() -> None:
    header = Condition("header", b"x-beta", "equals", b"1")
    query = Condition("query", b"v", "regex", b"[0-9]+")
    cookie = Condition("cookie", b"s", "absent")
    rules = [rule("/a", conditions=(header,)), rule("/a", conditions=(query,)), rule("/a", conditions=(cookie,))]
    found = near(rules, request("/a?v=x", "h", "GET", "X-Beta: 2", "Cookie: s=1"))
    assert [(one.code, one.wanted, one.found) for one in found] == [
        ("header-mismatch", '"1"', "2"),
        ("query-mismatch", '~"[0-9]+"', "x"),
        ("cookie-mismatch", "absent", "1"),
    ]
    (missing,) = near(rules[:1], request("/a"))
    assert (missing.found, missing.reason) == (None, 'header x-beta must be "1", and there is none')


@pytest.mark.parametrize(
    ("path", "asked", "why"),
    [
        ("/products/{id}", "/prodcuts/7", '/products/{id} has "products" where the path has "prodcuts"'),
        ("/products/{id}", "/Products/7", '/products/{id} has "products" where the path has "Products"'),
        ("/products/{id}", "/products/7/", "/products/{id} ends before a slash at the end"),
        ("/products/{id}", "/products/", "/products/{id} has {id} where the path has an empty segment"),
        ("/products/", "/products", "/products/ goes on with a slash at the end"),
        ("/static/*", "/static", '/static/* goes on with "*"'),
        ("/products/{id}/reviews", "/products/7/price", '{id}/reviews has "reviews" where the path has "price"'),
    ],
)
def test_a_path_that_is_nearly_right_is_told_with_where_it_differs(path: str, asked: str, why: str) -> None:
    (found,) = near([rule(path)], request(asked))
    assert found.code == "path-mismatch"
    assert found.reason.endswith(why)
    assert (found.wanted, found.found) == (path, asked)


def test_a_host_that_is_nearly_right_is_told() -> None:
    rules = [rule("/*", "shop.test", "www.shop.test"), rule("/*", "entirely.different")]
    assert told(rules, request("/a", "shpo.test")) == [
        "0 missed host-mismatch: is for shop.test, www.shop.test, not shpo.test"
    ]


def test_what_has_nothing_in_common_is_not_near() -> None:
    assert told([rule("/users/{id}"), rule("/orders", "a.test")], request("/products/7")) == []


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([rule("/{x}", "shop.test"), rule("/a", "*.test")], "less-specific-host"),
        ([rule("/{x}", "a.test", "*.test"), rule("/a")], "less-specific-host"),
        ([rule("/a"), rule("/{x}")], "less-specific-path"),
        ([rule("/a/{y}"), rule("/a/*")], "less-specific-path"),
        ([rule("/a", conditions=(Condition("query", b"v", "present"),)), rule("/a")], "fewer-conditions"),
        ([rule("/a", methods="GET PUT"), rule("/a", methods="GET POST")], "later-in-file"),
    ],
)
def test_a_route_that_would_take_it_too_is_told_with_why_it_comes_later(rules: list[Rule], code: str) -> None:
    path = "/a/b" if rules[0].path == b"/a/{y}" else "/a"
    (found,) = near(rules, request(path + "?v=1"))
    assert (found.name, found.verdict, found.code) == ("1", "lost", code)


def test_with_a_route_only_those_that_would_come_before_it_are_told_of_for_what_they_miss() -> None:
    better, worse = rule("/a/b", methods="PUT"), rule("/*", methods="PUT")
    assert [one.name for one in near([rule("/a/{x}"), better, worse], request("/a/b"))] == ["1"]
    # A slip of the pen leads to the route for all the others.
    assert [one.name for one in near([rule("/*"), rule("/products/{id}")], request("/prodcuts/1"))] == ["1"]
    assert near([rule("/items/{id}"), rule("/items/new")], request("/items/7")) == []


def test_the_best_come_first_and_no_more_than_a_few() -> None:
    rules = [rule(f"/products/{name}") for name in ("zzz", "lamp", "lamb", "limp", "x", "y", "z")]
    found = near(rules, request("/products/lmap"))
    assert len(found) == NEAR_MAX
    assert [one.name for one in found[:2]] == ["1", "3"]


def test_of_two_things_that_keep_a_route_the_first_one_is_told() -> None:
    missing = (Condition("header", b"x-a", "present"),)
    (found,) = near([rule("/a", methods="PUT", conditions=missing)], request("/a"))
    assert found.code == "header-mismatch"


def test_likeness_is_high_after_a_slip_of_the_pen() -> None:
    assert likeness(b"products", b"products") == 1.0
    assert likeness(b"products", b"prodcuts") == 0.75
    assert likeness(b"", b"") == 0.0
    assert likeness(b"aa", b"a") == 0.5
    assert likeness(b"abc", b"xyz") == 0.0


# The rules as the router reads them.

PIECES = st.sampled_from(["a", "b", "{x}", ""])
PATHS = st.builds(
    lambda pieces, end: "/" + "/".join(pieces[:-1] + ([pieces[-1]] if pieces else []) + end),
    st.lists(st.sampled_from(["a", "b"]), max_size=2),
    st.sampled_from([[], ["{x}"], ["*"], ["{x}", "a"], ["{x*}"], [""]]),
)
HOSTS = st.lists(st.sampled_from(["shop.test", "*.test", "*.shop.test", "other.test"]), max_size=2, unique=True)
CONDITIONS = st.sampled_from([(), (Condition("query", b"v", "equals", b"1"),)])
RULES = st.builds(
    lambda path, hosts, methods, conditions: rule(path, *hosts, methods=methods, conditions=conditions),
    PATHS,
    HOSTS,
    st.sampled_from(["", "GET", "PUT"]),
    CONDITIONS,
)
REQUESTS = st.builds(
    request,
    st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/a", "/b/a", "/a/b/a/b", "/c", "/a?v=1", "/a/b?v=1", "*"]),
    st.sampled_from(["shop.test", "a.shop.test", "other.test", "none", "test"]),
    st.sampled_from(["GET", "PUT"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=8), REQUESTS)
def test_what_is_told_of_routes_is_what_the_router_does(rules: list[Rule], head: RequestHead) -> None:
    router = Router(rules)
    winner, _ = router.match(head.host_name, head.path, head.method, head)
    pieces = head.path.split(b"/")
    takers = [
        index
        for index, one in enumerate(rules)
        if host_rank(one, head.host_name) is not None
        and differs_at(one.path.split(b"/"), pieces) < 0
        and one.conditions_hold(head)
        and (not one.methods or head.method in one.methods)
    ]
    assert (winner in takers) if winner >= 0 else takers == []
    found = near(rules, head)
    lost = {int(one.name) for one in found if one.verdict == "lost"}
    assert lost <= set(takers) - {winner}
    assert len(found) == NEAR_MAX or lost == set(takers) - {winner}
    # Each that lost does win as soon as the others are away that came before it.
    for index in sorted(lost):
        alone = Router([rules[index]])
        assert alone.match(head.host_name, head.path, head.method, head)[0] == 0


def test_among_ten_thousand_routes_the_one_that_was_meant_is_found() -> None:
    rules = [rule(f"/v1/service-{number}/{{id}}", f"h{number % 100}.shop.test") for number in range(10_000)]
    assert near(rules, request("/v1/service-77/7", "h77.shop.tset"))[0].name == "77"
    assert near(rules, request("/v1/service-78/7", "h77.shop.test"))[0].code == "path-mismatch"
