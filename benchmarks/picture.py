"""The picture: CPU per request of each peer as bars, as a ratio to the reference, per workload.

SVG drawn by hand: it reads in light and in dark, and needs no plotting library.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.results import CPU_US, REFERENCE, Summary

WIDTH = 820
_LEFT = 150  # of the bars; workload names stand before it
_RIGHT = 170  # kept for the figures behind the longest bar
_BAR = 15
_GAP = 14  # between workloads
_TOP = 64
# The longest bar that keeps its length; a longer one is cut and says so, or it would flatten all the others.
_RATIO_SHOWN = 4.0

_STYLE = """\
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #57606a }
  .line { stroke: #57606a; stroke-dasharray: 3 3 }
  .peer0 { fill: #0969da } .peer1 { fill: #8c959f } .peer2 { fill: #bf8700 } .peer3 { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } .line { stroke: #9198a1 }
    .peer0 { fill: #4493f8 } .peer1 { fill: #848d97 } .peer2 { fill: #d29922 } .peer3 { fill: #ab7df8 }
  }"""
_COLOURS = 4


def svg(summaries: Sequence[Summary], caption: str) -> str:
    """The whole file; workloads without a ratio to the reference are left out."""
    drawn = [s for s in summaries if s.ratio is not None and s.valid and s.compared == CPU_US]
    peers = list(dict.fromkeys(summary.peer for summary in drawn))
    workloads = list(dict.fromkeys(summary.workload for summary in drawn))
    longest = min(max((s.ratio or 0.0 for s in drawn), default=1.0), _RATIO_SHOWN)
    per_unit = (WIDTH - _LEFT - _RIGHT) / max(longest, 1.0)

    parts: list[str] = []
    top = _TOP
    for workload in workloads:
        group = [summary for summary in drawn if summary.workload == workload]
        middle = top + len(group) * _BAR / 2 + 4
        parts.append(_text(_LEFT - 10, middle, workload, anchor="end"))
        for summary in group:
            parts.append(_bar(summary, peers.index(summary.peer), top, per_unit))
            top += _BAR
        top += _GAP
    height = top + 24
    line = _LEFT + per_unit
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="CPU time per request, {REFERENCE} = 1">',
            f"<style>\n{_STYLE}\n</style>",
            _text(12, 22, f"CPU time per request, {REFERENCE} = 1 (shorter is better)", style="title"),
            *_legend(peers),
            *parts,
            f'<line class="line" x1="{line:.1f}" y1="{_TOP - 8}" x2="{line:.1f}" y2="{top - _GAP + 8}"/>',
            _text(12, height - 8, caption, style="quiet"),
            "</svg>",
            "",
        ]
    )


def _bar(summary: Summary, colour: int, top: float, per_unit: float) -> str:
    ratio = summary.ratio or 0.0
    width = min(ratio, _RATIO_SHOWN) * per_unit
    cut = " »" if ratio > _RATIO_SHOWN else ""
    label = f"{ratio:.2f}{cut}  {_microseconds(summary.medians[CPU_US])}"
    return (
        f'<rect class="peer{colour % _COLOURS}" x="{_LEFT}" y="{top}" width="{width:.1f}" '
        f'height="{_BAR - 2}" rx="2">'
        f"<title>{escape(summary.workload)}, {escape(summary.peer)}</title></rect>\n"
        + _text(_LEFT + width + 6, top + _BAR - 4, label)
    )


def _microseconds(value: float) -> str:
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.1f} µs"


def _legend(peers: Sequence[str]) -> list[str]:
    parts = []
    left = 12
    for number, peer in enumerate(peers):
        parts.append(f'<rect class="peer{number % _COLOURS}" x="{left}" y="34" width="12" height="12" rx="2"/>')
        parts.append(_text(left + 18, 44, peer))
        left += 40 + 8 * len(peer)
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
