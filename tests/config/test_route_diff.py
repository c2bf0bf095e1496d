from __future__ import annotations

import pytest

from fastgw.config.route_diff import RouteComparison, RoutePair, order_changes, pair_routes, route_name
from tests.config.sources import LISTENER, UPSTREAM, load

HEAD = LISTENER + UPSTREAM + "retry = true\n" + '[upstreams.b]\nendpoints = ["127.0.0.1:2"]\n'


def route(keys: str, goal: str = 'upstream = "a"') -> str:
    return f"[[routes]]\n{keys}\n{goal}\n"


def pairs(old: str, new: str) -> list[tuple[str | None, str | None]]:
    before, after = load(HEAD + old), load(HEAD + new)
    return [
        (
            route_name(before, pair.old) if pair.old is not None else None,
            route_name(after, pair.new) if pair.new is not None else None,
        )
        for pair in pair_routes(before, after)
    ]


def changes(old: str, new: str) -> tuple[list[str], list[str]]:
    """Of the first route, and of what the defaults change."""
    comparison = RouteComparison(load(HEAD + old), load(HEAD + new))
    found = comparison.changes(0, 0)
    by_defaults = [f"{one.key}: {one.old} -> {one.new} x{n}" for one, n in comparison.by_defaults.items()]
    return [f"{one.key}: {one.old} -> {one.new}" for one in found], by_defaults


def orders(old: str, new: str) -> list[str]:
    before, after = load(HEAD + old), load(HEAD + new)
    return [
        f"{route_name(after, index)} {change.old} -> {change.new}"
        for index, change in order_changes(before, after, pair_routes(before, after))
    ]


def test_routes_are_paired_by_their_names() -> None:
    old = route('name = "x"\npath = "/x"') + route('name = "y"\npath = "/y"')
    new = route('name = "y"\npath = "/2"') + route('name = "z"\npath = "/z"')
    assert pairs(old, new) == [("y", "y"), (None, "z"), ("x", None)]


def test_routes_without_names_are_paired_by_their_rules() -> None:
    old = route('path = "/x"') + route('path = "/y"\nmethods = ["GET", "PUT"]')
    new = route('path = "/new"') + route('path = "/x"') + route('path = "/y"\nmethods = ["PUT", "GET"]')
    assert pairs(old, new) == [(None, "route-1"), ("route-1", "route-2"), ("route-2", "route-3")]


def test_a_route_that_gets_another_name_is_the_same() -> None:
    assert pairs(route('name = "x"\npath = "/x"'), route('name = "y"\npath = "/x"')) == [("x", "y")]
    assert pairs(route('path = "/x"'), route('name = "y"\npath = "/x"')) == [("route-1", "y")]


def test_a_route_without_name_whose_rule_changes_is_known_by_its_path_or_else_by_its_number() -> None:
    assert pairs(route('path = "/x"'), route('path = "/y"')) == [("route-1", "route-1")]
    assert pairs(route('path = "/x"'), route('path = "/x"\nmethods = ["GET"]')) == [("route-1", "route-1")]


def test_each_is_paired_once() -> None:
    two = route('path = "/x"\nmatch.query = { v = "1" }') + route('path = "/x"\nmatch.query = { v = "2" }')
    before = load(HEAD + two)
    assert pair_routes(before, before) == [RoutePair(0, 0), RoutePair(1, 1)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (route('host = "A.test"\ntimeout = "60s"'), route('host = ["a.test"]\ntimeout = "1m"')),
        (route('host = ["a.test", "b.test"]'), route('host = ["b.test", "a.test"]')),
        (route('match.headers = { X-A = "1" }'), route('match.headers = { x-a = "1" }')),
        (route("retry = {}"), route("")),
        (
            route("", 'upstream = [{ upstream = "a", weight = 2 }, { upstream = "b", weight = 4 }]'),
            route("", 'upstream = [{ upstream = "b", weight = 2 }, { upstream = "a" }]'),
        ),
        ('[defaults]\ntimeout = "5s"\n' + route(""), route('timeout = "5s"')),
        ('[defaults]\ntimeout = "5s"\n' + route("timeout = false"), route("")),
        ('[defaults]\nrequest.headers.set = { X-A = "1" }\n' + route(""), route('request.headers.set = { x-a = "1" }')),
        ('[defaults]\nrewrite.host = "h"\n' + route("", "respond.status = 204"), route("", "respond.status = 204")),
        (route("", 'respond = { body = "" }'), route("", "respond = {}")),
    ],
)
def test_what_means_the_same_is_no_change(old: str, new: str) -> None:
    assert changes(old, new) == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (route('path = "/a"'), route('path = "/b"'), 'path: "/a" -> "/b"'),
        (route(""), route('methods = ["GET"]'), 'methods: [] -> ["GET"]'),
        (route(""), route('match.headers = { X-A = "1" }'), 'match.headers.X-A: None -> "1"'),
        (route('match.query = { v = "1" }'), route('match.query = { v = "2" }'), 'match.query.v: "1" -> "2"'),
        (route(""), route("", 'upstream = "b"'), 'upstream: "a" -> "b"'),
        (route(""), route('timeout = "5s"'), 'timeout: None -> "5s"'),
        (route('rewrite.host = "x"'), route('rewrite.host = "y"'), 'rewrite.host: "x" -> "y"'),
        (route(""), route("retry = false"), "retry: None -> false"),
        (route(""), route("retry.any_method = true"), "retry.any_method: None -> true"),
        (route(""), route("retry.hedge = true"), "retry.hedge: None -> true"),
        (route("retry.hedge = true"), route("retry.hedge = false"), "retry.hedge: true -> false"),
        (
            route('request.headers.set = { X-A = "1" }'),
            route('request.headers.set = { X-A = "2" }'),
            'request.headers.set.x-a: "1" -> "2"',
        ),
        (route(""), route('response.headers.remove = ["Server"]'), "response.headers.remove.server: None -> true"),
        (route("", "respond.json = { a = true }"), route("", "respond.json = { a = 1 }"), None),
        (route(""), route('mirror = "b"'), 'mirror: None -> "b"'),
    ],
)
def test_a_change_of_a_route_is_told_with_its_key(old: str, new: str, change: str | None) -> None:
    own, by_defaults = changes(old, new)
    assert own == [change or "respond.json: { a = true } -> { a = 1 }"]
    assert by_defaults == []


def test_a_secret_in_a_header_is_hidden() -> None:
    (change,), _ = changes(route(""), route('request.headers.set = { Authorization = "Bearer abc" }'))
    assert change == 'request.headers.set.authorization: None -> "(hidden)"'
    (change,), _ = changes(route(""), route('request.headers.set = { X-Key = "${SECRET}" }'))
    assert change == 'request.headers.set.x-key: None -> "${SECRET}"'


def test_what_only_defaults_change_is_told_once_for_all() -> None:
    old, new = (f'[defaults]\ntimeout = "{seconds}s"\n' + route('path = "/a"') for seconds in (5, 6))
    assert changes(old, new) == ([], ['timeout: "5s" -> "6s" x1'])
    # A route that has said it itself has changed.
    own, by_defaults = changes(route('timeout = "5s"'), new.replace('path = "/a"', ""))
    assert (own, by_defaults) == (['timeout: "5s" -> "6s"'], [])


def test_a_new_name_is_told() -> None:
    assert changes(route('name = "x"'), route('name = "y"'))[0] == ['name: "x" -> "y"']


SAME = 'path = "/x"\n'


def test_an_order_that_decides_is_told() -> None:
    one = route('name = "x"\nmatch.headers = { A = "1" }')
    other = route('name = "y"\nmatch.headers = { B = "1" }')
    assert orders(one + other, other + one) == ['y after "x" -> before "x"']
    assert orders(one + other, one + other) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('name = "x"\npath = "/x"', 'name = "y"\npath = "/y"'),
        ('name = "x"\nmethods = ["GET"]', 'name = "y"\nmethods = ["PUT"]'),
        ('name = "x"\nhost = "x"', 'name = "y"\nhost = "y"'),
        ('name = "x"\nmatch.query = { v = "1" }', 'name = "y"\nmatch.query = { v = "2" }'),
        ('name = "x"\nmatch.query = { v = "1" }', 'name = "y"'),
    ],
)
def test_an_order_that_says_nothing_is_none(one: str, other: str) -> None:
    assert orders(route(one) + route(other), route(other) + route(one)) == []
