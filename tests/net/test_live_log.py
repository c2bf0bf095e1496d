from __future__ import annotations

import json
from copy import copy

from fastgw.net.live_log import LINES_PER_S, LiveLog, Piece
from fastgw.policy.log_filter import LogFilter
from fastgw.policy.log_rule import LogRule
from fastgw.snapshot import AccessLog
from tests.fakes import FakeClient, FakeLog, Line

CONFIG = '[[routes]]\nname = "r"\npath = "/r/*"\nrespond.body = "x"\n'
SETTINGS = AccessLog("off", "combined", ("path", "status"))


class Rig:
    """A line whose log is looked at."""

    def __init__(self, *filters: LogFilter, settings: AccessLog = SETTINGS) -> None:
        self.line = Line(CONFIG)
        self.log = FakeLog()
        self.live = LiveLog(self.log, settings, filters, lambda: 1e9)
        self.line.gateway.log = self.live

    def ask(self, *targets: str) -> None:
        for target in targets:
            self.line.client = FakeClient()
            self.line.get(target)

    def seen(self, now: float = 0.0) -> list[tuple[LogFilter, list[str], int]]:
        return [(piece.filter, paths(piece), piece.left_out) for piece in self.live.taken(now)]


def paths(piece: Piece) -> list[str]:
    lines = [json.loads(line) for line in piece.lines.splitlines()]
    assert len(lines) == piece.number
    return [line["path"] for line in lines]


def test_lines_are_json_whatever_the_log_is_and_secrets_are_hidden() -> None:
    rig = Rig(LogFilter())
    rig.ask("/r/1?password=x&a=1", "/other")
    [piece] = rig.live.taken(0.0)
    assert piece.lines == b'{"path":"/r/1?password=REDACTED&a=1","status":200}\n{"path":"/other","status":404}\n'
    # The log itself gets what it always gets, once.
    assert [one.request.path for one in rig.log.recorded] == [b"/r/1", b"/other"]
    assert rig.seen() == []


def test_exchanges_that_the_log_leaves_out_are_seen() -> None:
    rig = Rig(LogFilter(), settings=AccessLog("stdout", "json", ("path", "sampled"), rule=LogRule(is_off=True)))
    rig.ask("/r/1")
    assert rig.seen() == [(LogFilter(), ["/r/1"], 0)]


def test_each_filter_has_what_it_takes() -> None:
    of_route, failed = LogFilter("r"), LogFilter(None, 400, 499)
    rig = Rig(of_route, failed)
    rig.ask("/r/1", "/other", "/r/2")
    assert rig.seen() == [(of_route, ["/r/1", "/r/2"], 0), (failed, ["/other"], 0)]


def test_there_are_only_so_many_lines_a_second_and_the_others_are_counted() -> None:
    rig = Rig(LogFilter())
    rig.seen(10.0)
    rig.ask(*["/r/1"] * (LINES_PER_S + 7))
    [(_, lines, left_out)] = rig.seen(10.1)
    assert (len(lines), left_out) == (LINES_PER_S, 7)
    rig.ask("/r/2")
    assert rig.seen(11.0) == [(LogFilter(), [], 1)]
    # A new second has begun.
    rig.ask("/r/3")
    assert rig.seen(11.1) == [(LogFilter(), ["/r/3"], 0)]


def test_filters_share_what_there_may_be_evenly() -> None:
    busy, quiet = LogFilter("r"), LogFilter("")
    rig = Rig(busy, quiet)
    rig.ask(*["/r/1"] * 300, "/other")
    (_, lines, left_out), other = rig.seen()
    assert (len(lines), left_out) == (LINES_PER_S // 2, 300 - LINES_PER_S // 2)
    assert other == (quiet, ["/other"], 0)


def test_long_lines_come_in_pieces_and_what_is_too_long_is_counted() -> None:
    rig = Rig(LogFilter())
    rig.ask(*["/r/" + "a" * 7000] * 20)
    pieces = rig.live.taken(0.0)
    assert len(pieces) == 3
    assert max(len(piece.lines) for piece in pieces) <= 64 * 1024
    assert sum(piece.number for piece in pieces) == 20
    # Escaped it is longer than a datagram may be.
    rig.ask("/r/1", "/r/2")
    longer = rig.log.recorded[-1]
    longer.request = copy(longer.request)
    longer.request.path = b'"' * 40_000
    assert rig.seen() == [(LogFilter(), ["/r/1"], 1)]
