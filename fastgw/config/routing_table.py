"""The routing table as people read it: each route's rule and goal in words, in the order of matching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastgw.config.load import LoadedConfig
from fastgw.config.patterns import ValueTest
from fastgw.config.problems import toml_text
from fastgw.config.schema import Route, Split


@dataclass(frozen=True, slots=True)
class Row:
    """One route on one host."""

    host: str
    path: str
    methods: list[str]
    conditions: list[str]
    goes_to: str
    name: str


def routing_table(loaded: LoadedConfig) -> list[Row]:
    """The rows, first to match first; what `${...}` brought in is shown as the file writes it."""
    mask = loaded.document.mask
    rows = []
    for host, index in loaded.snapshot.router.order():
        route = loaded.model.routes[index]
        rows.append(
            Row(
                host=mask(host.decode()),
                path=mask(route.path.pattern.decode()),
                methods=route.methods,
                conditions=[mask(condition) for condition in _conditions(route)],
                goes_to=mask(_goal(route)),
                name=loaded.snapshot.routes[index].name,
            )
        )
    return rows


def table_text(rows: list[Row]) -> str:
    """The rows in aligned columns under a head."""
    lines = [("HOST", "PATH", "METHODS", "CONDITIONS", "GOES TO", "NAME")]
    for row in rows:
        methods, conditions = ",".join(row.methods) or "any", ", ".join(row.conditions) or "-"
        lines.append((row.host, row.path, methods, conditions, row.goes_to, row.name))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _conditions(route: Route) -> Iterator[str]:
    for kind, tests in (("header", route.match.headers), ("query", route.match.query), ("cookie", route.match.cookies)):
        for name, test in tests.items():
            yield f"{kind} {name} {_test_text(test)}"


def _test_text(test: ValueTest) -> str:
    if test.op == "equals":
        return f"= {toml_text(test.value)}"
    return f"~ {toml_text(test.value)}" if test.op == "regex" else test.op


def _goal(route: Route) -> str:
    if route.upstream is not None:
        return _split_text(route.upstream)
    if route.redirect is not None:
        return f"redirect {route.redirect.status} to {bytes(route.redirect.to).decode()}"
    return f"respond {route.respond.status}" if route.respond is not None else ""


def _split_text(split: list[Split]) -> str:
    if len(split) == 1:
        return split[0].upstream
    total = sum(part.weight for part in split)
    return ", ".join(f"{part.upstream} {100 * part.weight / total:.4g}%" for part in split)
