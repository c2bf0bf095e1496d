"""The ends of the line without sockets: a client, a pool and its connections that take down what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fastgw.config.load import load_text
from fastgw.counters import COLUMN_SIZE
from fastgw.errors import Failure
from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.http1.message import RequestHead, ResponseHead
from fastgw.http1.parse_response import parse_response
from fastgw.policy.forwarded import lines_before_host
from fastgw.policy.kind import Kinds, Record
from fastgw.policy.sticky_cookie import StickyCookie
from fastgw.policy.tls_session import TlsSession
from fastgw.ports import Hedges, Observer, Retries
from fastgw.snapshot import Snapshot

_LISTENER = '[[listeners]]\nname = "in"\naddress = "127.0.0.1:0"\n'
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@cache
def snapshot_of(text: str) -> Snapshot:
    """The snapshot of a configuration; a listener is added where there is none."""
    whole = text if "[[listeners]]" in text else _LISTENER + text
    return load_text(whole, "config.toml", Path("."), {}).snapshot


def records(*exchanges: Exchange) -> list[Record]:
    """As those get them who write or count ended exchanges."""
    return Kinds().records(exchanges)


class Clock:
    """Shows what it is set to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeLog:
    def __init__(self) -> None:
        self.recorded: list[Exchange] = []

    def record(self, exchange: Exchange) -> None:
        self.recorded.append(exchange)


class Bugs:
    """Is told of exceptions from inside their handlers: fails the test, or counts those that are expected."""

    def __init__(self) -> None:
        self.expected = False
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if not self.expected:
            raise  # noqa: PLE0704


def gateway_of(snapshot: Snapshot, clock: Clock, pools: dict[str, Any], chance: Callable[[], float]) -> Gateway:
    gateway = Gateway(
        snapshot=snapshot,
        pools=pools,
        log=FakeLog(),
        now=clock,
        chance=chance,
        id_prefix=b"0" * 16,
        failed=Bugs(),
        counters=[0] * COLUMN_SIZE,
    )
    gateway.http_date = DATE
    return gateway


class FakeClient:
    """A client's side. `events` is what happened, in order; the last answer's parts are kept apart."""

    def __init__(self, client: bytes = b"192.0.2.7", trusted: bool = False) -> None:
        self.client = client
        self.scheme = b"http"
        self.listener_name = "in"
        self.trusted = self.needs_identifying = trusted
        self.session: TlsSession | None = None
        self.redirect_to_https = 0
        self.congested = False
        self.forwarded = lines_before_host(client, b"http")
        self.events: list[str] = []
        self.status = b""
        self.fields = b""
        self.kind = -1
        self.length = -1
        self.body = b""
        self.trailers = b""
        self.tunnel: Any = None

    def send_informational(self, line: bytes, fields: bytes) -> None:
        self.events.append(f"informational {line[9:12].decode()}")

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: bytes, complete: bool) -> None:
        assert self.status == b"", "one answer to one request"
        assert fields == b"" or fields.startswith(b"\r\n")
        self.events.append(f"head {line[9:12].decode()}")
        self.status, self.fields, self.kind, self.length = line[9:], fields, body, length
        self.body += first
        if complete:
            self.events.append("complete")

    def send_body(self, data: bytes) -> None:
        self.body += data

    def end_body(self, trailers: bytes) -> None:
        self.trailers = trailers
        self.events.append("complete")

    def begin_tunnel(self, line: bytes, fields: bytes, peer: Any, protocol: bytes, first: bytes) -> None:
        self.status, self.fields, self.body, self.tunnel = line[9:], fields, first, peer
        self.events.append("tunnel")

    def pause_reading(self) -> None:
        self.events.append("paused")

    def resume_reading(self) -> None:
        if "paused" in self.events:
            self.events.append("resumed")

    def splice_end(self) -> tuple[int, float] | None:
        return None

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return (self.client.decode(), 4711), ("198.51.100.1", 80)

    def exchange_ended(self) -> None:
        self.events.append("ended")

    def abort(self) -> None:
        self.events.append("aborted")


class FakeConnection:
    """An upstream's connection: takes down what is sent on it."""

    def __init__(self, name: str = "b:1") -> None:
        self.endpoint_name = name
        self.endpoint_index = 0
        self.exchange: Exchange | None = None
        self.events: list[str] = []
        self.target = b""
        self.host = b""
        self.fields = b""
        self.body = b""
        self.trailers: bytes | None = None

    def send_request(self, exchange: Exchange, first: bytes, complete: bool) -> None:
        self.exchange = exchange
        self.target, self.host, self.fields = exchange.target, exchange.host, exchange.fields
        self.events.append("request")
        self.body += first
        if complete:
            self.trailers = exchange.pending_trailers

    def send_body(self, data: bytes) -> None:
        self.body += data

    def end_body(self, trailers: bytes) -> None:
        self.trailers = trailers

    def pause_reading(self) -> None:
        self.events.append("paused")

    def resume_reading(self) -> None:
        self.events.append("resumed")

    def splice_end(self) -> tuple[int, float] | None:
        return None

    def discard(self) -> None:
        self.events.append("discarded")

    # What the backend does.

    def answers(self, head: bytes, body: bytes = b"", complete: bool = True) -> None:
        self._of().response_head(response(head, self._of().request.method == b"HEAD"), body, complete)

    def breaks(self, failure: Failure, unanswered: bool = False, reused: bool = False) -> None:
        self._of().upstream_failed(failure, unanswered, reused)

    def _of(self) -> Exchange:
        assert self.exchange is not None
        return self.exchange


class FakePool:
    """Gives what it was told to: a connection, None (the exchange waits), or a failure to connect, at once."""

    def __init__(self, name: str, *given: FakeConnection | Failure | None, endpoints: int = 1) -> None:
        self.name = name
        self.host = b"backend.test"
        self.all_endpoints = (1 << endpoints) - 1
        self.observer: Observer | None = None
        self.retries: Retries | None = None
        self.hedges: Hedges | None = None
        self.sticky: StickyCookie | None = None
        # Seconds that were asked for.
        self.waits: list[float] = []
        # Tries that came to nothing.
        self.vain: list[tuple[int, int]] = []
        self.given = list(given)
        self.asked: list[bool] = []
        self.waiting: list[Exchange] = []
        self.forgotten: list[Exchange] = []

    def acquire(self, exchange: Exchange, fresh: bool) -> FakeConnection | None:
        self.asked.append(fresh)
        next_one = self.given.pop(0)
        if isinstance(next_one, Failure):
            exchange.not_connected(next_one, -1)
            return None
        if next_one is None:
            self.waiting.append(exchange)
        return next_one

    def forget(self, exchange: Exchange) -> None:
        self.forgotten.append(exchange)

    def has_others(self, tried: int) -> bool:
        return tried != self.all_endpoints

    def tried_in_vain(self, endpoint: int, condition: int) -> None:
        self.vain.append((endpoint, condition))

    def has_room(self, tried: int) -> bool:
        return tried != self.all_endpoints

    def try_again(self, exchange: Exchange, wait_s: float) -> None:
        self.waits.append(wait_s)
        self.waiting.append(exchange)


def response(head: bytes, to_head: bool = False) -> ResponseHead:
    made = parse_response(head, to_head)
    assert isinstance(made, ResponseHead), made
    return made


class Line:
    """A gateway with one client, whose upstreams' pools are told what to give."""

    def __init__(self, config: str, *pools: FakePool, client: FakeClient | None = None, chance: float = 0.0) -> None:
        self.clock = Clock()
        self.client = client or FakeClient()
        self.gateway = gateway_of(snapshot_of(config), self.clock, {pool.name: pool for pool in pools}, lambda: chance)

    @property
    def logged(self) -> list[Exchange]:
        log = self.gateway.log
        assert isinstance(log, FakeLog)
        return log.recorded

    def request(self, head: bytes, body: bytes = b"", complete: bool = True) -> Exchange:
        """A request as it comes from the client; `head` without its empty line."""
        exchange = Exchange(self.gateway, self.client, self.clock())
        parsed = self.gateway.parser.parse(head, 8192, 100)
        if isinstance(parsed, Failure):
            exchange.refuse(parsed)
        else:
            assert isinstance(parsed, RequestHead)
            exchange.begin(parsed, body, complete)
        return exchange

    def get(self, target: str, *lines: bytes, method: str = "GET") -> Exchange:
        return self.request(b"\r\n".join((f"{method} {target} HTTP/1.1".encode(), b"Host: a.test", *lines)))
