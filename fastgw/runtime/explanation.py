"""What would happen to a request, and why, as plain data: for programs as JSON, for people as text.

Codes are stable, sentences are not. `Explanation` is what `explain` makes; its JSON is `dataclasses.asdict` of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# What became of something that a step has considered.
CHOSEN = "chosen"
POSSIBLE = "possible"
MISSED = "missed"
LOST = "lost"
NOT_CHOSEN = "not chosen"
OUT = "out"

_OUTCOME_FIELDS = ("route", "upstream", "path", "status", "location")
# Of what one step has considered, in the text.
_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Considered:
    """A route, an arm, an endpoint, a listener that a step has looked at. `verdict` is one of the words above, `code`
    says why. `wanted` and `found` are what did not fit; `share` is its part of the requests, from 0 to 1."""

    name: str
    verdict: str
    code: str
    reason: str
    wanted: str | None = None
    found: str | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Holds:
    """A setting that holds for the request: its key in the configuration, its value, and what that means for it."""

    key: str
    value: str | int | float | bool
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the line: what it is called, what it decided, the code and the sentence of why, what it has
    considered, best first, and which settings hold."""

    name: str
    verdict: str
    reason: str
    code: str
    considered: tuple[Considered, ...] = ()
    holds: tuple[Holds, ...] = ()


@dataclass(slots=True)
class Explanation:
    """What would happen. `path` is the target that the upstream would get; what does not apply is None. `is_drawn`: the
    upstream is that by lot. `reason` is the code of a failure, or empty."""

    route: str | None = None
    upstream: str | None = None
    path: str | None = None
    status: int | None = None
    location: str | None = None
    is_drawn: bool = False
    reason: str = ""
    steps: list[Step] = field(default_factory=list)
    request_headers: list[str] = field(default_factory=list)
    response_headers: list[str] = field(default_factory=list)


def explanation_text(method: str, url: str, result: dict[str, Any]) -> str:
    """An explanation, as `dataclasses.asdict` gives it, as people read it: the steps, what comes out of them, and the
    headers that go on."""
    steps = result["steps"]
    widths = [max((len(step[column]) for step in steps), default=0) for column in ("name", "verdict")]
    lines = [f"{method} {url}"]
    for step in steps:
        line = f"  {step['name'].ljust(widths[0])}  {step['verdict'].ljust(widths[1])}  {step['reason']}"
        lines.append(line.rstrip())
        lines += _considered_lines(step["considered"])
        lines += [f"      {_holds_line(one)}" for one in step["holds"]]
    outcome = [f"{name} {result[name]}" for name in _OUTCOME_FIELDS if result[name] is not None]
    lines.append(f"=> {', '.join(outcome) or result['reason']}")
    for receiver, key in (("the upstream", "request_headers"), ("the client", "response_headers")):
        if result[key]:
            lines += [f"headers to {receiver}:", *(f"  {header}" for header in result[key])]
    return "\n".join(lines)


def _considered_lines(considered: list[dict[str, Any]]) -> list[str]:
    shown = considered[:_SHOWN_MAX]
    width = max((len(one["name"]) for one in shown), default=0)
    lines = []
    for one in shown:
        share = f"{100 * one['share']:.4g} %, " if one["share"] is not None else ""
        lines.append(f"    - {one['name'].ljust(width)}  {one['verdict']}: {share}{one['reason']}")
    if len(considered) > len(shown):
        lines.append(f"    - and {len(considered) - len(shown)} more")
    return lines


def _holds_line(one: dict[str, Any]) -> str:
    value = one["value"]
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{one['key']} = {shown}" + (f"  ({one['meaning']})" if one["meaning"] else "")
