"""The compiled, immutable form of one configuration: plain data that pickles, replaced whole and never edited.

The supervisor compiles it once (`config.compile`) and hands it to the workers. Everything that changes while traffic
flows (pools, counters, health) lives elsewhere, in tables keyed by the names found here.
Durations are seconds, sizes bytes; text that goes onto the wire is bytes, ready to be joined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from fastgw.policy.arms import ArmSettings
from fastgw.policy.breaker import BreakerSettings
from fastgw.policy.concurrency import ConcurrencySettings
from fastgw.policy.health import PANIC_THRESHOLD, HealthSettings
from fastgw.policy.log_rule import LogRule
from fastgw.policy.mirror import MirrorSettings
from fastgw.policy.outlier import OutlierSettings
from fastgw.policy.redaction import RedactionSettings
from fastgw.policy.retry import BUDGET_FLOOR_PER_SECOND, BUDGET_SHARE, HedgeSettings, RetrySettings
from fastgw.policy.router import Router
from fastgw.policy.sticky_cookie import StickySettings
from fastgw.policy.tls_session import CertificateNames
from fastgw.policy.trace_context import TracingSettings


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: `host` and `port`, or, when `path` is set, a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of a listener."""

    # Apache, IIS, Tomcat and Node take 8 to 16 KiB a line or head; tokens in cookies have grown since.
    head_size: int = 32 * 1024
    # Apache takes 100, as does Envoy.
    header_count: int = 100
    # What browsers send at the most is 2 KiB; RFC 9112 §3 asks for 8,000 octets at least.
    target_size: int = 8 * 1024
    # Bodies are never kept, so the bound only ends what would go on for ever.
    body_size: int = 16 * 1024**3
    # From the first byte of a head to its last: a phone on a bad network needs 2 s, slowloris all it can get.
    head_timeout: float = 10.0
    # Between requests; longer than the 60 s that browsers and load balancers keep a connection.
    idle_timeout: float = 75.0
    # How long a client may read nothing of an answer that waits for it; nginx gives 60 s.
    write_timeout: float = 60.0
    # Bytes a second, measured after ten seconds of grace: the pace of a 2G phone at its worst.
    body_min_rate: int = 240
    # Lets connections move between workers now and then.
    requests_per_connection: int = 10_000


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain, and its private key: PEM."""

    cert: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """How a listener speaks TLS. What files hold is here itself, so that all workers have the same."""

    pairs: tuple[KeyPair, ...]
    # Each of the contexts has one or more of the pairs, of different kinds of key: `names` chooses the group.
    groups: tuple[tuple[int, ...], ...]
    names: CertificateNames
    min_version: str = "1.2"
    # PEM; empty: clients are not asked for certificates.
    client_ca: bytes = b""
    # Else they may have none.
    requires_client_cert: bool = True
    # Whether the upstreams are told of them.
    client_cert_headers: bool = False
    # Strict-Transport-Security for all answers, a header line begun by CRLF; empty: none.
    hsts: bytes = b""


@dataclass(frozen=True, slots=True)
class Listener:
    name: str
    address: Address
    max_connections: int = 10_000
    limits: Limits = field(default_factory=Limits)
    # None: plain text.
    tls: ListenerTls | None = None
    # Each connection begins with a PROXY header.
    proxy_protocol: bool = False
    # The port of the https URL to which all requests are sent away; 0: none is.
    redirect_to_https: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One backend; `name` is its address as the configuration writes it."""

    name: str
    address: Address
    weight: int = 1
    # Used when no other is available.
    backup: bool = False
    # By hand: it ends what it is busy with, and gets nothing new.
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where endpoints are found: `kind` is "dns" (`name` and `port`), "srv" or "file" (then `name` is its path)."""

    kind: str
    name: str
    port: int = 0
    # "host:port" of the DNS server; empty: the system's.
    server: str = ""
    # The least and the most time for which a DNS answer is believed.
    min_refresh: float = 1.0
    max_refresh: float = 300.0
    # Where relative paths of Unix sockets in a file begin.
    base: str = ""

    def __str__(self) -> str:
        """Tells it from any other."""
        port = f":{self.port}" if self.port else ""
        server = f" at {self.server}" if self.server else ""
        return f"{self.kind} {self.name}{port}{server}"


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How an upstream is spoken to in TLS. What files hold is here itself, so that all workers have the same."""

    verify: bool = True
    # PEM; empty: the system's.
    ca: bytes = b""
    # What is asked for and verified; empty: each endpoint's own host.
    server_name: str = ""
    # PEM, our own.
    cert: bytes = b""
    key: bytes = field(default=b"", repr=False)
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How an endpoint is checked: by GET for `path`, or, when that is empty, by connecting."""

    settings: HealthSettings
    path: str = ""
    # Empty: the endpoint's own.
    host: str = ""
    # First and last.
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    # What the answer contains.
    body: bytes = b""
    timeout: float = 2.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is sent again. A body of up to `max_body` bytes is kept for that."""

    settings: RetrySettings
    budget_share: float = BUDGET_SHARE
    budget_floor: float = BUDGET_FLOOR_PER_SECOND
    max_body: int = 64 * 1024
    # When a second try goes out while the first is awaited; None: no route asks for it.
    hedge: HedgeSettings | None = None
    # What holds for a route that says nothing of it.
    hedges_by_default: bool = False


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    # With `discover`, those to begin with.
    endpoints: tuple[Endpoint, ...]
    balance: str = "round-robin"
    connect_timeout: float = 2.0
    response_timeout: float = 30.0
    # Between two reads of an answer's body, or two writes of a request's.
    body_timeout: float = 60.0
    # Of a tunnel (WebSocket) through which nothing passes; HAProxy's documentation suggests an hour.
    tunnel_timeout: float = 3600.0
    idle_timeout: float = 60.0
    max_connections: int = 256
    # 0: as many as the endpoints take.
    max_requests: int = 0
    max_queued: int = 1024
    queue_timeout: float = 1.0
    # How long a resolved name is believed.
    dns_refresh: float = 30.0
    # None: plain text.
    tls: UpstreamTls | None = None
    # "v1" or "v2": each connection begins with a header that tells of its client; "": none.
    proxy_protocol: str = ""
    # What is hashed with balance = "hash": its kind, and its name where it has one.
    hash_on: tuple[str, str] = ("", "")
    slow_start: float = 0.0
    panic_threshold: float = PANIC_THRESHOLD
    sticky: StickySettings | None = None
    # None: they are not found, made, kept, used.
    discover: Discovery | None = None
    health: HealthCheck | None = None
    outliers: OutlierSettings | None = None
    retry: RetryPolicy | None = None
    breaker: BreakerSettings | None = None
    concurrency: ConcurrencySettings | None = None


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """`drop` finds the header lines to leave out (each from its CRLF on); `lines` holds what is added, each line
    begun by CRLF. `names` are the names dropped, lower-case."""

    drop: re.Pattern[bytes] | None
    lines: bytes
    names: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class LocalReply:
    """An answer that the gateway gives by itself: `respond` and `redirect`.

    `lines` are its header lines but for the framing, each begun by CRLF. `location`, when set, makes the
    Location header from the captured segments, as `PathTemplate` does; the request's query is appended when
    `keep_query` says so.
    """

    status: int
    lines: bytes
    body: bytes
    location: PathTemplate | None = None
    keep_query: bool = False


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """Literals and captured segments in turn: literals[0] + captured[indexes[0]] + literals[1] + …"""

    literals: tuple[bytes, ...]
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`path` replaces the whole path; `strip_prefix` is taken off its front; `host` replaces Host."""

    path: PathTemplate | None = None
    strip_prefix: bytes = b""
    host: bytes = b""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies of a route's requests go; `sample` is their share. `compare_sample` is the share of their answers
    that is compared; a request's body of up to `max_body` bytes is copied."""

    upstream: str
    sample: float = 1.0
    max_body: int = 64 * 1024
    # Per worker; and of one copy, until its answer is there.
    max_in_flight: int = 256
    timeout: float = 10.0
    # None: nothing is.
    compare: MirrorSettings | None = None
    compare_sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to the requests that a rule matches. Exactly one of `upstreams` and `reply` is set.

    A step that the route does not use is None.
    """

    name: str
    upstreams: tuple[str, ...]
    weights: tuple[int, ...]
    # How one of several is chosen; None: by lot.
    arms: ArmSettings | None = None
    reply: LocalReply | None = None
    rewrite: Rewrite | None = None
    # Of the whole exchange; 0: no bound but the upstream's own.
    timeout: float = 0.0
    # What it says of its upstream's retries.
    retries: bool = True
    retries_any_method: bool = False
    # Whether slow ones are sent twice; None: as the upstream says.
    hedges: bool | None = None
    request_edits: HeaderEdits | None = None
    response_edits: HeaderEdits | None = None
    mirror: Mirror | None = None
    # None: as for all exchanges.
    log: LogRule | None = None
    # Whether it takes part in traces, and the share that is recorded; None: as in the others.
    is_traced: bool = True
    trace_sample: float | None = None
    # Its reply is for an ACME authority (RFC 8555 §8.3), which asks in plain text: given where all others are sent to
    # https, too.
    answers_authority: bool = False


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """`transport` is "udp", "tcp" or "unix"; `facility` a number of RFC 5424 §6.2.1."""

    transport: str
    address: Address
    facility: int
    tag: str


@dataclass(frozen=True, slots=True)
class AccessLog:
    """`path` is "stdout", a file's path, "off", or as a syslog was written; `format` "json" or "combined"."""

    path: str
    format: str
    fields: tuple[str, ...]
    redaction: RedactionSettings = field(default_factory=RedactionSettings)
    # Of the exchanges whose route has none; None: none has, and all get a line.
    rule: LogRule | None = None
    syslog: SyslogTarget | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One configuration, compiled. `router` gives the index of a request's route in `routes`."""

    listeners: tuple[Listener, ...]
    upstreams: dict[str, Upstream]
    routes: tuple[Route, ...]
    router: Router
    access_log: AccessLog
    # A client in one of these networks is believed about whom it speaks for; so is one on a Unix socket if
    # "unix:" was named.
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    trusts_unix: bool = False
    # Some listener tells upstreams of client certificates, so no client of any may.
    has_client_cert_headers: bool = False
    drain_timeout: float = 30.0
    workers: int = 1
    pin_workers: bool = False
    hang_timeout: float = 10.0
    # Whether the supervisor reloads a configuration whose file has changed.
    watch: bool = False
    # Whether somebody may read how the workers are, and also what each request was.
    is_observed: bool = False
    counts_requests: bool = False
    # For how many seconds a reload is tried by one worker first.
    canary: float = 0.0
    # None: nothing is traced.
    tracing: TracingSettings | None = None
    # What an ACME authority is shown that asks for a name in TLS (RFC 8737); empty but for the seconds of an order.
    tls_challenges: dict[bytes, KeyPair] = field(default_factory=dict)
