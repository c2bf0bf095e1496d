"""What it adds to a request to observe it, part by part: `python -m benchmarks.micro_observation [--rounds N]`.

The line, the rounds and the reading of the table are those of `micro_policies`, with heads as browsers send them. The
log is the default one, metrics are on, and tracing tells upstreams of traces that are not recorded.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from time import monotonic

from benchmarks.micro_access_log import settings_of
from benchmarks.micro_policies import NOTHING, TURNS_PER_ROUND, Line, compared, table
from fastgw.exchange import Exchange
from fastgw.net.ended import Ended
from fastgw.net.log_sink import LogSink
from fastgw.policy.metrics import ExchangeCounts
from fastgw.policy.trace_context import TracingSettings
from fastgw.rows import Rows
from fastgw.tracing import Tracer

ROUNDS = 40
_HEADERS = b"".join([b"\r\nX-Header-%d: the value of a header of this size" % number for number in range(8)])
LOG, METRICS, TRACING = "access log", "metrics", "tracing, not recorded"
CASES = {
    NOTHING: (),
    LOG: (LOG,),
    METRICS: (METRICS,),
    TRACING: (TRACING,),
    "all of it": (LOG, METRICS, TRACING),
}


def line_with(parts: Sequence[str], now: Callable[[], float] = monotonic) -> tuple[Line, list[LogSink]]:
    """The line that is observed so, and its logs."""
    line = Line(NOTHING, now=now)
    line.add_header_lines(_HEADERS)
    gateway = line.gateway
    takers: list[Callable[[list[Exchange]], None]] = []
    logs = []
    if LOG in parts:
        logs.append(LogSink(settings_of(""), lambda: 1e9, _fail, _raise))
        takers.append(logs[0].take)
    if METRICS in parts:
        takers.append(ExchangeCounts(Rows(), _raise).take)
    if takers:
        gateway.log = Ended(takers)
    if TRACING in parts:
        gateway.set_tracer(Tracer(TracingSettings(0.0), gateway.snapshot, random.Random(1).getrandbits))
    return line, logs


def _fail(message: str) -> None:
    raise AssertionError(message)


def _raise() -> None:
    raise  # noqa: PLE0704


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro_observation")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each part (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=TURNS_PER_ROUND, help="of all clients in a round")
    options = parser.parse_args(given)
    lines = {name: line_with(parts) for name, parts in CASES.items()}
    base, _ = line_with(())
    print(table(*compared({name: (base, line) for name, (line, _) in lines.items()}, options.rounds, options.turns)))
    for _, logs in lines.values():
        for log in logs:
            log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
