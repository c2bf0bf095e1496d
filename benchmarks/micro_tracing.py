"""What tracing adds to a request, by itself: `python -m benchmarks.micro_tracing [--rounds N]`.

The line, the rounds and the reading of the table are those of `micro_policies`. Recorded exchanges go as far as the
socket that leads to the exporter; what that does is no part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.micro_policies import CLIENTS, NOTHING, TURNS_PER_ROUND, Line, microseconds, table
from fastgw.net.trace_sink import TraceSink
from fastgw.policy.trace_context import TracingSettings
from fastgw.tracing import Tracer

ROUNDS = 40
# As a browser's requests, whose heads have about 500 bytes.
_BROWSER = b"".join(b"\r\nX-Header-%d: the value of a header of this size" % number for number in range(8))
_PARENT = b"\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


@dataclass(frozen=True, slots=True)
class Case:
    """`settings` None: there is no tracing. `lines` is what clients say of traces."""

    settings: TracingSettings | None
    lines: bytes = b""


CASES: dict[str, Case] = {
    NOTHING: Case(None),
    "not recorded": Case(TracingSettings(0.0)),
    "not recorded, B3 too": Case(TracingSettings(0.0, ("w3c", "b3"))),
    "not recorded, a stranger's": Case(TracingSettings(0.0), _PARENT + b"01"),
    "not recorded, as it came": Case(TracingSettings(0.0, parents="all"), _PARENT + b"00"),
    "1% is recorded": Case(TracingSettings(0.01)),
    "all is recorded": Case(TracingSettings(1.0)),
}


class TracedLine:
    """A line with what its case says, and whoever empties the exporter's socket."""

    def __init__(self, case: Case, has_tracing: bool = True) -> None:
        self.line = Line(NOTHING)
        self.line.add_header_lines(_BROWSER + case.lines)
        self._exporter, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._exporter.setblocking(False)
        gateway = self.line.gateway
        self.sink = TraceSink(workers, lambda: 0.0, _ignore, _raise)
        gateway.traces = self.sink
        if case.settings is not None and has_tracing:
            gateway.set_tracer(Tracer(case.settings, gateway.snapshot, random.Random(1).getrandbits))
        self._workers = workers

    def received(self) -> int:
        """How many batches there were, which are thrown away."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self._exporter.recv(1 << 20):
                count += 1
        return count

    def close(self) -> None:
        self._exporter.close()
        self._workers.close()


def _ignore(_message: str) -> None:
    pass


def _raise() -> None:
    raise  # noqa: PLE0704


def measure(rounds: int, turns: int) -> tuple[float, dict[str, list[float]]]:
    """What a request costs without tracing, and what each case adds, round by round."""
    pairs = {name: (TracedLine(case, False), TracedLine(case)) for name, case in CASES.items()}
    added: dict[str, list[float]] = {name: [] for name in CASES}
    bases = []
    for pair in pairs.values():
        for traced in pair:
            microseconds(traced.line, turns)
    gc.collect()
    gc.disable()
    for number in range(rounds):
        for name, pair in pairs.items():
            # Whoever comes second finds the caches warm.
            order = pair if number % 2 else pair[::-1]
            found = {id(traced): microseconds(traced.line, turns) for traced in order}
            bases.append(found[id(pair[0])])
            added[name].append(found[id(pair[1])] - found[id(pair[0])])
            pair[1].received()
        gc.collect()
    gc.enable()
    for pair in pairs.values():
        for traced in pair:
            traced.close()
    return median(bases), added


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro_tracing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each case (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=TURNS_PER_ROUND, help="of all clients in a round")
    options = parser.parse_args(given)
    began = time.monotonic()
    base, added = measure(options.rounds, options.turns)
    print(table(base, added))
    print(f"{options.rounds} rounds of {options.turns * CLIENTS} requests in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
