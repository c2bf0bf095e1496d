from __future__ import annotations

import io
import json
from collections import Counter

from fastgw.runtime.config_diff import config_diff, diff_json, diff_text, is_different
from fastgw.runtime.log_replay import Group, LogReplay, Replayed, Side
from tests.config.sources import LISTENER, ROUTE, UPSTREAM, load

OLD = LISTENER + UPSTREAM + ROUTE


def text(new: str, replayed: Replayed | None = None, old: str = OLD) -> list[str]:
    return diff_text(config_diff(load(old), load(new)), replayed).splitlines()


def test_no_differences_are_told_as_such() -> None:
    assert text(OLD) == ["no differences"]
    assert not is_different(config_diff(load(OLD), load(OLD)), Replayed(lines=1, walked=1))


def test_differences_are_told_key_by_key() -> None:
    new = OLD.replace('"127.0.0.1:1"', '"127.0.0.1:2"') + 'timeout = "5s"\n[[routes]]\nname = "n"\nrespond.body = "x"\n'
    assert text('[server]\ndrain_timeout = "1s"\nworkers = 77\n' + new) == [
        "~ server",
        '~     workers = "auto" (default) -> 77',
        '~     drain_timeout = "30s" (default) -> "1s"',
        "~ upstreams a",
        '-     endpoints = "127.0.0.1:1"',
        '+     endpoints = "127.0.0.1:2"',
        "~ routes route-1",
        '+     timeout = "5s"',
        "+ routes n",
        '+     name = "n"',
        '+     respond = { body = "x" }',
        "no reload changes server.workers: it takes a restart or: fastgw upgrade",
    ]
    assert text(OLD, old=new)[-3:] == ["- routes n", '-     name = "n"', '-     respond = { body = "x" }']


def test_long_values_are_cut_to_where_they_differ() -> None:
    long = "x" * 500
    old, new = (OLD.replace('upstream = "a"', f'respond.body = "{long}{end}"') for end in ("a", "b"))
    (line,) = [line for line in text(new, old=old) if "respond.body" in line]
    assert line.endswith('xa" -> …' + "x" * 40 + 'b"')
    assert len(line) < 150


def test_a_log_s_groups_are_told_with_an_example() -> None:
    groups = [
        Group(Side("a", "u", None, None), Side("b", "w", None, None), ("headers",), 7, '{"a":1}', "/1", "/2", 12),
        Group(Side("a", None, 200, None), Side(None, None, 404, "no-route"), (), 8, "\x9b" + "x" * 500, None, None, 1),
        Group(Side("a", "u", None, None), Side("a", "u", None, None), ("host", "timeout"), 9, "{}", "/", "/", 1),
    ]
    found = Replayed(
        lines=99, walked=90, differing=14, unreadable=3, lacking=Counter(host=2), without_request=4, groups=groups,
        logged_otherwise=5, redacted=7, sampled=8, estimated=882.4, blind_routes=["x", "y"], left_out=6,
    )  # fmt: skip
    assert text(OLD, found)[1:] == [
        "log: 90 requests, 14 of them treated differently",
        "  12 requests: route a -> b, upstream u -> w",
        '      line 7: {"a":1}',
        "      the upstream gets /2, not /1",
        "  1 request: route a -> none, status 200 -> 404 no-route",
        "      line 8: ?" + "x" * 158 + "…",
        "  1 request: route a, another host, another timeout",
        "      line 9: {}",
        "  and 6 requests in still other ways",
        "log: 3 lines could not be read: they are no JSON lines of requests",
        "log: 2 lines have no host, which is needed",
        "log: 4 lines are of requests that could not be read",
        "log: 5 requests have another route in the log than OLD gives them",
        "log: 7 requests have parameters whose values it hides: no route can look at those",
        "log: 8 requests are a sample; together all stand for about 882",
        "log: it does not hold the headers or cookies that these routes look at: x, y",
    ]
    assert is_different(config_diff(load(OLD), load(OLD)), found)


def test_programs_get_all_of_it() -> None:
    old, new = load(OLD), load(OLD.replace('path = "/only"', 'path = "/other"'))
    log = io.BytesIO(json.dumps({"method": "GET", "host": "h", "path": "/only"}).encode())
    found = config_diff(old, new)
    replayed = LogReplay(old.snapshot, new.snapshot, found.renamed).read(log)
    got = json.loads(json.dumps(diff_json(found, replayed)))
    assert got["is_different"]
    assert got["needs_upgrade"] == []
    (entity,) = got["entities"]
    assert (entity["kind"], entity["name"], entity["change"]) == ("routes", "route-1", "changed")
    assert entity["keys"] == [
        {
            "key": "path",
            "old": '"/only"',
            "new": '"/other"',
            "old_is_default": False,
            "new_is_default": False,
            "note": "",
        }
    ]
    (group,) = got["log"]["groups"]
    assert group["new"] == {"route": None, "upstream": None, "status": 404, "reason": "no-route"}
    assert (group["count"], group["number"]) == (1, 1)
