"""The workloads: what clients ask for, how, and over how many routes. Plain data; nothing here does I/O."""

from dataclasses import dataclass, replace
from enum import Enum

JSON_BODY = (
    b'{"id":1027,"name":"Enamel mug, 350 ml","price":{"amount":"14.90","currency":"EUR"},'
    b'"stock":4210,"tags":["kitchen","camping"]}'
)
JSON_PATH = "items/1027"
ECHO_PATH = "echo-heads"  # the backend answers with the forwarding headers it received
COUNTED_PATH = "counted"  # the backend notes the port from which it was asked
FILE_100K = ("100k.bin", 100 * 1024)
FILE_10M = ("10m.bin", 10 * 1024 * 1024)


class Heads(Enum):
    """What the request heads look like."""

    BARE = "only Host"
    BROWSER = "Host and 12 headers as a browser sends them, different in every request"


class Kind(Enum):
    """How a workload is driven."""

    LOAD = "keep all connections busy for a while"
    IDLE = "one request on each connection, then hold it open"
    CONNECTING = "a new connection for each request, without wrk, which resumes TLS sessions and breaks requests off"
    SCALING = "with one worker and with two, in turns"
    BALANCE = "how evenly connections and requests come to the workers"


@dataclass(frozen=True, slots=True)
class Workload:
    """One row group of the report."""

    name: str
    summary: str
    path: str = JSON_PATH  # below the route's own prefix, /svcN/
    heads: Heads = Heads.BARE
    kind: Kind = Kind.LOAD
    routes: int = 1
    connections: int = 64
    distinct_requests: int = 256
    request_body_bytes: int = 0
    response_body_bytes: int = len(JSON_BODY)
    new_connection_each: bool = False
    tls: bool = False
    workers: int = 1
    peers: tuple[str, ...] = ("fastgw", "nginx", "haproxy")
    start_seconds: float = 15.0  # a peer that is not ready by then is skipped, with this as the reason
    smoke: bool = False

    @property
    def method(self) -> str:
        return "POST" if self.request_body_bytes else "GET"


def _balance(workers: int, smoke: bool = False) -> Workload:
    return Workload(
        f"accept-balance-{workers}",
        f"what the busiest of {workers} workers has, to the mean",
        path=COUNTED_PATH,
        kind=Kind.BALANCE,
        workers=workers,
        connections=1000,
        peers=("fastgw", "nginx", "nginx-reuseport"),
        smoke=smoke,
    )


def _routes(count: int, start_seconds: float = 15.0) -> Workload:
    # 4096 requests for 4096 different routes where there are as many: a table that outgrows the caches shows.
    return Workload(
        f"routes-{count}",
        f"small JSON, bare heads, the same mix spread over {count:,} routes",
        routes=count,
        distinct_requests=4096,
        start_seconds=start_seconds,
    )


WORKLOADS: tuple[Workload, ...] = (
    Workload("json-bare", "small JSON, bare heads", smoke=True),
    Workload(
        "guards",
        "small JSON, bare heads; with and without all that guards an upstream",
        peers=("fastgw", "fastgw-guarded", "nginx"),
    ),
    Workload(
        "observed",
        "small JSON, bare heads; without a log, with it, and with metrics and tracing beside it",
        peers=("fastgw-unobserved", "fastgw", "fastgw-observed", "nginx-unobserved", "nginx"),
    ),
    Workload(
        "compiled",
        "small JSON, bare heads; the hot path interpreted and compiled, and that without a log, and with all of it",
        peers=("fastgw", "fastgw-compiled", "fastgw-compiled-unobserved", "fastgw-compiled-observed", "nginx"),
    ),
    Workload(
        "hedge",
        "small JSON, bare heads; retries without hedging, and with it, while nothing is sent twice",
        peers=("fastgw-retries", "fastgw-hedging", "nginx"),
    ),
    Workload(
        "tracing",
        "small JSON, 12 browser headers; without tracing, with it while nothing is recorded, and while all is",
        heads=Heads.BROWSER,
        peers=("fastgw", "fastgw-traced", "fastgw-recording"),
    ),
    Workload(
        "json-browser",
        "small JSON, 12 browser headers, 1,000 routes",
        heads=Heads.BROWSER,
        routes=1000,
        distinct_requests=1000,
        smoke=True,
    ),
    Workload("body-100k", "100 KiB answers", path=FILE_100K[0], response_body_bytes=FILE_100K[1], smoke=True),
    # Few connections: 64 would keep 640 MB in flight, and the window's edges would outweigh its middle.
    Workload("body-10m", "10 MiB answers", path=FILE_10M[0], response_body_bytes=FILE_10M[1], connections=8),
    Workload(
        "post-10k",
        "10 KiB JSON request bodies",
        request_body_bytes=10 * 1024,
        distinct_requests=64,
        smoke=True,
    ),
    Workload("connections-1000", "small JSON over 1,000 busy connections", connections=1000),
    Workload("new-connections", "small JSON, a new connection for every request", new_connection_each=True),
    _routes(10),
    _routes(1000),
    _routes(100_000, start_seconds=90.0),
    Workload("tls-keepalive", "small JSON over TLS 1.3, bare heads", tls=True, smoke=True),
    Workload(
        "tls-body-100k", "100 KiB answers over TLS 1.3", path=FILE_100K[0], response_body_bytes=FILE_100K[1], tls=True
    ),
    Workload(
        "tls-handshakes",
        "small JSON, a new connection with a full TLS 1.3 handshake (ECDSA P-256) for every request",
        kind=Kind.CONNECTING,
        new_connection_each=True,
        connections=8,
        distinct_requests=1,
        tls=True,
        smoke=True,
    ),
    Workload(
        "tls-idle-memory",
        "memory held by 2,000 idle keep-alive connections over TLS 1.3",
        kind=Kind.IDLE,
        connections=2000,
        distinct_requests=1,
        tls=True,
    ),
    Workload(
        "idle-memory",
        "memory held by 10,000 idle keep-alive connections",
        kind=Kind.IDLE,
        connections=10_000,
        distinct_requests=1,
        smoke=True,
    ),
    # As many connections for each worker.
    Workload("two-workers", "small JSON, bare heads; one worker, then two", kind=Kind.SCALING, workers=2, smoke=True),
    _balance(2, smoke=True),
    _balance(4),
)


def named(name: str) -> Workload:
    """The workload of that name; KeyError when there is none."""
    return {workload.name: workload for workload in WORKLOADS}[name]


def for_smoke() -> list[Workload]:
    """A few of them, small enough for a machine that only shows that the harness works."""
    chosen = [workload for workload in WORKLOADS if workload.smoke]
    return [replace(w, connections=200) if w.kind is Kind.IDLE else w for w in chosen]
