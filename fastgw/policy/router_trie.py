"""What the router walks: rules as the configuration states them, and the trie of path segments they become.

A path is cut at its slashes. The empty piece before the first slash counts, so `/a/{id}` lies below `b""`,
`b"a"` and a parameter. Every node knows where it hangs, and every leaf what it captures, so the way back from
a dead end needs no stack.

How rules become tries is in `router_compile`; how tries are walked is in `router`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, Protocol

# No rule was found to decide; what `Leaf.choose` and `Router.match` return instead of an index.
NOT_FOUND = -1


class RequestFacts(Protocol):
    """What conditions ask of a request; None when it has no such header, parameter or cookie."""

    def header(self, name: bytes) -> bytes | None: ...

    def query_value(self, name: bytes) -> bytes | None: ...

    def cookie(self, name: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a rule asks of a request besides host, path and method.

    `name` is lower-case for headers. A regex must match the whole value; a broken one raises re.error.
    """

    kind: Literal["header", "query", "cookie"]
    name: bytes
    op: Literal["equals", "regex", "present", "absent"]
    value: bytes = b""
    pattern: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(self.value) if self.op == "regex" else None)

    def __reduce__(self) -> tuple[type[Condition], tuple[str, bytes, str, bytes]]:
        return Condition, (self.kind, self.name, self.op, self.value)

    def holds(self, request: RequestFacts) -> bool:
        if self.kind == "header":
            found = request.header(self.name)
        elif self.kind == "query":
            found = request.query_value(self.name)
        else:
            found = request.cookie(self.name)
        if self.op == "absent":
            return found is None
        if found is None:
            return False
        if self.pattern is not None:
            return self.pattern.fullmatch(found) is not None
        return self.op == "present" or found == self.value


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests a route takes.

    `hosts` are lower-case, `*.example.com` for one or more labels below it; `path` is normalized, with
    `{name}` for a whole segment and `{name*}` or `*` at the end for the rest; `methods` are exact, GET is not
    HEAD. No hosts or no methods: any.
    """

    hosts: tuple[bytes, ...] = ()
    path: bytes = b"/*"
    methods: tuple[bytes, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def __reduce__(self) -> tuple[type[Rule], tuple[object, ...]]:
        return Rule, (self.hosts, self.path, self.methods, self.conditions)

    def conditions_hold(self, request: RequestFacts) -> bool:
        for condition in self.conditions:  # noqa: SIM110 (all() costs three times the loop)
            if not condition.holds(request):
                return False
        return True


class Leaf:
    """The rules of one path on one host, in the order in which they are tried.

    `decided` has the rule for each method that needs no look at conditions, `decided_otherwise` the one for
    methods that no rule here names; NOT_FOUND in them sends the router to `choose`. `captured_at` has the
    places of the segments to capture, `rest_at` where the rest begins (0: there is none).
    """

    __slots__ = ("captured_at", "decided", "decided_otherwise", "rest_at", "rules")

    def __init__(self, captured_at: tuple[int, ...], rest_at: int) -> None:
        self.rules: list[tuple[int, Rule]] = []
        self.decided: dict[bytes, int] = {}
        self.decided_otherwise = NOT_FOUND
        self.captured_at = captured_at
        self.rest_at = rest_at

    def choose(self, method: bytes, request: RequestFacts, allowed: set[bytes]) -> int:
        """The first rule that takes the request, or NOT_FOUND; `allowed` gets the methods it should have."""
        for index, rule in self.rules:
            if rule.conditions_hold(request):
                if not rule.methods or method in rule.methods:
                    return index
                allowed.update(rule.methods)
        return NOT_FOUND

    def captured(self, segments: list[bytes]) -> tuple[bytes, ...]:
        captured = tuple([segments[place] for place in self.captured_at])
        return (*captured, b"/".join(segments[self.rest_at :])) if self.rest_at else captured


class Node:
    """A place in the trie, `depth` segments down.

    `literals` and `parameter` lead on, `leaf` has the rules whose path ends here, `rest` those that take
    whatever follows. Back from a dead end the way leads to `sibling`, the parameter that also takes this
    literal, or else up to `parent`.
    """

    __slots__ = ("depth", "leaf", "literals", "parameter", "parent", "rest", "sibling")

    def __init__(self, parent: Node | None, depth: int) -> None:
        self.literals: dict[bytes, Node] = {}
        self.parameter: Node | None = None
        self.leaf: Leaf | None = None
        self.rest: Leaf | None = None
        self.parent = parent
        self.sibling: Node | None = None
        self.depth = depth
