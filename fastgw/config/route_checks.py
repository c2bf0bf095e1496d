"""What must agree within one route: where it goes to, what it rewrites, and which headers it edits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastgw.config.document import Path, touches
from fastgw.config.mirror import Mirror
from fastgw.config.patterns import PathPattern, Template
from fastgw.config.problems import Report, did_you_mean, names_there_are, quoted
from fastgw.config.resilience import RouteRetry
from fastgw.config.schema import HeaderEdits, MessageEdits, Redirect, Respond, Rewrite, Route, Split

# RFC 9110 §15.3.5, §15.3.6 and §15.4.5: answers that have no body.
_BODILESS = (204, 205, 304)
_GOALS = ("upstream", "respond", "redirect")


def check_route(path: Path, route: Route, upstreams: Sequence[str], report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions in a route."""
    if not any(touches(broken, (*path, goal)) for goal in _GOALS):
        _check_goal(path, route, report)
    if route.upstream is not None:
        _check_split((*path, "upstream"), route.upstream, upstreams, report)
    if route.mirror is not None:
        _check_mirror((*path, "mirror"), route, upstreams, report)
    if route.respond is not None:
        _check_respond((*path, "respond"), route.respond, report)
    # What the parameters of a path that was left out are, nobody knows.
    pattern = None if touches(broken, (*path, "path")) else route.path
    if route.redirect is not None:
        _check_redirect((*path, "redirect"), route.redirect, pattern, report)
    if route.rewrite is not None:
        _check_rewrite((*path, "rewrite"), route.rewrite, pattern, report)
    for side, edits in (("request", route.request), ("response", route.response)):
        if edits is not None and isinstance(edits.headers, HeaderEdits):
            check_edits((*path, side, "headers"), edits.headers, report)
    if route.redirect is not None and route.response is not None:
        _check_location((*path, "response", "headers"), route.response, report)


def _check_goal(path: Path, route: Route, report: Report) -> None:
    goals = [goal for goal in _GOALS if getattr(route, goal) is not None]
    if not goals:
        report.at_key(path, "the route goes nowhere", 'write upstream = "NAME", respond = { … } or redirect = { … }')
        return
    for other in goals[1:]:
        report.at_key((*path, other), f"contradicts {goals[0]}", f"keep one of {quoted(goals)}")
    if goals[0] == "upstream":
        return
    ways = (("rewrite", route.rewrite), ("request", route.request), ("mirror", route.mirror), ("retry", route.retry))
    for key, says in ways:
        if says and not _is_switched_off(says):
            report.at_key(
                (*path, key), f"contradicts {goals[0]}: the request goes to no upstream", "remove one of them"
            )


def _is_switched_off(table: Rewrite | MessageEdits | Mirror | RouteRetry) -> bool:
    return all(getattr(table, name) is False for name in table.model_fields_set)


def _check_split(path: Path, split: Sequence[Split], upstreams: Sequence[str], report: Report) -> None:
    if not split:
        report.at_value(path, "a split needs a part", 'write upstream = "NAME"')
    elif not any(part.weight for part in split):
        report.at_value(path, "all weights are 0", "give one part a weight of 1 or more")
    seen: set[str] = set()
    for index, part in enumerate(split):
        where: Path = (*path, index, "upstream")
        if part.upstream not in upstreams:
            message, suggestion = _unknown_upstream(where, part.upstream, upstreams, report)
            report.at_value(where, message, suggestion)
        elif part.upstream in seen:
            report.at_value(where, "the upstream is there twice", "give one of them the weight of both")
        seen.add(part.upstream)


def _check_mirror(path: Path, route: Route, upstreams: Sequence[str], report: Report) -> None:
    if route.mirror is None:
        return
    name = route.mirror.upstream
    # In the short form the name is the whole value.
    where = path if isinstance(report.document.written(path), str) else (*path, "upstream")
    if name not in upstreams:
        message, suggestion = _unknown_upstream(where, name, upstreams, report)
        report.at_value(where, message, suggestion)
    elif any(part.upstream == name for part in route.upstream or ()):
        report.at_value(where, "is where the requests go themselves", "name another upstream")


def _unknown_upstream(path: Path, name: str, upstreams: Sequence[str], report: Report) -> tuple[str, str]:
    written = report.show(path)
    suggestion = did_you_mean(name, upstreams) or names_there_are(upstreams)
    return f"there is no upstream {written}", suggestion or "write [upstreams.NAME] with its endpoints"


def _check_respond(path: Path, respond: Respond, report: Report) -> None:
    if respond.body is not None and respond.json_body is not None:
        report.at_key((*path, "json"), "contradicts body", "keep one of them")
    for key, body in (("body", respond.body), ("json", respond.json_body)):
        if body not in (None, "") and respond.status in _BODILESS:
            report.at_key((*path, key), f"an answer with status {respond.status} has no body", "remove it")
    if respond.json_body is not None:
        try:
            json_text(respond.json_body)
        except ValueError:
            report.at_value((*path, "json"), "JSON has no inf and no nan", "write a number, or a string")
    _check_names(path, {"headers": list(respond.headers)}, report)


def json_text(value: Any) -> str:
    """A TOML value as JSON; dates and times as strings (RFC 3339). Raises ValueError for inf and nan."""
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=lambda time: time.isoformat()
    )


def _check_redirect(path: Path, redirect: Redirect, pattern: PathPattern | None, report: Report) -> None:
    where: Path = (*path, "to")
    _check_parameters(where, redirect.to, pattern, report)
    target = b"".join(redirect.to.literals)
    if redirect.keep_query and (b"?" in target or b"#" in target):
        mark = "query" if b"?" in target else "fragment"
        report.at_value(
            where, f"has a {mark} of its own, behind which the request's can't stand", "write keep_query = false"
        )


def _check_rewrite(path: Path, rewrite: Rewrite, pattern: PathPattern | None, report: Report) -> None:
    if rewrite.path is not None:
        _check_parameters((*path, "path"), rewrite.path, pattern, report)
        if rewrite.strip_prefix is not None:
            report.at_key(
                (*path, "strip_prefix"), "contradicts rewrite.path, which is the whole path", "keep one of them"
            )
    prefix = rewrite.strip_prefix
    if prefix is None or pattern is None:
        return
    if pattern.literal != prefix and not pattern.literal.startswith(prefix + b"/"):
        where: Path = (*path, "strip_prefix")
        report.at_value(
            where, f"{report.show(where)} is not how every matching path begins", _prefix_meant(path, pattern, report)
        )


def _prefix_meant(path: Path, pattern: PathPattern, report: Report) -> str:
    literal = pattern.literal.rstrip(b"/").decode()
    if not literal or report.document.is_secret((*path[:-1], "path")):
        return "use rewrite.path"
    return f'write "{literal}" or a part of it that ends before a slash'


def _check_parameters(path: Path, template: Template, pattern: PathPattern | None, report: Report) -> None:
    for name in dict.fromkeys(template.names):
        if pattern is None or name in pattern.parameters:
            continue
        suggestion = did_you_mean(name, pattern.parameters)
        if not suggestion:
            known = quoted(pattern.parameters) if pattern.parameters else ""
            suggestion = f"it has {known}" if known else "write one into the route's path, like {id} or {rest*}"
        shown = "a parameter" if report.document.is_secret(path) else f"the parameter {{{name}}}"
        report.at_value(path, f"names {shown}, which the route's path does not have", suggestion)


def check_edits(path: Path, edits: HeaderEdits, report: Report) -> None:
    """Reports header names that are edited in two ways."""
    _check_names(path, {"set": list(edits.set), "add": list(edits.add)}, report)
    removed: dict[str, int] = {}
    replaced = {name.lower() for name in edits.set}
    for index, name in enumerate(edits.remove):
        where: Path = (*path, "remove", index)
        if removed.setdefault(name.lower(), index) != index:
            report.at_value(where, f"{report.show(where)} is there twice", "remove one")
        elif name.lower() in replaced:
            report.at_value(
                where, f"{report.show(where)} is set, too", "remove it: set replaces all lines of that name"
            )


def _check_names(path: Path, tables: dict[str, list[str]], report: Report) -> None:
    for key, names in tables.items():
        seen: set[str] = set()
        for name in names:
            if name.lower() in seen:
                report.at_key((*path, key, name), "the header is there twice", "keep one: case makes no difference")
            seen.add(name.lower())


def _check_location(path: Path, edits: MessageEdits, report: Report) -> None:
    if not isinstance(edits.headers, HeaderEdits):
        return
    for key, names in (("set", edits.headers.set), ("add", edits.headers.add)):
        for name in names:
            if name.lower() == "location":
                report.at_key((*path, key, name), "contradicts redirect", "write it as redirect.to")
