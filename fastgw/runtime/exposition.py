"""Metrics as text: the Prometheus format 0.0.4, and OpenMetrics 1.0.

Written by hand, since a scrape of a thousand routes has 60,000 lines, for which prometheus-client takes half a second
of the supervisor; it reads what is written here in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fastgw.counters import BUCKETS, FIRST_BUCKET

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
INFO = "info"

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# The upper bounds of the buckets, in seconds; the last one has none.
BOUNDS = [2.0 ** (FIRST_BUCKET + number) / 1e6 for number in range(BUCKETS - 1)]
_LES = [f'le="{bound!r}"' for bound in BOUNDS] + ['le="+Inf"']


@dataclass(slots=True)
class Family:
    """`name` has no suffix, and the unit last; a sample is what the line is after the name's first part."""

    name: str
    kind: str
    help: str
    unit: str = ""
    lines: list[str] = field(default_factory=list)

    def add(self, value: float, **names: str) -> None:
        """A sample of anything but a histogram."""
        self.add_labelled(value, labels(names))

    def add_labelled(self, value: float, labelled: str) -> None:
        suffix = {COUNTER: "_total", INFO: "_info"}.get(self.kind, "")
        self.lines.append(
            f"{self.name}{suffix}{{{labelled}}} {_number(value)}"
            if labelled
            else f"{self.name}{suffix} {_number(value)}"
        )

    def add_histogram(self, cells: Sequence[int], labelled: str) -> None:
        """`cells` are those of `counters.HISTOGRAM`; nothing is said of one that has counted nothing."""
        total = sum(cells[:BUCKETS])
        if not total:
            return
        begin = f"{self.name}_bucket{{{labelled}," if labelled else f"{self.name}_bucket{{"
        so_far = 0
        for le, count in zip(_LES, cells, strict=False):
            so_far += count
            self.lines.append(f"{begin}{le}}} {so_far}")
        braced = f"{{{labelled}}}" if labelled else ""
        self.lines.append(f"{self.name}_sum{braced} {cells[BUCKETS] / 1e6!r}")
        self.lines.append(f"{self.name}_count{braced} {total}")


def labels(names: Mapping[str, str]) -> str:
    """What stands between the braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in names.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value)


def exposed(families: Iterable[Family], openmetrics: bool) -> bytes:
    """All of them; those without samples are left out."""
    lines: list[str] = []
    for family in families:
        if family.lines:
            lines += _head(family, openmetrics)
            lines += family.lines
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _head(family: Family, openmetrics: bool) -> list[str]:
    # The older format names a counter with its suffix, and has no information metrics.
    name, kind = family.name, family.kind
    if not openmetrics:
        name += {COUNTER: "_total", INFO: "_info"}.get(kind, "")
        kind = GAUGE if kind == INFO else kind
    unit = [f"# UNIT {name} {family.unit}"] if openmetrics and family.unit else []
    return [f"# HELP {name} {family.help}", f"# TYPE {name} {kind}", *unit]
