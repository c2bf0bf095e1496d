from __future__ import annotations

import dataclasses

import orjson

from fastgw.runtime.explain import explain
from fastgw.runtime.explanation import Considered, Explanation, Holds, Step, explanation_text
from tests.fakes import snapshot_of

CONFIG = """
[upstreams.a]
endpoints = ["b:1", "b:2"]
[[routes]]
path = "/a"
upstream = "a"
"""


def text(explanation: Explanation) -> list[str]:
    return explanation_text("GET", "/a", dataclasses.asdict(explanation)).splitlines()


def test_steps_are_aligned_and_what_they_considered_is_below_them() -> None:
    near = Considered("item", "missed", "method-mismatch", "takes PUT, not GET", "PUT", "GET")
    arm = Considered("a", "possible", "drawn", "by lot", share=0.125)
    holds = Holds("routes.a.mirror.compare", True, "why")
    steps = [
        Step("parse", "accepted", "", "accepted"),
        Step("match route", "none", "why", "no-route", (near, arm), (holds,)),
    ]
    assert text(Explanation(status=404, reason="no-route", steps=steps)) == [
        "GET /a",
        "  parse        accepted",
        "  match route  none      why",
        "    - item  missed: takes PUT, not GET",
        "    - a     possible: 12.5 %, by lot",
        "      routes.a.mirror.compare = true  (why)",
        "=> status 404",
    ]


def test_of_many_things_the_first_are_shown() -> None:
    many = tuple(Considered(str(number), "out", "unhealthy", "x") for number in range(20))
    lines = text(Explanation(steps=[Step("pick endpoint", "none", "", "no-endpoint", many)]))
    assert lines[-2:] == ["    - and 8 more", "=> "]
    assert len(lines) == 2 + 12 + 2


def test_what_is_told_can_be_written_as_json_as_it_is() -> None:
    explanation = explain(snapshot_of(CONFIG), "GET", "/a", [])
    written = orjson.loads(orjson.dumps(explanation))
    assert written == orjson.loads(orjson.dumps(dataclasses.asdict(explanation)))
    assert set(written["steps"][0]) == {"name", "verdict", "code", "reason", "considered", "holds"}
    endpoint = next(step for step in written["steps"] if step["name"] == "pick endpoint")["considered"][0]
    assert set(endpoint) == {"name", "verdict", "code", "reason", "wanted", "found", "share"}
