from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from types import FunctionType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.policy.router import METHOD_NOT_ALLOWED, NOT_FOUND, STEPS_MAX, Condition, Router, Rule
from fastgw.policy.router_compile import LITERAL, PARAMETER, REST, parse_path
from fastgw.policy.router_trie import Node

GET = (b"GET",)
MISS = (NOT_FOUND, ())


class Facts:
    """A request as conditions see it."""

    def __init__(
        self,
        headers: dict[bytes, bytes] | None = None,
        query: dict[bytes, bytes] | None = None,
        cookies: dict[bytes, bytes] | None = None,
    ) -> None:
        self.headers = headers or {}
        self.query = query or {}
        self.cookies = cookies or {}

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def query_value(self, name: bytes) -> bytes | None:
        return self.query.get(name)

    def cookie(self, name: bytes) -> bytes | None:
        return self.cookies.get(name)

    def __repr__(self) -> str:
        return f"Facts({self.headers}, {self.query}, {self.cookies})"


NOTHING = Facts()


def match(
    rules: Iterable[Rule],
    path: bytes,
    method: bytes = b"GET",
    host: bytes = b"a.test",
    facts: Facts = NOTHING,
) -> tuple[int, tuple[bytes, ...]]:
    return Router(tuple(rules)).match(host, path, method, facts)


def paths(*patterns: bytes) -> list[Rule]:
    return [Rule(path=pattern) for pattern in patterns]


# Paths


def test_a_literal_path_matches_only_itself() -> None:
    rules = paths(b"/a/b")
    assert match(rules, b"/a/b") == (0, ())
    for other in (b"/a", b"/a/b/", b"/a/b/c", b"/a/B", b"/", b"/a/bb"):
        assert match(rules, other) == MISS


def test_a_parameter_takes_one_whole_segment_that_is_not_empty() -> None:
    rules = paths(b"/users/{id}/orders/{order}")
    assert match(rules, b"/users/7/orders/x%2Fy") == (0, (b"7", b"x%2Fy"))
    for other in (b"/users//orders/1", b"/users/7/orders/", b"/users/7/orders", b"/users/7/8/orders/1"):
        assert match(rules, other) == MISS


def test_the_rest_may_be_empty_but_needs_its_slash() -> None:
    rules = paths(b"/a/*")
    assert match(rules, b"/a/") == (0, (b"",))
    assert match(rules, b"/a/b/c/") == (0, (b"b/c/",))
    assert match(rules, b"/a") == MISS


def test_a_named_rest_is_captured_after_the_parameters() -> None:
    assert match(paths(b"/{bucket}/files/{path*}"), b"/b1/files/x/y.txt") == (0, (b"b1", b"x/y.txt"))


def test_the_rest_at_the_root_matches_everything() -> None:
    rules = paths(b"/*")
    assert match(rules, b"/") == (0, (b"",))
    assert match(rules, b"/a/b") == (0, (b"a/b",))


def test_options_asterisk_matches_only_the_rest_at_the_root() -> None:
    assert match(paths(b"/", b"/{x}", b"/a/*"), b"*", b"OPTIONS") == MISS
    assert match(paths(b"/", b"/{x}", b"/*"), b"*", b"OPTIONS") == (2, (b"",))


def test_a_literal_wins_over_a_parameter_and_a_parameter_over_the_rest() -> None:
    rules = paths(b"/*", b"/{x}", b"/a")
    assert match(rules, b"/a") == (2, ())
    assert match(rules, b"/b") == (1, (b"b",))
    assert match(rules, b"/b/c") == (0, (b"b/c",))


def test_the_first_segment_that_differs_decides() -> None:
    rules = paths(b"/{x}/b/c", b"/a/{y*}")
    assert match(rules, b"/a/b/c") == (1, (b"b/c",))


def test_a_literal_that_leads_nowhere_gives_way_to_the_parameter() -> None:
    rules = paths(b"/users/me/settings", b"/users/{id}/orders", b"/{kind}/me/photos", b"/*")
    assert match(rules, b"/users/me/settings") == (0, ())
    assert match(rules, b"/users/me/orders") == (1, (b"me",))
    assert match(rules, b"/users/me/photos") == (2, (b"users",))
    assert match(rules, b"/users/me/friends") == (3, (b"users/me/friends",))


def test_the_nearest_rest_on_the_way_back_wins() -> None:
    rules = paths(b"/*", b"/a/*", b"/a/b/c/d", b"/{x}/b/*")
    assert match(rules, b"/a/b/c/e") == (1, (b"b/c/e",))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (b"a/b", "begins with a slash"),
        (b"/a/*/b", "nothing can follow"),
        (b"/{rest*}/b", "nothing can follow"),
        (b"/a/{id", "whole segments"),
        (b"/a/x{id}", "whole segments"),
        (b"/a/{}", "whole segments"),
        (b"/files*", "a segment of its own"),
        (b"/{id}/{id}", "there twice"),
    ],
)
def test_a_path_that_says_nothing_clear_is_refused(path: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Router(paths(path))


def test_the_segments_of_a_path_tell_what_it_captures() -> None:
    assert parse_path(b"/v1/{id}/{path*}") == (
        (LITERAL, b""),
        (LITERAL, b"v1"),
        (PARAMETER, b"id"),
        (REST, b"path"),
    )
    assert parse_path(b"/a*b/*")[1:] == ((LITERAL, b"a*b"), (REST, b"*"))


# Hosts


def test_an_exact_host_wins_over_wildcards_and_the_longest_wildcard_over_shorter_ones() -> None:
    rules = [
        Rule(),
        Rule(hosts=(b"*.test",)),
        Rule(hosts=(b"*.shop.test",)),
        Rule(hosts=(b"www.shop.test",)),
    ]
    router = Router(rules)
    expected = {b"www.shop.test": 3, b"x.y.shop.test": 2, b"shop.test": 1, b"test": 0, b"www.shop.example": 0}
    assert {host: router.match(host, b"/", b"GET", NOTHING)[0] for host in expected} == expected


def test_a_wildcard_needs_at_least_one_label() -> None:
    rules = [Rule(hosts=(b"*.a.test",))]
    assert match(rules, b"/", host=b"x.a.test")[0] == 0
    for host in (b"a.test", b".a.test", b"xa.test", b"", b"x.a.test.org"):
        assert match(rules, b"/", host=host) == MISS
    assert match([*rules, Rule(hosts=(b"*.test",))], b"/", host=b".a.test")[0] == 1


def test_what_the_exact_host_does_not_take_falls_to_wildcards_and_then_to_any_host() -> None:
    rules = [
        Rule(hosts=(b"www.a.test",), path=b"/exact"),
        Rule(hosts=(b"*.a.test",), path=b"/wild"),
        Rule(hosts=(b"*.test",), path=b"/wider"),
        Rule(path=b"/{any}"),
    ]
    for path, index in ((b"/exact", 0), (b"/wild", 1), (b"/wider", 2), (b"/other", 3)):
        assert match(rules, path, host=b"www.a.test")[0] == index


def test_a_rule_may_have_several_hosts() -> None:
    rules = [Rule(hosts=(b"a.test", b"*.b.test"), path=b"/")]
    assert match(rules, b"/", host=b"a.test") == (0, ())
    assert match(rules, b"/", host=b"x.b.test") == (0, ())
    assert match(rules, b"/", host=b"c.test") == MISS


@pytest.mark.parametrize("host", [b"*", b"*.", b"a.*.test", b"*.*.test", b"*a.test"])
def test_a_star_elsewhere_in_a_host_is_refused(host: bytes) -> None:
    with pytest.raises(ValueError, match=re.escape(host.decode())):
        Router([Rule(hosts=(host,))])


# Methods


def test_rules_that_differ_only_in_methods_coexist() -> None:
    rules = [
        Rule(path=b"/{id}", methods=GET),
        Rule(path=b"/{id}", methods=(b"PUT", b"PATCH")),
        Rule(path=b"/{id}"),
    ]
    assert match(rules, b"/x", b"GET")[0] == 0
    assert match(rules, b"/x", b"PATCH")[0] == 1
    assert match(rules, b"/x", b"DELETE")[0] == 2


def test_a_restricted_method_is_not_a_condition_so_the_order_of_the_file_decides() -> None:
    rules = [Rule(path=b"/a"), Rule(path=b"/a", methods=GET)]
    assert match(rules, b"/a", b"GET")[0] == 0


def test_get_does_not_imply_head() -> None:
    assert match([Rule(path=b"/a", methods=GET)], b"/a", b"HEAD") == (METHOD_NOT_ALLOWED, (b"GET",))


def test_the_allowed_methods_are_those_of_all_rules_that_fail_on_nothing_else() -> None:
    rules = [
        Rule(path=b"/a", methods=(b"PUT", b"GET")),
        Rule(path=b"/a", methods=(b"OPTIONS",)),
        Rule(path=b"/{x}", methods=(b"DELETE",)),
        Rule(path=b"/*", methods=(b"PATCH",), conditions=(Condition("header", b"x", "present"),)),
        Rule(hosts=(b"a.test",), path=b"/a", methods=(b"POST",)),
        Rule(hosts=(b"b.test",), path=b"/a", methods=(b"TRACE",)),
    ]
    assert match(rules, b"/a", b"HEAD") == (
        METHOD_NOT_ALLOWED,
        (b"DELETE", b"GET", b"OPTIONS", b"POST", b"PUT"),
    )


def test_a_wrong_method_leaves_the_request_to_a_less_specific_rule() -> None:
    rules = [Rule(hosts=(b"a.test",), path=b"/a", methods=GET), Rule(path=b"/{x}", methods=(b"POST",))]
    assert match(rules, b"/a", b"POST") == (1, (b"a",))


# Conditions


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        (Condition("header", b"x-beta", "equals", b"1"), [b"1"], [b"", b"11", None]),
        (Condition("query", b"v", "regex", b"[0-9]+"), [b"1", b"23"], [b"", b"1a", b"a1", None]),
        (Condition("cookie", b"id", "present"), [b"", b"x"], [None]),
        (Condition("header", b"x", "absent"), [None], [b"", b"x"]),
    ],
)
def test_a_condition_holds_for(condition: Condition, holds: list[bytes | None], fails: list[bytes | None]) -> None:
    for value in holds + fails:
        given_value = {} if value is None else {condition.name: value}
        keyword = {"header": "headers", "query": "query", "cookie": "cookies"}[condition.kind]
        facts = Facts(**{keyword: given_value})
        expected = (0, ()) if value in holds else MISS
        assert match([Rule(path=b"/", conditions=(condition,))], b"/", facts=facts) == expected


def test_of_rules_for_one_path_the_one_with_more_conditions_wins() -> None:
    beta, admin = Condition("header", b"beta", "equals", b"1"), Condition("cookie", b"admin", "present")
    rules = [
        Rule(path=b"/a"),
        Rule(path=b"/a", conditions=(beta,)),
        Rule(path=b"/a", conditions=(beta, admin)),
        Rule(path=b"/a", conditions=(admin,)),
    ]
    assert match(rules, b"/a")[0] == 0
    assert match(rules, b"/a", facts=Facts(headers={b"beta": b"1"}))[0] == 1
    assert match(rules, b"/a", facts=Facts(cookies={b"admin": b"x"}))[0] == 3
    assert match(rules, b"/a", facts=Facts(headers={b"beta": b"1"}, cookies={b"admin": b"x"}))[0] == 2


def test_conditions_never_outweigh_a_more_literal_path() -> None:
    rules = [Rule(path=b"/{x}", conditions=(Condition("header", b"h", "present"),)), Rule(path=b"/a")]
    assert match(rules, b"/a", facts=Facts(headers={b"h": b""}))[0] == 1


def test_a_condition_that_fails_leaves_the_request_to_a_less_specific_rule() -> None:
    rules = [Rule(path=b"/a", conditions=(Condition("header", b"h", "present"),)), Rule(path=b"/{x}")]
    assert match(rules, b"/a") == (1, (b"a",))


# Cost. Steps are look-ups of a segment, counted by dictionaries put in the place of the trie's own.


class CountingDict(dict[bytes, Node]):
    looked_up = 0

    def get(self, key: bytes, default: Node | None = None) -> Node | None:  # type: ignore[override]
        CountingDict.looked_up += 1
        return super().get(key, default)


def steps(router: Router, path: bytes, host: bytes = b"a.test") -> int:
    if not isinstance(Router.match, FunctionType):
        pytest.skip("compiled code reads dictionaries without asking them")
    chains = [router._any_host, *router._exact_hosts.values(), *router._wildcard_hosts.values()]
    nodes = [root for chain in chains for root in chain]
    while nodes:
        node = nodes.pop()
        node.literals = CountingDict(node.literals)
        nodes += node.literals.values()
        if node.parameter is not None:
            nodes.append(node.parameter)
    CountingDict.looked_up = 0
    router.match(host, path, b"GET", NOTHING)
    return CountingDict.looked_up


@pytest.mark.parametrize("path", [b"/api/r7/list", b"/api/r7/5/edit", b"/static/7/x/y", b"/api/r7/none/7", b"/z/7"])
def test_the_steps_of_a_match_do_not_depend_on_the_number_of_rules(path: bytes) -> None:
    counts = set()
    for size in (10, 1000):
        patterns = (b"/api/r%d/list", b"/api/r%d/{id}/edit", b"/static/%d/*")
        counts.add(steps(Router(paths(*[pattern % i for i in range(size) for pattern in patterns])), path))
    assert len(counts) == 1
    assert max(counts) <= 8


def all_combinations(levels: int) -> list[Rule]:
    """Every path of so many segments, each `a` or a parameter, before an end that differs."""
    patterns = [b""]
    for level in range(levels):
        patterns = [p + s for p in patterns for s in (b"/a", b"/{p%d}" % level)]
    return paths(*[pattern + b"/end%d" % i for i, pattern in enumerate(patterns)])


def test_no_path_takes_more_steps_than_promised_even_where_everything_branches() -> None:
    router = Router(all_combinations(8))
    costliest = steps(router, b"/a/a/a/a/a/a/a/a/nothing")
    assert costliest >= 2**8
    assert costliest <= router.steps_at_most <= STEPS_MAX


def test_rules_that_could_make_a_match_cost_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match=f"more than the {STEPS_MAX} allowed"):
        Router(all_combinations(10))


def test_dead_ends_on_every_level_cost_a_few_steps_each() -> None:
    levels = 60
    router = Router(paths(*[b"/a" * i + b"/{x}/b/end" for i in range(levels)]))
    path = b"/a" * levels
    assert router.match(b"", path, b"GET", NOTHING) == MISS
    assert steps(router, path) <= 4 * levels


def test_a_path_is_not_followed_past_the_deepest_rule() -> None:
    router = Router(paths(b"/a/{x}/{y*}", b"/b/c"))
    assert router.match(b"", b"/a/x" + b"/y" * 9000, b"GET", NOTHING) == (0, (b"x", b"/".join([b"y"] * 9000)))
    assert steps(router, b"/b/c" + b"/c" * 9000) <= 6


# What the router tells about its rules


def test_the_order_is_that_of_matching() -> None:
    beta = (Condition("header", b"beta", "present"),)
    rules = [
        Rule(path=b"/*"),
        Rule(path=b"/a/{id}"),
        Rule(path=b"/a/b"),
        Rule(path=b"/a/b", conditions=beta),
        Rule(hosts=(b"*.test",), path=b"/*"),
        Rule(hosts=(b"*.a.test", b"b.test"), path=b"/{x}"),
    ]
    assert Router(rules).order() == [
        (b"b.test", 5),
        (b"*.a.test", 5),
        (b"*.test", 4),
        (b"*", 3),
        (b"*", 2),
        (b"*", 1),
        (b"*", 0),
    ]


def test_a_rule_is_shadowed_by_an_earlier_one_for_the_same_requests() -> None:
    rules = [Rule(path=b"/a/{id}"), Rule(path=b"/a/{name}"), Rule(path=b"/a/{id}", methods=GET)]
    assert Router(rules).shadowed() == [(1, 0), (2, 0)]


def test_a_rule_is_shadowed_when_others_share_all_its_methods() -> None:
    rules = [Rule(methods=methods) for methods in (GET, (b"PUT",), (b"PUT", b"GET"), (b"HEAD",))]
    assert Router(rules).shadowed() == [(2, 1)]


def test_a_rule_is_not_shadowed_while_any_of_its_hosts_methods_or_conditions_is_its_own() -> None:
    beta = (Condition("header", b"beta", "present"),)
    rules = [
        Rule(hosts=(b"a.test",), path=b"/a", methods=GET, conditions=beta),
        Rule(hosts=(b"a.test", b"b.test"), path=b"/a", methods=GET, conditions=beta),
        Rule(hosts=(b"a.test",), path=b"/a", conditions=beta),
        Rule(hosts=(b"a.test",), path=b"/a"),
        Rule(hosts=(b"a.test",), path=b"/a/"),
        Rule(hosts=(b"a.test",), path=b"/{a}"),
        Rule(hosts=(b"*.test",), path=b"/a"),
        Rule(path=b"/a"),
    ]
    assert Router(rules).shadowed() == []


def test_a_router_without_rules_finds_nothing() -> None:
    router = Router(())
    assert router.match(b"a.test", b"/", b"GET", NOTHING) == MISS
    assert router.match(b"a.test", b"*", b"OPTIONS", NOTHING) == MISS
    assert router.order() == []


def test_a_router_survives_pickling_even_with_very_deep_paths() -> None:
    rules = [
        Rule(path=b"/a" * 900),
        Rule(hosts=(b"*.test",), conditions=(Condition("query", b"v", "regex", b"[0-9]"),)),
    ]
    router = pickle.loads(pickle.dumps(Router(rules)))
    assert router.match(b"", b"/a" * 900, b"GET", NOTHING) == (0, ())
    assert router.match(b"a.test", b"/x", b"GET", Facts(query={b"v": b"7"})) == (1, (b"x",))


# Against a slow and obvious matcher

PATH_PIECES = st.sampled_from([b"a", b"a", b"b", b"{}", b"{}", b""])
HOSTS = [b"test", b"a.test", b"b.a.test", b"c.b.a.test", b".a.test", b"other", b""]
METHODS = [b"GET", b"POST", b"PUT"]
NAMES = st.sampled_from([b"x", b"y"])
VALUES = st.dictionaries(NAMES, st.sampled_from([b"1", b"2", b"12"]), max_size=2)


@st.composite
def patterns_of_paths(draw: st.DrawFn) -> bytes:
    pieces = draw(st.lists(PATH_PIECES, max_size=4))
    end = draw(st.sampled_from([b"", b"", b"/*", b"/{rest*}"]))
    named = [b"{p%d}" % place if piece == b"{}" else piece for place, piece in enumerate(pieces)]
    return b"".join([b"/" + piece for piece in named]) + end or b"/"


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    """Few paths, so that several rules share one."""
    few_paths = draw(st.lists(patterns_of_paths(), min_size=1, max_size=5))
    host_patterns = st.sampled_from([b"a.test", b"b.a.test", b"*.test", b"*.a.test", b"*.b.a.test"])
    condition = st.builds(
        Condition,
        st.sampled_from(["header", "query", "cookie"]),
        NAMES,
        st.sampled_from(["equals", "regex", "present", "absent"]),
        st.sampled_from([b"1", b"1.*", b"1|2"]),
    )
    rule = st.builds(
        Rule,
        st.one_of(st.just(()), st.lists(host_patterns, max_size=2).map(tuple)),
        st.sampled_from(few_paths),
        st.lists(st.sampled_from(METHODS), max_size=2).map(tuple),
        st.one_of(st.just(()), st.lists(condition, max_size=2).map(tuple)),
    )
    return draw(st.lists(rule, max_size=10))


REQUEST = st.tuples(
    st.sampled_from(HOSTS),
    st.one_of(
        st.just(b"*"),
        st.lists(st.sampled_from([b"a", b"a", b"b", b"c", b""]), min_size=1, max_size=5).map(
            lambda pieces: b"".join([b"/" + piece for piece in pieces])
        ),
    ),
    st.sampled_from([*METHODS, b"HEAD"]),
    st.builds(Facts, VALUES, VALUES, VALUES),
)


def host_precedence(pattern: bytes, host: bytes) -> tuple[int, int] | None:
    """How early a pattern comes among those for the host, or None when it isn't one."""
    if pattern == b"*":
        return 2, 0
    if pattern.startswith(b"*"):
        suffix = pattern[1:]
        return (1, -len(suffix)) if host.endswith(suffix) and host != suffix else None
    return (0, 0) if pattern == host else None


def path_match(pattern: bytes, path: bytes) -> tuple[tuple[int, ...], tuple[bytes, ...]] | None:
    """The kinds of the pattern's segments and what they capture, or None when the path is another."""
    kinds = []
    expression = b""
    for piece in pattern.split(b"/")[1:]:
        if piece.endswith(b"*}") or piece == b"*":
            kinds.append(REST)
            expression += b"/(.*)"
        elif piece.startswith(b"{"):
            kinds.append(PARAMETER)
            expression += b"/([^/]+)"
        else:
            kinds.append(LITERAL)
            expression += b"/" + re.escape(piece)
    if path == b"*":
        return (tuple(kinds), (b"",)) if kinds == [REST] else None
    found = re.fullmatch(expression, path)
    return None if found is None else (tuple(kinds), found.groups())


def condition_holds(condition: Condition, facts: Facts) -> bool:
    values = {"header": facts.headers, "query": facts.query, "cookie": facts.cookies}[condition.kind]
    return {
        "equals": values.get(condition.name) == condition.value,
        "regex": condition.name in values and bool(re.fullmatch(condition.value, values[condition.name])),
        "present": condition.name in values,
        "absent": condition.name not in values,
    }[condition.op]


Candidate = tuple[tuple[int, int], tuple[int, ...], int, int, bytes, tuple[bytes, ...]]


def candidates(rules: list[Rule], host: bytes, path: bytes, facts: Facts) -> list[Candidate]:
    """What would match but for the method, the best first: precedence, index, host pattern, captured."""
    found = []
    for index, rule in enumerate(rules):
        for pattern in rule.hosts or (b"*",):
            precedence = host_precedence(pattern, host)
            matched = path_match(rule.path, path)
            if precedence is None or matched is None:
                continue
            if all(condition_holds(condition, facts) for condition in rule.conditions):
                found.append((precedence, matched[0], -len(rule.conditions), index, pattern, matched[1]))
    return sorted(set(found))


@settings(max_examples=30, deadline=None)
@given(rule_sets(), st.lists(REQUEST, min_size=10, max_size=20))
def test_the_router_agrees_with_trying_every_rule(
    rules: list[Rule], requests: list[tuple[bytes, bytes, bytes, Facts]]
) -> None:
    router = Router(rules)
    order = router.order()
    shadowed = {index for index, _ in router.shadowed()}
    for host, path, method, facts in requests:
        found = candidates(rules, host, path, facts)
        takers = [c for c in found if not rules[c[3]].methods or method in rules[c[3]].methods]
        if takers:
            expected = takers[0][3], takers[0][5]
        elif found:
            expected = METHOD_NOT_ALLOWED, tuple(sorted({m for c in found for m in rules[c[3]].methods}))
        else:
            expected = MISS
        answer = router.match(host, path, method, facts)
        assert answer == expected
        assert answer[0] not in shadowed
        places = [order.index((pattern, index)) for _, _, _, index, pattern, _ in found]
        assert places == sorted(places)


@settings(max_examples=25, deadline=None)
@given(rule_sets(), st.lists(REQUEST, min_size=5, max_size=5))
def test_no_request_takes_more_steps_than_promised(
    rules: list[Rule], requests: list[tuple[bytes, bytes, bytes, Facts]]
) -> None:
    router = Router(rules)
    for host, path, _, _ in requests:
        assert steps(router, path, host) <= router.steps_at_most
