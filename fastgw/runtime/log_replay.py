"""Requests of an access log, walked through two configurations: which would be treated differently, and how.

A line says method, host, path and query of a request; with the fields for it also its listener, User-Agent and Referer.
Its other headers are gone: routes that look at them are counted, so that one knows. The walk is that of `DryRun`, so
nothing here decides anything. A log is read line by line, and of what it holds only groups are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import orjson

from fastgw.errors import Failure
from fastgw.exchange import Exchange
from fastgw.http1.parse import RequestParser
from fastgw.policy.redaction import WORD
from fastgw.runtime.dry_run import DryRun
from fastgw.runtime.explain_upstream import shares_text
from fastgw.snapshot import Snapshot

NEEDED = ("method", "host", "path")
# A line has the target (8 KiB) with all its bytes escaped, and some headers as large.
_LINE_MAX = 256 * 1024
# More ways to be treated differently nobody looks at.
_GROUPS_MAX = 1000
_EXAMPLE_MAX = 1000
# What the value of a hidden parameter ends up as.
_HIDDEN = f"={WORD.decode()}"
# A listener has limits; what is in the log has been within them.
_NO_LIMIT = 1 << 30


class Treatment(NamedTuple):
    """What becomes of a request. `upstream` has the shares of a split; `status` is 0 where the upstream answers."""

    route: str
    upstream: str
    status: int
    reason: str
    path: bytes
    host: bytes
    headers: bytes
    body: bytes
    timeout: float


# Of a treatment, those by which differences are grouped; of the others only that they differ is told.
_GROUPED = 4


@dataclass(frozen=True, slots=True)
class Side:
    """What a group's requests get from one of the configurations; None: none, or the upstream's."""

    route: str | None
    upstream: str | None
    status: int | None
    reason: str | None


@dataclass(slots=True)
class Group:
    """Requests that are treated differently in the same way. `also` names what else differs: path, host, headers, body
    or timeout. `example` is the first of their lines, `number` its number in the log, and the paths are what its
    upstream would get; None: there is none."""

    old: Side
    new: Side
    also: tuple[str, ...]
    number: int
    example: str
    old_path: str | None
    new_path: str | None
    count: int = 0


@dataclass(slots=True)
class Replayed:
    """`unreadable` lines are no JSON objects; `lacking` has how many lack a field that is needed, by field;
    `without_request` are those of heads that could not be read. `logged_otherwise` had another route in the log than
    the old configuration gives them; `redacted` have parameters whose values the log hides, so that no route finds
    them; `sampled` stand for more than themselves, and all that were walked for `estimated`. `blind_routes` look at
    what the log does not hold. Of groups, `left_out` requests are in none since there were too many."""

    lines: int = 0
    walked: int = 0
    differing: int = 0
    unreadable: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    without_request: int = 0
    logged_otherwise: int = 0
    redacted: int = 0
    sampled: int = 0
    estimated: float = 0.0
    blind_routes: list[str] = field(default_factory=list)
    left_out: int = 0
    groups: list[Group] = field(default_factory=list)


class LogReplay:
    """`renamed` has the old names of routes that are called otherwise in the new configuration, by their new ones."""

    def __init__(self, old: Snapshot, new: Snapshot, renamed: Mapping[str, str]) -> None:
        self._old = _Line(old, {})
        self._new = _Line(new, renamed)
        self._parser = RequestParser()
        self._groups: dict[tuple[object, ...], Group] = {}
        self._replayed = Replayed(blind_routes=list(dict.fromkeys((*_blind_routes(old), *_blind_routes(new)))))

    def read(self, log: IO[bytes]) -> Replayed:
        """Walks all requests of a log."""
        for number, line in enumerate(lines(log), 1):
            self._replayed.lines += 1
            self._take(number, line)
        self._replayed.groups = sorted(self._groups.values(), key=lambda group: -group.count)
        return self._replayed

    def _take(self, number: int, line: bytes) -> None:
        replayed = self._replayed
        try:
            logged = orjson.loads(line)
        except ValueError:
            replayed.unreadable += 1
            return
        if not isinstance(logged, dict):
            replayed.unreadable += 1
            return
        lacking = [name for name in NEEDED if not isinstance(logged.get(name), str)]
        if lacking:
            replayed.lacking.update(lacking)
        elif not logged["method"]:
            replayed.without_request += 1
        else:
            self._walk(number, line, logged)

    def _walk(self, number: int, line: bytes, logged: dict[str, Any]) -> None:
        replayed = self._replayed
        try:
            request = self._parser.parse(_head(logged), _NO_LIMIT, _NO_LIMIT)
        except ValueError:
            replayed.unreadable += 1
            return
        if isinstance(request, Failure):
            # Whoever has written the line took it for a request; no configuration changes what it is.
            replayed.unreadable += 1
            return
        listener = str(logged.get("listener") or "")
        old, new = self._old, self._new
        before = old.treatment(old.dry_run.walk(request, listener))
        after = new.treatment(new.dry_run.walk(request, listener))
        replayed.walked += 1
        replayed.redacted += _HIDDEN in logged["path"]
        share = _share(logged)
        replayed.sampled += share < 1.0
        replayed.estimated += 1.0 / share
        if "route" in logged and (logged["route"] or "") != before.route:
            replayed.logged_otherwise += 1
        if before != after:
            replayed.differing += 1
            self._put(number, line, before, after)

    def _put(self, number: int, line: bytes, before: Treatment, after: Treatment) -> None:
        also = tuple(
            name
            for name, one, other in zip(Treatment._fields, before, after, strict=True)
            if one != other and name in _ALSO
        )
        key = (before[:_GROUPED], after[:_GROUPED], also)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= _GROUPS_MAX:
                self._replayed.left_out += 1
                return
            example = line[:_EXAMPLE_MAX].rstrip().decode(errors="replace")
            paths = [one.path.decode("latin-1") or None for one in (before, after)]
            group = Group(_side(before), _side(after), also, number, example, paths[0], paths[1])
            self._groups[key] = group
        group.count += 1


_ALSO = frozenset(Treatment._fields[_GROUPED:])


class _Line:
    """One configuration's line, and what its routes are called."""

    def __init__(self, snapshot: Snapshot, renamed: Mapping[str, str]) -> None:
        self.dry_run = DryRun(snapshot)
        self._names = {route.name: renamed.get(route.name, route.name) for route in snapshot.routes}
        # What a split draws is its shares; a log has nothing by which a request would name its part.
        self._shares = {route.name: shares_text(route) for route in snapshot.routes if len(route.upstreams) > 1}

    def treatment(self, exchange: Exchange) -> Treatment:
        """What has become of the walk that was last."""
        route, pool = exchange.route, exchange.pool
        name = upstream = ""
        if route is not None:
            name = self._names[route.name]
            if pool is not None:
                upstream = self._shares.get(route.name) or pool.name
        if exchange.status:
            client = self.dry_run.client
            return Treatment(
                name, upstream, exchange.status, exchange.reason, b"", b"", client.fields, client.body, 0.0
            )
        return Treatment(name, upstream, 0, "", exchange.target, exchange.host, exchange.fields, b"", exchange.deadline)


def lines(log: IO[bytes]) -> Iterator[bytes]:
    """The lines of a log; one that is too long to be one comes as its beginning."""
    while line := log.readline(_LINE_MAX):
        yield line
        while len(line) == _LINE_MAX and not line.endswith(b"\n"):
            line = log.readline(_LINE_MAX)


def _head(logged: dict[str, Any]) -> bytes:
    """Of the request that a line tells of; one without Host was HTTP/1.0. Raises ValueError for what was in none."""
    host = logged["host"]
    lines = [f"{logged['method']} {logged['path']} HTTP/1.1", f"Host: {host}"]
    if not host:
        lines = [f"{logged['method']} {logged['path']} HTTP/1.0"]
    for name, header in (("user_agent", "User-Agent"), ("referer", "Referer")):
        if logged.get(name):
            lines.append(f"{header}: {logged[name]}")
    head = "\r\n".join(lines).encode("latin-1")
    if head.count(b"\n") != len(lines) - 1:
        raise ValueError("a field holds a line end")
    return head


def _share(logged: dict[str, Any]) -> float:
    """By which the line was kept."""
    share = logged.get("sampled")
    return float(share) if isinstance(share, (int, float)) and 0 < share <= 1 else 1.0


def _side(treatment: Treatment) -> Side:
    one = treatment
    return Side(one.route or None, one.upstream or None, one.status or None, one.reason or None)


def _blind_routes(snapshot: Snapshot) -> Iterator[str]:
    """The routes that look at headers or cookies which the log does not hold."""
    for route, rule in zip(snapshot.routes, snapshot.router.rules, strict=True):
        if any(one.kind == "cookie" or (one.kind == "header" and one.name not in _LOGGED) for one in rule.conditions):
            yield route.name


_LOGGED = (b"user-agent", b"referer", b"host")
