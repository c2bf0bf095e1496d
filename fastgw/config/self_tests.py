"""The `[[tests]]` of a configuration: requests, and what must become of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastgw.config.load import LoadedConfig
from fastgw.config.problems import Report, toml_text
from fastgw.config.schema import Test
from fastgw.errors import Problem
from fastgw.snapshot import Snapshot

_EXPECTATIONS = ("route", "upstream", "path", "status", "location")


class Explanation(Protocol):
    """What became of a request; None where it does not apply. `reason` is a sentence; `is_drawn`: its upstream is that
    by lot."""

    @property
    def route(self) -> str | None: ...
    @property
    def upstream(self) -> str | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def status(self) -> int | None: ...
    @property
    def location(self) -> str | None: ...
    @property
    def is_drawn(self) -> bool: ...
    @property
    def reason(self) -> str: ...


Explain = Callable[[Snapshot, str, str, list[tuple[str, str]]], Explanation]


def run_self_tests(loaded: LoadedConfig, explain: Explain) -> list[Problem]:
    """Each expectation that does not hold, in the order of the file."""
    report = Report(loaded.document)
    for index, test in enumerate(loaded.tests):
        _run(index, test, loaded, explain, report)
    return report.problems()


def _run(index: int, test: Test, loaded: LoadedConfig, explain: Explain, report: Report) -> None:
    request = test.request
    found = explain(loaded.snapshot, request.method, request.url, list(request.headers.items()))
    for name in _EXPECTATIONS:
        expected, got = getattr(test.expect, name), getattr(found, name)
        if (
            expected is None
            or expected == got
            or (name == "upstream" and _is_in_split(expected, found, loaded.snapshot))
        ):
            continue
        shown = "none" if got is None else loaded.document.mask(toml_text(got))
        path = ("tests", index, "expect", name)
        report.at_value(path, f"expected {name} {report.show(path)}, got {shown}", loaded.document.mask(found.reason))


def _is_in_split(expected: str, found: Explanation, snapshot: Snapshot) -> bool:
    """Any part of a split will do where it is drawn by lot."""
    return found.is_drawn and any(
        route.name == found.route and {expected, found.upstream} <= {*route.upstreams} for route in snapshot.routes
    )
