"""What must agree within a cookie that brings a client back, and in how a split is drawn."""

from __future__ import annotations

from collections.abc import Mapping

from fastgw.config.document import Path
from fastgw.config.problems import Report
from fastgw.config.schema import Route, Upstream
from fastgw.config.sticky import Sticky

# RFC 6265bis §4.1.3: browsers take cookies of these names only with Secure.
_SECURE_PREFIXES = ("__Host-", "__Secure-")


def check_sticky(path: Path, sticky: Sticky, report: Report) -> None:
    if not sticky.secret:
        report.at_value((*path, "secret"), "there is no secret", 'write secret = "${NAME}"')
    if sticky.secure:
        return
    hint = "write secure = true"
    if sticky.same_site == "None":
        report.at_value((*path, "same_site"), "browsers take such a cookie only when it is secure", hint)
    if sticky.cookie is not None and sticky.cookie.startswith(_SECURE_PREFIXES):
        report.at_value((*path, "cookie"), "browsers take a cookie of that name only when it is secure", hint)


def check_split_choice(path: Path, route: Route, upstreams: Mapping[str, Upstream], report: Report) -> None:
    choice, parts = route.split, route.upstream or []
    if choice is None:
        return
    if len(parts) < 2:
        hint = 'write upstream = [{ upstream = "a", weight = 95 }, { upstream = "b", weight = 5 }]'
        report.at_key(path, "there is no split to choose from", hint)
    if choice.sticky is None and choice.header is None and choice.cookie is None:
        report.at_key(path, "says nothing", "write sticky, header or cookie")
    if choice.sticky is None:
        return
    check_sticky((*path, "sticky"), choice.sticky, report)
    name = choice.sticky.cookie
    if name is None:
        return
    where = (*path, "sticky", "cookie")
    if name == choice.cookie:
        report.at_value(where, "is the cookie in which a request names its part", "give each its own name")
    for part in parts:
        upstream = upstreams.get(part.upstream)
        if upstream is not None and upstream.sticky is not None and upstream.sticky.cookie == name:
            taken = f"is the cookie of upstream {part.upstream}"
            report.at_value(where, taken, "give each its own name")
