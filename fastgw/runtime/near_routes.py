"""The routes that a request came close to: those that take it, too, but come later, and those that something keeps from
taking it.

The router has decided already; this only tells of the others, by the rules of the snapshot. The order of the checks is
the router's: host, path, conditions, method. All rules are looked at, which takes about 5 µs each.
"""

from __future__ import annotations

from heapq import nsmallest

from fastgw.http1.message import RequestHead
from fastgw.policy.router import Condition, Router, Rule
from fastgw.policy.router_compile import LITERAL, PARAMETER, REST, parse_path
from fastgw.runtime.explanation import LOST, MISSED, Considered

# Who has seen five has seen enough.
NEAR_MAX = 5
# From here on two texts are meant to be the same by whoever mistypes one of them: two letters of eight.
_ALIKE_MIN = 0.6

_EXACT_HOST, _WILDCARD_HOST, _ANY_HOST = range(3)
# What a route must have to come close at all, the closest first.
_METHOD, _CONDITION, _PATH, _HOST = range(4)

# What decides between two routes that both take a request, in this order; for each its code and sentence.
_Precedence = tuple[tuple[int, int], tuple[int, ...], int, int]
_LATER = (
    ("less-specific-host", "takes it too, but comes later: its host is less specific"),
    ("less-specific-path", "takes it too, but comes later: its path is less specific"),
    ("fewer-conditions", "takes it too, but comes later: it has fewer conditions"),
    ("later-in-file", "takes it too, but comes later in the file"),
)
# In place of a number of things that keep a route from a request.
_TAKES_IT_TOO = 2
# How close a route is, the least first: how many things keep it, which, how alike they are, and when it would come.
_Closeness = tuple[int, int, float, _Precedence]


def near_routes(router: Router, names: list[str], request: RequestHead, winner: int) -> tuple[Considered, ...]:
    """The closest of the other routes, best first; `winner` is the index of the one that has the request, or negative.
    With one, only routes that would come before it are told of for what keeps them away."""
    pieces = request.path.split(b"/")
    rules = router.rules
    first = _precedence(rules[winner], winner, request.host_name) if winner >= 0 else None
    found: list[tuple[_Closeness, int]] = []
    for index, rule in enumerate(rules):
        if index != winner:
            closeness = _closeness(rule, index, request, pieces, first)
            if closeness is not None:
                found.append((closeness, index))
    nearest = nsmallest(NEAR_MAX, found)
    return tuple(_told(rules[index], index, names[index], request, pieces, first) for _, index in nearest)


def _closeness(
    rule: Rule, index: int, request: RequestHead, pieces: list[bytes], first: _Precedence | None
) -> _Closeness | None:
    """None: it is not near."""
    host = request.host_name
    pattern = rule.path.split(b"/")
    place = differs_at(pattern, pieces)
    fits_host = host_rank(rule, host) is not None
    if place >= 0 and not fits_host:
        return None
    failed = sum([not condition.holds(request) for condition in rule.conditions])
    fits_method = not rule.methods or request.method in rule.methods
    misses = (place >= 0) + (not fits_host) + failed + (not fits_method)
    if first is not None and misses > 1:
        return None
    kind, alike = _CONDITION if failed else _METHOD, 1.0
    if place >= 0:
        kind, alike = _PATH, _path_likeness(pattern, pieces, place)
        if alike < _ALIKE_MIN and (first is not None or place < 2):
            return None
        alike += place
    elif not fits_host:
        kind, alike = _HOST, max([likeness(one, host) for one in rule.hosts])
        if alike < _ALIKE_MIN and (first is not None or rule.path == b"/*"):
            return None
    precedence = _precedence(rule, index, host)
    if first is not None and misses and precedence > first:
        return None
    # Who takes it, too, is told behind those that were kept from it.
    return misses or _TAKES_IT_TOO, kind, -alike, precedence


def _told(
    rule: Rule, index: int, name: str, request: RequestHead, pieces: list[bytes], first: _Precedence | None
) -> Considered:
    """What keeps a route from the request: of several things the first."""
    if host_rank(rule, request.host_name) is None:
        wanted, found = _text(b", ".join(rule.hosts)), _text(request.host_name)
        return Considered(name, MISSED, "host-mismatch", f"is for {wanted}, not {found}", wanted, found)
    pattern = rule.path.split(b"/")
    place = differs_at(pattern, pieces)
    if place >= 0:
        reason = _why_path(rule.path, pattern, pieces, place)
        return Considered(name, MISSED, "path-mismatch", reason, _text(rule.path), _text(request.path))
    for condition in rule.conditions:
        if not condition.holds(request):
            return _failed(name, condition, request)
    if rule.methods and request.method not in rule.methods:
        wanted, found = _text(b", ".join(rule.methods)), _text(request.method)
        return Considered(name, MISSED, "method-mismatch", f"takes {wanted}, not {found}", wanted, found)
    code, reason = _why_later(_precedence(rule, index, request.host_name), first)
    return Considered(name, LOST, code, reason)


def host_rank(rule: Rule, host: bytes) -> tuple[int, int] | None:
    """How specific the best of its hosts is that takes the request's, the least first; None: none does."""
    if not rule.hosts:
        return _ANY_HOST, 0
    if host in rule.hosts:
        return _EXACT_HOST, 0
    suffixes = [pattern[1:] for pattern in rule.hosts if pattern[:1] == b"*"]
    # A wildcard stands for one label at least.
    lengths = [len(suffix) for suffix in suffixes if host.endswith(suffix) and len(host) > len(suffix)]
    return (_WILDCARD_HOST, -max(lengths)) if lengths else None


def differs_at(pattern: list[bytes], pieces: list[bytes]) -> int:
    """The first segment of a request's path that a route's does not take, or is missing; -1: there is none.

    Both are cut at their slashes, so that the first segment is empty.
    """
    if len(pieces) == 1:
        # The target `*` of OPTIONS has no slash; only `/*` takes it.
        return -1 if len(pattern) == 2 and _kind(pattern[1]) == REST else 0
    for place, wanted in enumerate(pattern):
        kind = _kind(wanted)
        if place >= len(pieces):
            return place
        if kind == REST:
            return -1
        if (kind == PARAMETER and not pieces[place]) or (kind == LITERAL and wanted != pieces[place]):
            return place
    return -1 if len(pieces) == len(pattern) else len(pattern)


def _kind(piece: bytes) -> int:
    if piece == b"*" or piece[-2:] == b"*}":
        return REST
    return PARAMETER if piece[:1] == b"{" else LITERAL


def _path_likeness(pattern: list[bytes], pieces: list[bytes], place: int) -> float:
    """How alike a path and a route's are that differ at `place`, from 0 to 1: in nothing but a slash at the end, or in
    a segment with the same before and behind it."""
    longer, shorter = (pattern, pieces) if len(pattern) > len(pieces) else (pieces, pattern)
    if len(longer) == len(shorter) + 1 and place == len(shorter):
        return 0.9 if longer[-1] in (b"", b"*") or _kind(longer[-1]) == REST else 0.3
    if place >= len(pattern) or place >= len(pieces) or _kind(pattern[place]) != LITERAL:
        return 0.0
    corrected = [*pieces[:place], pattern[place], *pieces[place + 1 :]]
    alike = likeness(pattern[place].lower(), pieces[place].lower())
    return alike if differs_at(pattern, corrected) < 0 else alike / 2


def likeness(one: bytes, other: bytes) -> float:
    """The share of two texts that is the same at their beginnings and ends. Cheap, and high after a slip of the pen."""
    length = min(len(one), len(other))
    before = 0
    while before < length and one[before] == other[before]:
        before += 1
    behind = 0
    while behind < length - before and one[-1 - behind] == other[-1 - behind]:
        behind += 1
    return (before + behind) / max(len(one), len(other), 1)


def _why_path(path: bytes, pattern: list[bytes], pieces: list[bytes], place: int) -> str:
    wanted = _text(path)
    if place >= len(pattern):
        return f"{wanted} ends before {_shown(pieces[place])}"
    if place >= len(pieces):
        return f"{wanted} goes on with {_shown(pattern[place])}"
    if _kind(pattern[place]) == PARAMETER:
        return f"{wanted} has {_text(pattern[place])} where the path has an empty segment"
    return f"{wanted} has {_shown(pattern[place])} where the path has {_shown(pieces[place])}"


def _shown(piece: bytes) -> str:
    return f'"{_text(piece)}"' if piece else "a slash at the end"


def _failed(name: str, condition: Condition, request: RequestHead) -> Considered:
    what = f"{condition.kind} {_text(condition.name)}"
    if condition.kind == "header":
        value = request.header(condition.name)
    elif condition.kind == "query":
        value = request.query_value(condition.name)
    else:
        value = request.cookie(condition.name)
    found = None if value is None else _text(value)
    if condition.op == "equals":
        wanted = f'"{_text(condition.value)}"'
    elif condition.op == "regex":
        wanted = f'~"{_text(condition.value)}"'
    else:
        wanted = condition.op
    there = "there is none" if found is None else f'there is "{found}"'
    reason = f"{what} must be {wanted}, and {there}"
    return Considered(name, MISSED, f"{condition.kind}-mismatch", reason, wanted, found)


def _precedence(rule: Rule, index: int, host: bytes) -> _Precedence:
    kinds = tuple([kind for kind, _ in parse_path(rule.path)])
    return host_rank(rule, host) or (_EXACT_HOST, 0), kinds, -len(rule.conditions), index


def _why_later(mine: _Precedence, first: _Precedence | None) -> tuple[str, str]:
    if first is None:
        return _LATER[-1]
    return next((told for told, one, other in zip(_LATER, mine, first, strict=True) if one != other), _LATER[-1])


def _text(value: bytes) -> str:
    return value.decode("latin-1")
