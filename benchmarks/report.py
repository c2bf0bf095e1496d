"""The report: a plain table for the terminal, the same in Markdown for the README, and everything in JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.results import (
    CAPACITY,
    CONNECTIONS_OF_64,
    CONNECTIONS_OF_1000,
    CPU_US,
    CPU_US_OF_ONE,
    CPU_US_OF_TWO,
    EJECTED_AFTER,
    FIRST_SECOND_P99_US,
    FIRST_SUCCESS,
    HEALTHY_ERRORS,
    HEALTHY_P50_US,
    HEALTHY_P99_US,
    HEALTHY_P999_US,
    MEMORY_BEFORE,
    MEMORY_BYTES,
    OTHERS_SHARE,
    P50_US,
    P99_US,
    RECOVERED,
    REFERENCE,
    REQUESTS_ASKED,
    REQUESTS_NEW,
    REQUESTS_PER_SECOND,
    REQUESTS_SEEN,
    RETRIES,
    RETRIES_ALLOWED,
    SLOW_ERRORS,
    SLOW_P50_US,
    SLOW_P99_US,
    SLOW_P999_US,
    SLOW_TO_HEALTHY_P99,
    WORST_SECOND_P99_US,
    Sample,
    Summary,
)

NOTHING = "-"
# Above this share of the core going to other programs, the figures of a row are worth less.
QUIET_SHARE = 0.05

_Cell = Callable[[Summary], str]


def _figure(name: str, scale: float, form: str) -> _Cell:
    def cell(summary: Summary) -> str:
        value = summary.medians.get(name)
        return NOTHING if value is None else format(value / scale, form)

    return cell


def _ratio(summary: Summary) -> str:
    return _with_range(summary.ratio, summary.lowest_ratio, summary.highest_ratio)


def _spread(name: str) -> _Cell:
    """A figure that is a ratio itself."""
    return lambda summary: _with_range(summary.medians.get(name), *summary.ranges.get(name, (None, None)))


def _with_range(value: float | None, lowest: float | None, highest: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.2f}" if lowest == highest else f"{value:.2f} ({lowest:.2f}-{highest:.2f})"


LOAD_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("peer", lambda summary: summary.peer),
    ("CPU µs/request", _figure(CPU_US, 1, ".1f")),
    ("least", lambda summary: NOTHING if summary.least is None else f"{summary.least:.1f}"),
    (f"CPU to {REFERENCE}", _ratio),
    ("requests/s", _figure(REQUESTS_PER_SECOND, 1, ",.0f")),
    ("p50 ms", _figure(P50_US, 1000, ".2f")),
    ("p99 ms", _figure(P99_US, 1000, ".2f")),
    ("strangers", _figure(OTHERS_SHARE, 1, ".0%")),
)
IDLE_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("peer", lambda summary: summary.peer),
    ("bytes/connection", _figure(MEMORY_BYTES, 1, ",.0f")),
    (f"memory to {REFERENCE}", _ratio),
    ("MiB without them", _figure(MEMORY_BEFORE, 1 << 20, ".1f")),
)
SCALING_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("peer", lambda summary: summary.peer),
    ("CPU µs/request of one worker", _figure(CPU_US_OF_ONE, 1, ".1f")),
    ("of two", _figure(CPU_US_OF_TWO, 1, ".1f")),
    ("capacity of two to one", _spread(CAPACITY)),
    ("strangers", _figure(OTHERS_SHARE, 1, ".0%")),
)
BALANCE_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("peer", lambda summary: summary.peer),
    ("64 connections", _spread(CONNECTIONS_OF_64)),
    ("1,000 connections", _spread(CONNECTIONS_OF_1000)),
    ("requests on new ones", _spread(REQUESTS_NEW)),
)
TAIL_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("balance", lambda summary: summary.peer),
    ("p50 ms, healthy", _figure(HEALTHY_P50_US, 1000, ".1f")),
    ("p99", _figure(HEALTHY_P99_US, 1000, ".1f")),
    ("p99.9", _figure(HEALTHY_P999_US, 1000, ".1f")),
    ("errors", _figure(HEALTHY_ERRORS, 1, ".0f")),
    ("p99 of the first second", _figure(FIRST_SECOND_P99_US, 1000, ".1f")),
    ("ejected after s", _figure(EJECTED_AFTER, 1, ".1f")),
    ("p50 ms, one slow", _figure(SLOW_P50_US, 1000, ".1f")),
    ("p99", _figure(SLOW_P99_US, 1000, ".1f")),
    ("p99.9", _figure(SLOW_P999_US, 1000, ".1f")),
    ("errors", _figure(SLOW_ERRORS, 1, ".0f")),
    ("p99 of the worst second", _figure(WORST_SECOND_P99_US, 1000, ".1f")),
    ("p99 to healthy", _spread(SLOW_TO_HEALTHY_P99)),
)
RECOVERY_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("workload", lambda summary: summary.workload),
    ("all endpoints", lambda summary: summary.peer),
    ("first success, intervals", _spread(FIRST_SUCCESS)),
    ("99% succeed, intervals", _spread(RECOVERED)),
    ("asked meanwhile", _figure(REQUESTS_ASKED, 1, ",.0f")),
    ("seen", _figure(REQUESTS_SEEN, 1, ",.0f")),
    ("retries", _figure(RETRIES, 1, ",.0f")),
    ("allowed", _figure(RETRIES_ALLOWED, 1, ",.0f")),
)
# The tables, by what their workloads are compared by.
_TABLES: dict[str, tuple[tuple[str, _Cell], ...]] = {
    CPU_US: LOAD_COLUMNS,
    MEMORY_BYTES: IDLE_COLUMNS,
    CAPACITY: SCALING_COLUMNS,
    CONNECTIONS_OF_1000: BALANCE_COLUMNS,
    SLOW_TO_HEALTHY_P99: TAIL_COLUMNS,
    RECOVERED: RECOVERY_COLUMNS,
}
_TEXT_COLUMNS = 2  # aligned to the left; figures to the right


def plain(summaries: Sequence[Summary]) -> str:
    """Aligned text, with what is wrong with a row below the table."""
    tables = [_plain_table(rows) for rows in _tables(summaries)]
    return "\n\n".join([*tables, *_notes(summaries)])


def markdown(summaries: Sequence[Summary]) -> str:
    """The same as GitHub renders tables."""
    tables = [_markdown_table(rows) for rows in _tables(summaries)]
    return "\n\n".join([*tables, *_notes(summaries)]) + "\n"


def as_json(
    machine: Mapping[str, object],
    settings: Mapping[str, object],
    samples: Sequence[Sample],
    summaries: Sequence[Summary],
    skipped: Mapping[str, str],
) -> str:
    """All there is: the machine, how it was run, every round, and what the rounds come to."""
    everything: dict[str, Any] = {
        "machine": dict(machine),
        "settings": dict(settings),
        "skipped": dict(skipped),
        "reference": REFERENCE,
        "summaries": [summary.as_json() for summary in summaries],
        "rounds": [sample.as_json() for sample in samples],
    }
    return json.dumps(everything, indent=2, ensure_ascii=False) + "\n"


def _tables(summaries: Sequence[Summary]) -> list[list[list[str]]]:
    chosen = {figure: [summary for summary in summaries if summary.compared == figure] for figure in _TABLES}
    return [_rows(chosen[figure], columns) for figure, columns in _TABLES.items() if chosen[figure]]


def _rows(summaries: Sequence[Summary], columns: Sequence[tuple[str, _Cell]]) -> list[list[str]]:
    rows = [[heading for heading, _ in columns]]
    for summary in summaries:
        row = [cell(summary) for _, cell in columns]
        row[1] += "" if summary.valid else " (INVALID)"
        rows.append(row)
    return rows


def _plain_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    previous = ""
    for row in rows:
        # A workload is named once; the rows below it are its other peers.
        shown = ["" if row[0] == previous else row[0], *row[1:]]
        previous = row[0]
        cells = [
            text.ljust(width) if column < _TEXT_COLUMNS else text.rjust(width)
            for column, (text, width) in enumerate(zip(shown, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    marks = ["---" if column < _TEXT_COLUMNS else "---:" for column in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], marks, *rows[1:]])


def _notes(summaries: Sequence[Summary]) -> list[str]:
    wrong = [f"INVALID {summary.workload} {summary.peer}: {text}" for summary in summaries for text in summary.problems]
    noisy = [summary for summary in summaries if summary.medians.get(OTHERS_SHARE, 0.0) > QUIET_SHARE]
    if noisy:
        rows = ", ".join(f"{summary.workload} {summary.peer}" for summary in noisy)
        which = "all rows" if len(noisy) == len(summaries) else rows
        wrong.append(f"Strangers had over {QUIET_SHARE:.0%} of a core, distrust the times of: {which}")
    return ["\n".join(wrong)] if wrong else []
