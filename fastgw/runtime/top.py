"""`fastgw top`: a running gateway at a glance, from two looks at what it has counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Of a histogram's cells, the last is a sum.
_P50, _P99 = 0.5, 0.99
_FAILED = ("none", "5xx")

Look = dict[str, Any]


def screen(before: Look, now: Look, width: int, height: int) -> str:
    """What there is to show, in lines of a terminal, the busiest first. `before` may be the same as `now`: then there
    are no rates, and what is told is of all time."""
    seconds = now["at"] - before["at"]
    blocks = [
        [_head(before, now, seconds)],
        _table(_ROUTE_COLUMNS, _routes(before, now, seconds), seconds),
        _table(_ENDPOINT_COLUMNS, _endpoints(before, now, seconds), seconds),
        _table(_WORKER_COLUMNS, _workers(before, now, seconds), seconds),
    ]
    events = [f"{one['at']}  {one['kind']} {one['outcome']}: {one['detail'].splitlines()[0]}" for one in now["events"]]
    blocks.append(list(reversed(events[-3:])))
    lines = _fitted([block for block in blocks if block], height)
    return "\n".join(line[:width].rstrip() for line in lines)


def _fitted(blocks: list[list[str]], height: int) -> list[str]:
    """The longest blocks are cut, one line at a time, until all have a place; where that is none for two lines of each,
    the first blocks have it."""
    while sum(map(len, blocks)) + len(blocks) - 1 > height and max(map(len, blocks)) > 2:
        longest = max(blocks, key=len)
        longest.pop()
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block] if lines else block
    return lines[: max(1, height)]


def _head(before: Look, now: Look, seconds: float) -> str:
    connections = sum(worker["connections"] for worker in now["workers"])
    requests = sum(worker["requests"] for worker in now["workers"])
    earlier = sum(worker["requests"] for worker in before["workers"])
    rate = f"{_rate(requests - earlier, seconds)} requests/s" if seconds else f"{requests:,} requests"
    state = "" if now["is_serving"] else ", not all workers serve"
    return f"fastgw {now['version']}  {now['config']}  {rate}, {connections:,} connections{state}"


# The tables: columns with their heads, and whether they hold numbers; rows of texts.

_RATE = ">REQ/S"
# What stands there where there are no rates.
_COUNT = ">REQUESTS"
_ROUTE_COLUMNS = ("ROUTE", _RATE, ">FAILED", ">P50", ">P99", ">OWN P50", ">OWN P99")
_ENDPOINT_COLUMNS = ("UPSTREAM", "ENDPOINT", "STATE", _RATE, ">ACTIVE", ">IDLE", ">HEAD P50", ">HEAD P99")
_WORKER_COLUMNS = ("WORKER", ">PID", ">CPU", ">MEMORY", ">CONNECTIONS", _RATE, ">LAG P99")


def _routes(before: Look, now: Look, seconds: float) -> list[list[str]]:
    earlier = {route["name"]: route for route in before["routes"]} if seconds else {}
    rows = []
    for route in now["routes"]:
        known = earlier.get(route["name"])
        requests = _less(route["requests"], known["requests"] if known else None)
        total = sum(requests.values())
        if not sum(route["requests"].values()):
            continue
        failed = sum(requests[name] for name in _FAILED)
        took = _cells(route["duration"], known["duration"] if known else None)
        own = _cells(route["own_duration"], known["own_duration"] if known else None)
        times = [_time(cells, share, now["bounds_s"]) for cells in (took, own) for share in (_P50, _P99)]
        share = f"{100 * failed / total:.3g} %" if total else "-"
        rows.append((total, [route["name"] or "(none)", _rate(total, seconds), share, *times]))
    return [row for _, row in sorted(rows, key=lambda one: -one[0])]


def _endpoints(before: Look, now: Look, seconds: float) -> list[list[str]]:
    earlier = {
        (upstream["name"], endpoint["name"]): endpoint
        for upstream in (before["upstreams"] if seconds else ())
        for endpoint in upstream["endpoints"]
    }
    rows = []
    for upstream in now["upstreams"]:
        for endpoint in upstream["endpoints"]:
            known = earlier.get((upstream["name"], endpoint["name"]))
            total = sum(_less(endpoint["requests"], known["requests"] if known else None).values())
            cells = _cells(endpoint["head_duration"], known["head_duration"] if known else None)
            times = [_time(cells, share, now["bounds_s"]) for share in (_P50, _P99)]
            levels = [str(endpoint["active"]), str(endpoint["idle_connections"])]
            state = endpoint_state(endpoint, len(now["workers"]))
            rows.append([upstream["name"], endpoint["name"], state, _rate(total, seconds), *levels, *times])
    return rows


def endpoint_state(endpoint: dict[str, Any], workers: int) -> str:
    """In a word or two."""
    if endpoint["draining"]:
        return "draining"
    if endpoint["healthy"] is False:
        return "unhealthy"
    if endpoint["ejected_by_workers"]:
        by = endpoint["ejected_by_workers"]
        return "ejected" if by >= workers else f"ejected by {by} of {workers}"
    return "backup" if endpoint["backup"] else "up"


def _workers(before: Look, now: Look, seconds: float) -> list[list[str]]:
    earlier = {(worker["number"], worker["pid"]): worker for worker in before["workers"]} if seconds else {}
    rows = []
    for worker in now["workers"]:
        known = earlier.get((worker["number"], worker["pid"]))
        cpu = f"{100 * (worker['cpu_s'] - known['cpu_s']) / seconds:.0f} %" if known else "-"
        requests = worker["requests"] - (known["requests"] if known else 0)
        lag = _time(_cells(worker["lag"], known["lag"] if known else None), _P99, now["bounds_s"])
        memory = f"{worker['memory_bytes'] / (1 << 20):.0f} MiB"
        connections = f"{worker['connections']:,}"
        rows.append(
            [str(worker["number"]), str(worker["pid"]), cpu, memory, connections, _rate(requests, seconds), lag]
        )
    return rows


def _table(columns: Sequence[str], rows: list[list[str]], seconds: float) -> list[str]:
    if not rows:
        return []
    if not seconds:
        columns = [_COUNT if column == _RATE else column for column in columns]
    heads = [column.lstrip(">") for column in columns]
    widths = [max(map(len, cells)) for cells in zip(heads, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        for row in (heads, *rows)
    ]


# Figures.


def _less(now: dict[str, int], before: dict[str, int] | None) -> dict[str, int]:
    return now if before is None else {name: max(0, count - before[name]) for name, count in now.items()}


def _cells(now: Sequence[int], before: Sequence[int] | None) -> list[int]:
    """Without the sum."""
    cells = now if before is None else [max(0, one - other) for one, other in zip(now, before, strict=True)]
    return list(cells[:-1])


def _rate(count: int, seconds: float) -> str:
    """A second's, or the count where no time has passed."""
    value = count / seconds if seconds else count
    return f"{value:,.0f}" if value >= 10 or not value % 1 else f"{value:.1f}"


def quantile_s(cells: Sequence[int], share: float, bounds_s: Sequence[float]) -> float | None:
    """The time within which that share has ended, even within its bucket; None: there were none. What is beyond the
    last bound is told as that."""
    wanted, so_far = share * sum(cells), 0
    if not wanted:
        return None
    for number, count in enumerate(cells[: len(bounds_s)]):
        if count and so_far + count >= wanted:
            least = bounds_s[number - 1] if number else 0.0
            return least + (bounds_s[number] - least) * (wanted - so_far) / count
        so_far += count
    return bounds_s[-1]


def _time(cells: Sequence[int], share: float, bounds_s: Sequence[float]) -> str:
    seconds = quantile_s(cells, share, bounds_s)
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
