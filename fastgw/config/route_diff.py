"""The routes of two configurations: which is which, what has changed in each, and which come in another order.

A route is known by its name; one without is by its rule, since its number says nothing as soon as another is put before
it. What `[defaults]` says is a part of each route that does not say otherwise: a change that comes from there alone is
told there, with the number of routes that it changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from fastgw.config.checks import default_name
from fastgw.config.document import Document, Path
from fastgw.config.load import LoadedConfig
from fastgw.config.problems import path_text, whole_toml_text
from fastgw.config.schema import Defaults, Route
from fastgw.config.table_diff import Change, Where, change, table_changes, written
from fastgw.policy.router import Rule
from fastgw.policy.router_compile import LITERAL, parse_path

# What defaults are mixed with, or stands for something else when it is absent.
_APART = frozenset(("name", "timeout", "retry", "rewrite", "request", "response"))
# In a group of routes for the same path; looking at all pairs of more would take for ever, and nobody has them.
_GROUP_MAX = 100


@dataclass(frozen=True, slots=True)
class RoutePair:
    """A route's places in both; None: it is not there."""

    old: int | None
    new: int | None


@dataclass(frozen=True, slots=True)
class _Said:
    """A setting that holds for a route. `by_defaults`: it does not say it itself."""

    value: object
    text: str
    by_defaults: bool = False


def pair_routes(old: LoadedConfig, new: LoadedConfig) -> list[RoutePair]:
    """Each route of either once: those of the new one in its order, then those that are gone."""
    matches: dict[int, int] = {}
    old_left = dict.fromkeys(range(len(old.model.routes)))
    new_left = dict.fromkeys(range(len(new.model.routes)))

    def match(old_keys: dict[int, Any], new_keys: dict[int, Any]) -> None:
        """Pairs those whose keys are the same, in their order."""
        places: defaultdict[Any, list[int]] = defaultdict(list)
        for index, key in old_keys.items():
            places[key].append(index)
        for index, key in new_keys.items():
            if places.get(key):
                matches[index] = found = places[key].pop(0)
                del old_left[found], new_left[index]

    match(_names(old, old_left), _names(new, new_left))
    match(_rules(old, old_left), _rules(new, new_left))
    # What is left has another rule: it is known by its path, or else by its number.
    match(_paths(old, old_left), _paths(new, new_left))
    match(_unnamed(old, old_left), _unnamed(new, new_left))
    pairs = [RoutePair(matches.get(index), index) for index in range(len(new.model.routes))]
    return pairs + [RoutePair(index, None) for index in old_left]


def _names(loaded: LoadedConfig, left: dict[int, None]) -> dict[int, str]:
    routes = loaded.model.routes
    return {index: name for index in left if (name := routes[index].name) is not None}


def _unnamed(loaded: LoadedConfig, left: dict[int, None]) -> dict[int, int]:
    return {index: index for index in left if loaded.model.routes[index].name is None}


def _paths(loaded: LoadedConfig, left: dict[int, None]) -> dict[int, bytes]:
    return {index: loaded.model.routes[index].path.pattern for index in _unnamed(loaded, left)}


def _rules(loaded: LoadedConfig, left: dict[int, None]) -> dict[int, object]:
    rules = loaded.snapshot.router.rules
    return {index: _rule_meaning(rules[index]) for index in left}


def _rule_meaning(rule: Rule) -> object:
    return frozenset(rule.hosts), rule.path, frozenset(rule.methods), frozenset(rule.conditions)


def route_name(loaded: LoadedConfig, index: int) -> str:
    return loaded.model.routes[index].name or default_name("route", index)


# What has changed in each.


class RouteComparison:
    """`by_defaults` counts the routes that each change of `[defaults]` changes, once all have been compared."""

    def __init__(self, old: LoadedConfig, new: LoadedConfig) -> None:
        self._old = old
        self._new = new
        self.by_defaults: Counter[Change] = Counter()

    def changes(self, old: int, new: int) -> list[Change]:
        """Of one route, beside what is by defaults."""
        name_before, name_after = route_name(self._old, old), route_name(self._new, new)
        compiled_before = replace(self._old.snapshot.routes[old], name=name_after)
        rule_before, rule_after = self._old.snapshot.router.rules[old], self._new.snapshot.router.rules[new]
        changes = []
        if name_before != name_after:
            old_route, new_route = self._old.model.routes[old], self._new.model.routes[new]
            shown = whole_toml_text(name_before), whole_toml_text(name_after)
            changes.append(Change("name", *shown, old_route.name is None, new_route.name is None))
        if compiled_before == self._new.snapshot.routes[new] and _rule_meaning(rule_before) == _rule_meaning(
            rule_after
        ):
            return changes
        where = Where(self._old.document, ("routes", old), self._new.document, ("routes", new))
        changes += table_changes(self._old.model.routes[old], self._new.model.routes[new], where, _APART)
        changes += self._effective_changes(old, new)
        return changes

    def _effective_changes(self, old: int, new: int) -> Iterator[Change]:
        before, after = _effective(self._old, old), _effective(self._new, new)
        for key in dict.fromkeys((*before, *after)):
            one, other = before.get(key), after.get(key)
            if one is not None and other is not None and one.value == other.value:
                continue
            found = change(key, one.text if one is not None else None, other.text if other is not None else None)
            if all(said is None or said.by_defaults for said in (one, other)):
                self.by_defaults[found] += 1
            else:
                yield found


def _effective(loaded: LoadedConfig, index: int) -> dict[str, _Said]:
    """What holds for a route of what `[defaults]` may say, by key."""
    route, defaults, document = loaded.model.routes[index], loaded.model.defaults, loaded.document
    path: Path = ("routes", index)
    said: dict[str, _Said] = {}
    if route.timeout is not None:
        _say(said, "timeout", route.timeout, document, (*path, "timeout"))
    elif defaults.timeout is not None:
        _say(said, "timeout", defaults.timeout, document, ("defaults", "timeout"), True)
    said |= _effective_edits("response", route, defaults, document, path)
    if route.upstream is None:
        return said
    said |= _effective_edits("request", route, defaults, document, path)
    rewrite = route.rewrite
    for key in ("path", "strip_prefix", "host"):
        if rewrite is not None and getattr(rewrite, key) is not None:
            _say(said, f"rewrite.{key}", getattr(rewrite, key), document, (*path, "rewrite", key))
        elif key == "host" and defaults.rewrite is not None and defaults.rewrite.host is not None:
            _say(said, "rewrite.host", defaults.rewrite.host, document, ("defaults", "rewrite", "host"), True)
    if route.retry is False:
        said["retry"] = _Said(False, "false")
    elif route.retry is not None:
        if route.retry.any_method:
            _say(said, "retry.any_method", True, document, (*path, "retry", "any_method"))
        if route.retry.hedge is not None:
            hedge = route.retry.hedge
            said["retry.hedge"] = _Said(hedge, written(document, (*path, "retry", "hedge")), False)
    return said


def _say(
    said: dict[str, _Said], key: str, value: object, document: Document, path: Path, by_defaults: bool = False
) -> None:
    # `false` switches a default off: then there is none, which is what absence says.
    if value is not False:
        said[key] = _Said(value, written(document, path), by_defaults)


def _effective_edits(side: str, route: Route, defaults: Defaults, document: Document, path: Path) -> dict[str, _Said]:
    """The edits of requests or answers; for each name the route's own win."""
    mine, theirs = getattr(route, side), getattr(defaults, side)
    own = mine.headers if mine is not None else None
    if own is False:
        return {}
    said: dict[str, _Said] = {}
    below = theirs.headers if theirs is not None else None
    decided = {name.lower() for names in (own.set, own.add, own.remove) for name in names} if own is not None else set()
    for edits, place, by_defaults in ((own, path, False), (below, ("defaults",), True)):
        for action in ("set", "add", "remove") if edits is not None else ():
            for number, name in enumerate(getattr(edits, action)):
                if by_defaults and name.lower() in decided:
                    continue
                value = getattr(edits, action)[name] if action != "remove" else True
                where: Path = (*place, side, "headers", action, name if action != "remove" else number)
                text = written(document, where) if action != "remove" else "true"
                # Names are told apart without regard to case.
                said[f"{side}.headers.{action}.{path_text((name.lower(),))}"] = _Said(value, text, by_defaults)
    return said


# Their order.


def order_changes(old: LoadedConfig, new: LoadedConfig, pairs: Sequence[RoutePair]) -> Iterator[tuple[int, Change]]:
    """The routes (of the new configuration) that come before another now that came before them, where a request may be
    for both of them."""
    partner = {pair.new: pair.old for pair in pairs if pair.old is not None and pair.new is not None}
    rules = new.snapshot.router.rules
    seen: set[tuple[int, int]] = set()
    for group in _groups(new).values():
        common = [index for index in group if index in partner]
        for first, second in combinations(common[:_GROUP_MAX], 2):
            is_swapped = partner[first] > partner[second] and _same_place(old, partner[first], partner[second])
            if is_swapped and (first, second) not in seen and _overlap(rules[first], rules[second]):
                seen.add((first, second))
                other = whole_toml_text(route_name(new, second))
                yield first, Change("order", f"after {other}", f"before {other}")


def _groups(loaded: LoadedConfig) -> dict[object, list[int]]:
    """The routes among which only their order in the file decides."""
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for index, rule in enumerate(loaded.snapshot.router.rules):
        for host in rule.hosts or (b"*",):
            groups[host, _place(rule)].append(index)
    return {key: group for key, group in groups.items() if len(group) > 1}


def _place(rule: Rule) -> object:
    segments = tuple([(kind, text if kind == LITERAL else b"") for kind, text in parse_path(rule.path)])
    return segments, len(rule.conditions)


def _same_place(loaded: LoadedConfig, one: int, other: int) -> bool:
    rules = loaded.snapshot.router.rules
    return _place(rules[one]) == _place(rules[other])


def _overlap(one: Rule, other: Rule) -> bool:
    """Whether there may be a request for both."""
    if one.methods and other.methods and not set(one.methods) & set(other.methods):
        return False
    wanted = {(condition.kind, condition.name): condition for condition in one.conditions if condition.op == "equals"}
    return not any(
        condition.op == "equals" and wanted.get((condition.kind, condition.name), condition).value != condition.value
        for condition in other.conditions
    )
