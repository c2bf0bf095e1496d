"""What the access log adds to a request: `python -m benchmarks.micro_access_log [--rounds N] [--json FILE]`.

The line of `micro_policies`, with real connections of both sides and without any policy. A round with a log follows one
without, of the same requests, and what counts is their difference; "nothing" is one of no difference at all, and shows
what is noise. It is the processor time of the thread that carries traffic, where lines are recorded and made, in
batches. What the writer's thread and its disk take is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from benchmarks.micro_policies import NOTHING, Line, compared
from fastgw.config.access_log import FIELDS
from fastgw.config.load import load_text
from fastgw.net.ended import Ended
from fastgw.net.log_sink import LogSink, NoLog
from fastgw.snapshot import AccessLog

ROUNDS = 40
# Of all clients, in a round of one log: so many requests that they make whole batches.
TURNS_PER_ROUND = 64
TARGET = b"/items/1027"
PLAIN_QUERY = TARGET + b"?page=2&sort=name&q=blue+chairs"
TOKEN_QUERY = TARGET + b"?page=2&access_token=2YotnFZFEjr1zCsicMWpAA"

_CONFIG = """\
[access_log]
{log}
[[listeners]]
address = "127.0.0.1:0"
[[routes]]
respond.body = ""
"""
_ALL_FIELDS = [*FIELDS, "header:Accept", "response:Content-Type", "query:page"]
# The settings of each, beside its path, and the target of its requests; None: no log.
LOGS: dict[str, tuple[str | None, bytes]] = {
    NOTHING: (None, TARGET),
    "the default": ("", TARGET),
    "combined": ('format = "combined"', TARGET),
    "all fields": (f"fields = {json.dumps(_ALL_FIELDS)}", TARGET),
    "slow ones, but none is": ('slow = "1h"', TARGET),
    "sampled, 1 %": ('sample = "1%"', TARGET),
    "default, a query": ("", PLAIN_QUERY),
    "default, a token in the query": ("", TOKEN_QUERY),
}


def settings_of(log: str) -> AccessLog:
    text = _CONFIG.format(log=f'path = "/dev/null"\n{log}')
    return load_text(text, "config.toml", Path("."), {}).snapshot.access_log


def line_with(name: str) -> tuple[Line, LogSink | NoLog]:
    """The line that has this log, and the log."""
    settings, target = LOGS[name]
    line = Line(NOTHING, target)
    if settings is None:
        return line, NoLog()
    log = LogSink(settings_of(settings), lambda: 1e9, _fail, _raise)
    line.gateway.log = Ended([log.take])
    return line, log


def _fail(message: str) -> None:
    raise AssertionError(message)


def _raise() -> None:
    raise  # noqa: PLE0704


def measure(rounds: int, turns: int) -> tuple[float, dict[str, list[float]]]:
    """What a request costs without a log, and what each log adds, round by round."""
    bases = {target: Line(NOTHING, target) for _, target in LOGS.values()}
    lines = {name: line_with(name) for name in LOGS}
    found = compared({name: (bases[LOGS[name][1]], line) for name, (line, _) in lines.items()}, rounds, turns)
    for _, log in lines.values():
        log.close()
        assert not log.dropped
    return found


def table(base: float, added: dict[str, list[float]]) -> str:
    lines = [f"{base:.2f} µs a request without a log", f"{'log':34}{'adds µs':>9}{'  half of the rounds':>22}"]
    for name, found in added.items():
        low, _, high = quantiles(found, n=4) if len(found) > 1 else found * 3
        lines.append(f"{name:34}{median(found):>9.2f}{f'{low:.2f} to {high:.2f}':>22}")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro_access_log")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each log (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=TURNS_PER_ROUND, help="of all clients in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what each round has shown")
    options = parser.parse_args(given)
    base, added = measure(options.rounds, options.turns)
    print(table(base, added))
    if options.json:
        options.json.write_text(json.dumps({"base_us": base, "added_us": added}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
