"""What each policy adds to a request, by itself: `python -m benchmarks.micro_policies [--rounds N] [--json FILE]`.

Real connections of both sides, the exchange, the pool and its policies, over transports that only take notes, in one
process: in a gateway under load the machine's noise is larger than what is looked for. A round of a policy follows one
without, so that both meet the same machine, and what counts is their difference; "nothing" is one of no difference at
all, and shows what is noise. Time is the processor's, and includes the policies' ticks at 10,000 requests a second.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep, thread_time
from typing import Any, cast

from fastgw.config.load import load_text
from fastgw.counters import COLUMN_SIZE
from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.net.clock import TICK_S, Sweep
from fastgw.net.downstream import DownstreamConnection
from fastgw.net.listener import Server
from fastgw.net.pool import UpstreamPool
from fastgw.net.refusals import Refusals
from fastgw.net.resolver import Resolver
from fastgw.net.upstream import UpstreamConnection
from fastgw.policy.ticket_secret import TicketSecret

ROUNDS = 40
CLIENTS = 16
ENDPOINTS = ("127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003")
# Of all clients, in a round of one policy.
TURNS_PER_ROUND = 60
_PAUSE_S = 0.005
_TURNS_PER_TICK = int(10_000 * TICK_S / CLIENTS)

_CONFIG = """\
[[listeners]]
address = "127.0.0.1:0"
limits = {{ requests_per_connection = 1000000000 }}

[upstreams.a]
endpoints = [{endpoints}]
{settings}

[[routes]]
upstream = "a"

[upstreams.other]
endpoints = [{endpoints}]
{others}

[[routes]]
path = "/other/*"
upstream = "other"
"""
_ALL = """\
balance = "ewma"
health = true
outliers = { latency_factor = 5 }
retry = true
breaker = true
concurrency = { initial_limit = 1000, min_limit = 1000, max_limit = 1000 }
slow_start = "30s"
sticky = { cookie = "sticky", secret = "0123456789abcdef" }
"""
NOTHING = "nothing"
WARMING = "slow start, warming up"
ONE_OUT = "health checks, one is out"
ELSEWHERE = "all, on another upstream"
POLICIES: dict[str, str] = {
    NOTHING: "",
    "least-requests": 'balance = "least-requests"',
    "power-of-two": 'balance = "power-of-two"',
    "ewma": 'balance = "ewma"',
    "random": 'balance = "random"',
    "hash of the client's address": 'balance = "hash"\nhash_on = "client.ip"',
    "sticky, the cookie is known": 'sticky = { cookie = "sticky", secret = "0123456789abcdef" }',
    "outliers": "outliers = true",
    "outliers, of latency too": "outliers = { latency_factor = 5 }",
    "breaker": "breaker = true",
    "retry": "retry = true",
    "retry with hedging": "retry = { hedge = true }",
    "concurrency": "concurrency = { initial_limit = 1000, min_limit = 1000, max_limit = 1000 }",
    "slow start": 'slow_start = "30s"',
    WARMING: 'slow_start = "1h"',
    "health checks": "health = true",
    ONE_OUT: "health = true",
    "all": _ALL,
    ELSEWHERE: "",
}

_REQUEST = b"GET %b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: benchmark\r\nAccept: */*\r\nCookie: sticky=%b\r\n\r\n"
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Log:
    """Lines are written by nobody: they cost the same with each policy."""

    def record(self, exchange: Exchange) -> None:
        pass


class _Loop:
    """Nothing here waits for anything but the timers of policies, which come with the next tick."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self._now() + seconds, call))

    def tick(self) -> None:
        timers, self._timers = self._timers, []
        for due, call in timers:
            if due <= self._now():
                call()
            else:
                self._timers.append((due, call))

    def call_soon(self, call: object, *arguments: object) -> None:
        raise AssertionError(f"{call} is to be called later")


class _Sent(Transport):
    """Keeps what was written last; `written` are the transports where something was, for whoever answers."""

    def __init__(self, written: list[UpstreamConnection] | None = None) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self.connection: UpstreamConnection | None = None
        self.data = b""
        self._written = written

    def write(self, data: Any) -> None:
        self.data = data
        if self._written is not None and self.connection is not None:
            self._written.append(self.connection)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Line:
    """A worker with one upstream of three endpoints, and clients whose requests are answered after all have asked."""

    def __init__(self, policy: str, target: bytes = b"/items/1027", now: Callable[[], float] = monotonic) -> None:
        endpoints = ", ".join([f'"{name}"' for name in ENDPOINTS])
        others = _ALL if policy == ELSEWHERE else ""
        text = _CONFIG.format(endpoints=endpoints, settings=POLICIES[policy], others=others)
        snapshot = load_text(text, "config.toml", Path("."), {}).snapshot
        self._now = now
        self._loop = _Loop(now)
        loop = cast(AbstractEventLoop, self._loop)
        pools: dict[str, Any] = {}
        chance = random.Random(1).random
        self.gateway = gateway = Gateway(snapshot, pools, _Log(), now, chance, b"0" * 16, _raise, [0] * COLUMN_SIZE)
        self.sweep = Sweep(loop, now, _raise)
        for name, upstream in snapshot.upstreams.items():
            resolver = Resolver(loop, now)
            pools[name] = UpstreamPool(upstream, gateway, resolver, self.sweep, loop, _ignore, now)
        gateway.bind_routes()
        self.pool: UpstreamPool = pools["a"]
        if policy in (WARMING, ONE_OUT):
            self.pool.set_unhealthy({ENDPOINTS[0]})
        if policy == WARMING:
            self.pool.set_unhealthy(())
        refusals = Refusals(_ignore, now)
        counters = gateway.counters
        secret = TicketSecret(bytes(80), 0)
        self._server = Server(gateway, snapshot.listeners[0], self.sweep, loop, refusals, secret, _ignore, counters)
        self._asked: list[UpstreamConnection] = []
        self._clients = [self._client() for _ in range(CLIENTS)]
        for index in range(len(ENDPOINTS)):
            # One may have all of them.
            for _ in range(CLIENTS):
                self._connect(index)
        self._turns = 0
        self._request = _REQUEST % (target, self._token())

    def turn(self) -> None:
        """Each client asks once, and gets its answer."""
        for client in self._clients:
            client.data_received(self._request)
        for connection in self._asked:
            connection.data_received(_RESPONSE)
        self._asked.clear()
        self._turns += 1
        if not self._turns % _TURNS_PER_TICK:
            self._loop.tick()
            for call in self.sweep.each_tick:
                call(self._now())

    def add_header_lines(self, lines: bytes) -> None:
        """Each begun by CRLF, to what clients send from now on."""
        self._request = self._request.replace(b"\r\n\r\n", lines + b"\r\n\r\n")

    def last_answers(self) -> list[bytes]:
        """What each client was sent."""
        return [cast(_Sent, client.transport).data for client in self._clients]

    def _token(self) -> bytes:
        sticky = self.pool.sticky
        if sticky is None:
            return b"0" * 22
        return sticky.line(0, None).partition(b"=")[2].partition(b";")[0]

    def _client(self) -> DownstreamConnection:
        connection = self._server.connect()
        assert isinstance(connection, DownstreamConnection)
        connection.connection_made(_Sent())
        return connection

    def _connect(self, index: int) -> None:
        connection = UpstreamConnection(self.pool, index, ENDPOINTS[index])
        transport = _Sent(self._asked)
        transport.connection = connection
        connection.connection_made(transport)
        self.pool.active[index] += 1
        self.pool.release(connection)


def _raise() -> None:
    raise  # noqa: PLE0704


def _ignore(_message: str) -> None:
    pass


def microseconds(line: Line, turns: int) -> float:
    """Of one request, over so many turns."""
    turn = line.turn
    # A log's thread has its turn; here nothing else lets it in, as waiting for sockets does in a gateway.
    sleep(_PAUSE_S)
    began = thread_time()
    for _ in range(turns):
        turn()
    return (thread_time() - began) * 1e6 / (turns * CLIENTS)


def measure(rounds: int, turns: int) -> tuple[float, dict[str, list[float]]]:
    """What a request costs without any policy, and what each adds, round by round."""
    base = Line(NOTHING)
    return compared({name: (base, Line(name)) for name in POLICIES}, rounds, turns)


def compared(pairs: Mapping[str, tuple[Line, Line]], rounds: int, turns: int) -> tuple[float, dict[str, list[float]]]:
    """What a request costs on the first of the two lines, and how much more on the second, round by round."""
    added: dict[str, list[float]] = {name: [] for name in pairs}
    bases = []
    for line in {line: None for pair in pairs.values() for line in pair}:
        microseconds(line, turns)
    gc.collect()
    gc.disable()
    for number in range(rounds):
        for name, (base, line) in pairs.items():
            # Whoever comes second finds the caches warm.
            if number % 2:
                more = microseconds(line, turns)
                without = microseconds(base, turns)
            else:
                without = microseconds(base, turns)
                more = microseconds(line, turns)
            bases.append(without)
            added[name].append(more - without)
        gc.collect()
    gc.enable()
    return median(bases), added


def table(base: float, added: dict[str, list[float]]) -> str:
    lines = [f"{base:.2f} µs a request without any policy", f"{'policy':30}{'adds µs':>9}{'  half of the rounds':>22}"]
    for name, found in added.items():
        low, _, high = quantiles(found, n=4) if len(found) > 1 else found * 3
        lines.append(f"{name:30}{median(found):>9.2f}{f'{low:.2f} to {high:.2f}':>22}")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro_policies")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each policy (default: %(default)s)")
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
