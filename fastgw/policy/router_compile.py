"""Turns rules into the tries of `router_trie`, and tells what follows from their order: which is tried when,
and which never gets its turn.

All of it rests on one sorted list, `_in_matching_order`. This is cold: it runs once per configuration, and
refuses with a ValueError what a rule must not say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastgw.policy.router_trie import NOT_FOUND, Leaf, Node, Rule

# Kinds of segments; their order is their precedence.
LITERAL = 0
PARAMETER = 1
REST = 2

# Kind and text: the literal, the parameter's name, or b"*" for a rest without a name.
Segment = tuple[int, bytes]

_ANY_HOST = b"*"
_SPECIAL = re.compile(rb"[{}*]")
_VARIABLE = re.compile(rb"\{([A-Za-z_][A-Za-z0-9_-]*)(\*?)\}")


def parse_path(path: bytes) -> tuple[Segment, ...]:
    """The segments of a rule's path, the empty one before the first slash included.

    All but literals capture, in this order. Raises ValueError, worded for whoever wrote the path.
    """
    if not path.startswith(b"/"):
        raise ValueError("a path begins with a slash")
    pieces = path.split(b"/")
    segments: list[Segment] = []
    names: set[bytes] = set()
    for place, piece in enumerate(pieces):
        segment = _parse_segment(piece, place == len(pieces) - 1)
        if segment[0] != LITERAL:
            if segment[1] in names:
                raise ValueError(f"{{{segment[1].decode()}}} is there twice")
            names.add(segment[1])
        segments.append(segment)
    return tuple(segments)


def _parse_segment(piece: bytes, is_last: bool) -> Segment:
    if _SPECIAL.search(piece) is None:
        return LITERAL, piece
    text = piece.decode(errors="replace")
    variable = _VARIABLE.fullmatch(piece)
    if piece == b"*" or (variable is not None and variable.group(2)):
        if not is_last:
            raise ValueError(f"{text} takes the rest of the path, so nothing can follow it")
        return REST, piece if variable is None else variable.group(1)
    if variable is not None:
        return PARAMETER, variable.group(1)
    if b"{" in piece or b"}" in piece:
        raise ValueError(f"{text} is not {{name}} or {{name*}}, which stand for whole segments")
    if is_last and piece.endswith(b"*"):
        raise ValueError(f"{text} ends in a star, which must be a segment of its own: {text[:-1]}/*")
    return LITERAL, piece


class Tries:
    """The tries of all hosts: for each, the top of its own trie, then the tops of those to fall back on, in
    order.

    Wildcards are found by their suffix, `.example.com`. `nodes` has parents before their children.
    """

    __slots__ = ("any_host", "exact_hosts", "nodes", "wildcard_hosts")

    def __init__(self) -> None:
        self.exact_hosts: dict[bytes, tuple[Node, ...]] = {}
        self.wildcard_hosts: dict[bytes, tuple[Node, ...]] = {}
        self.any_host: tuple[Node, ...] = ()
        self.nodes: list[Node] = []


def build_tries(rules: Sequence[Rule]) -> Tries:
    tries = Tries()
    tops: dict[bytes, Node] = {}
    for host, segments, index in _in_matching_order(rules):
        top = tops.get(host)
        if top is None:
            top = tops[host] = _add_node(tries, None)
        _leaf_at(tries, top, segments).rules.append((index, rules[index]))
    for node in tries.nodes:
        for leaf in (node.leaf, node.rest):
            if leaf is not None:
                _decide(leaf)
    for top in tops.values():
        # The target `*` of OPTIONS has no slash, so it gets no further than the top; only `/*` takes it.
        top.rest = top.literals[b""].rest
    _link_hosts(tries, tops)
    return tries


def _add_node(tries: Tries, parent: Node | None) -> Node:
    node = Node(parent, 0 if parent is None else parent.depth + 1)
    tries.nodes.append(node)
    return node


def _leaf_at(tries: Tries, top: Node, segments: tuple[Segment, ...]) -> Leaf:
    node = top
    captured_at: list[int] = []
    for place, (kind, literal) in enumerate(segments):
        if kind == REST:
            if node.rest is None:
                node.rest = Leaf(tuple(captured_at), place)
            return node.rest
        if kind == PARAMETER:
            captured_at.append(place)
            node = node.parameter or _add_parameter(tries, node)
        else:
            child = node.literals.get(literal)
            if child is None:
                child = node.literals[literal] = _add_node(tries, node)
            node = child
    if node.leaf is None:
        node.leaf = Leaf(tuple(captured_at), 0)
    return node.leaf


def _add_parameter(tries: Tries, parent: Node) -> Node:
    node = parent.parameter = _add_node(tries, parent)
    # All the literals are there: they come first in the order of matching.
    for literal, sibling in parent.literals.items():
        # A parameter takes no empty segment.
        if literal:
            sibling.sibling = node
    return node


def _decide(leaf: Leaf) -> None:
    leaf.decided_otherwise = _decided(leaf, b"")
    for _, rule in leaf.rules:
        for method in rule.methods:
            if method not in leaf.decided:
                leaf.decided[method] = _decided(leaf, method)


def _decided(leaf: Leaf, method: bytes) -> int:
    """The first rule for the method (b"": one that no rule names), if it has no conditions."""
    for index, rule in leaf.rules:
        if not rule.methods or method in rule.methods:
            return NOT_FOUND if rule.conditions else index
    return NOT_FOUND


def _link_hosts(tries: Tries, tops: dict[bytes, Node]) -> None:
    any_host = tops.get(_ANY_HOST)
    tries.any_host = (any_host or _add_node(tries, None),)
    for host, top in tops.items():
        if host == _ANY_HOST:
            continue
        roots = [top]
        suffix = host.removeprefix(b"*")
        dot = suffix.find(b".", 1)
        while dot > 0:
            wildcard = tops.get(b"*" + suffix[dot:])
            if wildcard is not None:
                roots.append(wildcard)
            dot = suffix.find(b".", dot + 1)
        if any_host is not None:
            roots.append(any_host)
        if host.startswith(b"*"):
            tries.wildcard_hosts[suffix] = tuple(roots)
        else:
            tries.exact_hosts[host] = tuple(roots)


def deepest_level(tries: Tries) -> int:
    return max([node.depth for node in tries.nodes])


def steps_at_most(tries: Tries) -> int:
    """A bound on the nodes that one request enters: below each, one of the literals, then the parameter."""
    below: dict[Node, int] = {}
    for node in reversed(tries.nodes):
        steps = 1 + max([below[child] for child in node.literals.values()], default=0)
        below[node] = steps if node.parameter is None else steps + below[node.parameter]
    chains = [tries.any_host, *tries.exact_hosts.values(), *tries.wildcard_hosts.values()]
    return max([sum([below[root] for root in chain]) for chain in chains])


def matching_order(rules: Sequence[Rule]) -> list[tuple[bytes, int]]:
    return [(host, index) for host, _, index in _in_matching_order(rules)]


def shadowed_rules(rules: Sequence[Rule]) -> list[tuple[int, int]]:
    """Pairs of a rule that never gets its turn and one that is tried before it.

    It is so when on each of its hosts, for each of its methods, another rule with the same path and
    conditions comes first. One with fewer conditions always comes later, and one with another path leaves
    something over.
    """
    # For one host, path and set of conditions: the first rule for each method; b"" stands for all of them.
    first: dict[tuple[object, ...], dict[bytes, int]] = {}
    winners: dict[int, int] = {}
    open_somewhere: set[int] = set()
    for host, segments, index in _in_matching_order(rules):
        rule = rules[index]
        taken = first.setdefault((host, segments, frozenset(rule.conditions)), {})
        by = [taken.get(method, taken.get(b"", NOT_FOUND)) for method in rule.methods or (b"",)]
        if NOT_FOUND in by:
            open_somewhere.add(index)
        else:
            winners.setdefault(index, by[0])
        for method in rule.methods or (b"",):
            taken.setdefault(method, index)
    return sorted([(index, by) for index, by in winners.items() if index not in open_somewhere])


def _in_matching_order(rules: Sequence[Rule]) -> list[tuple[bytes, tuple[Segment, ...], int]]:
    """Host, segments (without names) and index of each rule, once for each of its hosts."""
    appeared: dict[bytes, int] = {}
    keyed = []
    for index, rule in enumerate(rules):
        parsed = parse_path(rule.path)
        segments = tuple([(kind, text if kind == LITERAL else b"") for kind, text in parsed])
        for host in dict.fromkeys(rule.hosts or (_ANY_HOST,)):
            rank = _host_rank(host, bool(rule.hosts))
            place = appeared.setdefault(host, len(appeared))
            keyed.append((rank, place, segments, -len(rule.conditions), index, host))
    keyed.sort()
    return [(host, segments, index) for _, _, segments, _, index, host in keyed]


def _host_rank(host: bytes, is_named: bool) -> tuple[int, int]:
    """Exact hosts, then wildcards from the longest suffix on, then any host."""
    if not is_named:
        return 2, 0
    if host.startswith(b"*."):
        if b"*" in host[1:] or len(host) == 2:
            raise ValueError(f"{host.decode(errors='replace')} is not a wildcard host such as *.example.com")
        return 1, -len(host)
    if b"*" in host:
        raise ValueError(f"{host.decode(errors='replace')} is neither a host nor a wildcard (*.example.com)")
    return 0, 0
