"""Which rule matches a request, by host, path, method and conditions.

Precedence: an exact host before a wildcard (longest suffix first) before any host; then, segment by segment,
a literal before `{name}` before `{name*}`; then the rule with more conditions; then the order given. A rule
that fails on its conditions or its method leaves the request to the next one, down to the rules for any host.

Paths come normalized, hosts lower-case and without port; what a rule leads to is the caller's affair.

Almost every request is answered by the greedy walk in `match`: one dictionary look-up per segment, however
many rules there are. Only a dead end, a condition or a wrong method goes on to `_search`, which backtracks.
It enters no node of a trie twice, and rules under which one request could enter more than STEPS_MAX of them
are refused when the router is built. Rules for the same path that differ in their conditions are tried in
turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastgw.policy.router_compile import (
    build_tries,
    deepest_level,
    matching_order,
    shadowed_rules,
    steps_at_most,
)
from fastgw.policy.router_trie import NOT_FOUND, Condition, Node, RequestFacts, Rule

__all__ = ["METHOD_NOT_ALLOWED", "NOT_FOUND", "STEPS_MAX", "Condition", "RequestFacts", "Router", "Rule"]

METHOD_NOT_ALLOWED = -2

# A step costs about 0.15 µs, so this bounds a match at some 0.15 ms. Large APIs come to a few dozen; what
# gets there is a literal and a parameter for the same segment, in level after level and in all combinations.
STEPS_MAX = 1000


class Router:
    """The compiled rules. Pickles as the rules alone, which are compiled again where it arrives.

    Raises ValueError for a rule that says nothing clear, and for rules that could cost more than STEPS_MAX.
    """

    __slots__ = (
        "_any_host",
        "_exact_hosts",
        "_longest_suffix",
        "_rules",
        "_splits",
        "_wildcard_hosts",
        "steps_at_most",
    )

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        tries = build_tries(self._rules)
        # For each pattern of a host, its trie and those to fall back on, in their order.
        self._exact_hosts = tries.exact_hosts
        self._wildcard_hosts = tries.wildcard_hosts
        self._any_host = tries.any_host
        self._longest_suffix = max([len(suffix) for suffix in self._wildcard_hosts], default=0)
        # No trie goes deeper, so a path of a thousand slashes isn't cut to its end.
        self._splits = deepest_level(tries)
        # The most nodes that one request can enter.
        self.steps_at_most = steps_at_most(tries)
        if self.steps_at_most > STEPS_MAX:
            raise ValueError(
                f"finding a route could take {self.steps_at_most} steps, more than the {STEPS_MAX} allowed: "
                "too many paths have a literal where others have a parameter"
            )

    def __reduce__(self) -> tuple[type[Router], tuple[tuple[Rule, ...]]]:
        return Router, (self._rules,)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """As they were given; a rule's index is what `match` finds."""
        return self._rules

    def with_rules(self, more: Sequence[Rule]) -> Router:
        """The same rules, and more behind them. Raises ValueError as `Router` does."""
        return Router((*self._rules, *more))

    def match(self, host: bytes, path: bytes, method: bytes, request: RequestFacts) -> tuple[int, tuple[bytes, ...]]:
        """The index of the rule that wins, and the segments it captured, in order.

        If there is none: METHOD_NOT_ALLOWED and the sorted methods of the rules that fail on nothing else, or
        NOT_FOUND and ().
        """
        roots = self._exact_hosts.get(host)
        if roots is None:
            roots = self._roots_of_inexact(host)
        node = roots[0]
        segments = path.split(b"/", self._splits)
        captured: tuple[bytes, ...] = ()
        for segment in segments:
            child = node.literals.get(segment)
            if child is None:
                child = node.parameter
                if child is None or not segment:
                    leaf = node.rest
                    if leaf is not None:
                        captured += (b"/".join(segments[leaf.rest_at :]),)
                    break
                captured += (segment,)
            node = child
        else:
            leaf = node.leaf
        if leaf is not None:
            index = leaf.decided.get(method, leaf.decided_otherwise)
            if index >= 0:
                return index, captured
        return _search(roots, node, segments, method, request)

    def _roots_of_inexact(self, host: bytes) -> tuple[Node, ...]:
        if not self._wildcard_hosts:
            return self._any_host
        # A wildcard stands for one label at least, so the first byte is never part of the suffix.
        dot = host.find(b".", max(1, len(host) - self._longest_suffix))
        while dot > 0:
            roots = self._wildcard_hosts.get(host[dot:])
            if roots is not None:
                return roots
            dot = host.find(b".", dot + 1)
        return self._any_host

    def order(self) -> list[tuple[bytes, int]]:
        """Each rule's index once for each of its hosts (`b"*"`: any), in the order of matching."""
        return matching_order(self._rules)

    def shadowed(self) -> list[tuple[int, int]]:
        """Rules that certainly never match, each with one that wins in its place; there may be others."""
        return shadowed_rules(self._rules)


def _search(
    roots: tuple[Node, ...], node: Node, segments: list[bytes], method: bytes, request: RequestFacts
) -> tuple[int, tuple[bytes, ...]]:
    """Goes on where the greedy walk ended, at `node` below roots[0], through all that is left, best first."""
    end = len(segments)
    allowed: set[bytes] = set()
    fallback = 0
    while True:
        leaf = node.leaf if node.depth == end else node.rest
        if leaf is not None:
            index = leaf.choose(method, request, allowed)
            if index >= 0:
                return index, leaf.captured(segments)
        if node.sibling is not None:
            node = _descend(node.sibling, segments)
        elif node.parent is not None:
            node = node.parent
        else:
            fallback += 1
            if fallback == len(roots):
                break
            node = _descend(roots[fallback], segments)
    if allowed:
        return METHOD_NOT_ALLOWED, tuple(sorted(allowed))
    return NOT_FOUND, ()


def _descend(node: Node, segments: list[bytes]) -> Node:
    """As far down from `node` as the segments lead, literals before parameters."""
    while node.depth < len(segments):
        segment = segments[node.depth]
        child = node.literals.get(segment)
        if child is None:
            child = node.parameter
            if child is None or not segment:
                break
        node = child
    return node
