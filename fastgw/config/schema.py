"""The TOML language: every table, every key with its default and what it is for.

These models say what may be written; how a value is read is `values`, what must agree with what is `checks`, and what
becomes of it all is `compile`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fastgw.config import resilience_values as r
from fastgw.config import values as v
from fastgw.config.access_log import AccessLog, RouteLogSetting
from fastgw.config.addresses import ENDPOINT_HINT
from fastgw.config.admin import Admin
from fastgw.config.discovery import Discover
from fastgw.config.mirror import MIRROR_HINT, Mirror
from fastgw.config.resilience import Breaker, Concurrency, Health, Outliers, Retry, RouteRetry
from fastgw.config.sticky import SplitChoice, Sticky
from fastgw.config.table import Table, section, setting
from fastgw.config.tracing import RouteTracing, Tracing
from fastgw.config.values import OffOr, OnOrOff, Short


class Server(Table):
    """The gateway as a whole."""

    workers: v.Workers = setting("auto", 'Worker processes; "auto" is one per core that this process may use.')
    pin_workers: bool = setting(False, "Keep each worker on a processor of its own.")
    hang_timeout: v.Duration = setting("10s", "A worker whose event loop does not turn for as long is replaced.")
    watch: bool = setting(False, "Reload when the configuration's file changes; those of TLS are always watched.")
    canary: v.Duration | None = setting(
        None, "For how long a reload is tried by one worker, and taken back if that does worse; none if absent."
    )
    drain_timeout: v.DurationOrZero = setting("30s", "How long a stop waits for the exchanges in flight.")
    trusted_proxies: list[v.Network] = setting(
        [], 'Whose X-Forwarded-* and PROXY headers are believed: networks, addresses, or "unix:" for Unix sockets.'
    )


class Limits(Table):
    """What one client may ask of a listener."""

    head_size: v.Size = setting("32KiB", "Of a request's head; more gets 431.")
    header_count: v.Positive = setting(100, "Header lines in a request; more gets 431.")
    target_size: v.Size = setting("8KiB", "Of a request's target, path and query; more gets 414.")
    body_size: v.SizeOrZero = setting("16GiB", "Of a request's body; more gets 413.")
    head_timeout: v.Duration = setting("10s", "From the first byte of a request's head to its last.")
    idle_timeout: v.Duration = setting("75s", "Between two requests on a connection.")
    write_timeout: v.Duration = setting("60s", "How long a client may read nothing of an answer that waits.")
    body_min_rate: v.ByteRate = setting("240B/s", "The slowest pace of a request's body, after 10 s of grace.")
    requests_per_connection: v.Positive = setting(10_000, "After as many, the connection is closed.")


class CertificatePair(Table):
    """A certificate and its private key."""

    cert: v.FilePath = Field(
        description="A PEM file with the certificate, and behind it the chain that leads to its authority.",
        examples=["shop.pem"],
    )
    key: v.FilePath | None = setting(None, "A PEM file with its private key; the certificate's file if absent.")


class Hsts(Table):
    """Strict-Transport-Security: browsers come by https only, whatever a link says."""

    max_age: v.DurationOrZero = Field(description="For how long; 0 takes it back.", examples=["365d"])
    include_subdomains: v.Flag = setting(False, "Whether all hosts below are meant, too.")
    preload: v.Flag = setting(False, "Whether browsers may ship with it; very hard to take back.")


_read_hsts = BeforeValidator(lambda value: v.in_table("max_age", "a duration", 'write "365d"', value))


class ListenerTls(Table):
    """TLS to clients."""

    certificates: list[CertificatePair] = Field(
        default=[],
        description="The certificates; the client's server name chooses, and the first is for all others.",
        examples=[[{"cert": "shop.pem", "key": "shop.key"}]],
    )
    acme: v.AcmeNames = setting(
        False, "Whether [acme] gets certificates for the hosts of all routes, or for those that are listed here."
    )
    min_version: v.TlsVersion = setting("1.2", "The lowest version that is spoken.")
    client_ca: v.FilePath | None = setting(
        None, "A PEM file with the authorities of client certificates; if absent, clients are asked for none."
    )
    client_auth: v.ClientAuth = setting("required", "Whether a client must have one of them; with client_ca.")
    client_cert_headers: v.Flag = setting(False, "Whether upstreams are told of them in X-Client-Cert-* headers.")
    hsts: Annotated[Hsts, _read_hsts, Short("For how long.")] | None = setting(
        None, "Strict-Transport-Security in all answers."
    )


class Listener(Table):
    """An address that clients connect to."""

    name: v.Name | None = setting(None, 'Stands in the access log; "listener-N" if absent, N counted from 1.')
    address: v.ListenAddress = Field(
        description="IP address and port, or a Unix socket; a relative path starts at the configuration file.",
        examples=["0.0.0.0:8080"],
    )
    max_connections: v.Positive = setting(10_000, "Open connections per worker; more get 503.")
    tls: ListenerTls | None = setting(None, "TLS to clients; plain text if absent.")
    redirect_to_https: v.HttpsPort = setting(
        False, "Whether all requests are sent to their https URL, with 308; a number is the port of that."
    )
    proxy_protocol: v.Flag = setting(
        False, "Whether each connection begins with a PROXY header, from one of server.trusted_proxies."
    )
    limits: Limits = section(Limits, "What one client may ask for.")


class ExternalAccount(Table):
    """What an authority has given to somebody who has an account there already."""

    key_id: v.Text = Field(description="The name of the key.", examples=["kid-1"])
    hmac_key: v.HmacKey = Field(description="The key, in base64url.", examples=["${ACME_HMAC_KEY}"])


class Acme(Table):
    """Certificates that are got and renewed by themselves (RFC 8555), for listeners that say so."""

    agree_terms: v.Flag = setting(False, "Whether you agree to the authority's terms of service; without, no account.")
    directory: v.HttpsUrl = setting(
        "https://acme-v02.api.letsencrypt.org/directory", "Where the authority's directory is."
    )
    email: v.Email | None = setting(None, "Whom the authority may write to; told when the account is made.")
    storage: v.FilePath = setting("acme", "The directory for the account's key, the certificates and their keys.")
    challenge: v.AcmeChallenge = setting(
        "http-01", "How the authority asks whether a host is ours: in plain text on port 80, or in TLS on 443."
    )
    renew_before: v.Duration | None = setting(
        None, "How long before its end a certificate is renewed; a third of its lifetime if absent."
    )
    ca: v.FilePath | None = setting(
        None, "A PEM file with the authorities that the directory's own TLS is trusted by; the public ones if absent."
    )
    external_account: ExternalAccount | None = setting(None, "The account that the new one belongs to.")


class Endpoint(Table):
    """One backend of an upstream."""

    address: v.EndpointAddress = Field(
        description="host:port, a name or an IP address, or a Unix socket.", examples=["10.0.0.1:80"]
    )
    weight: v.EndpointWeight = setting(1, "Its share of the requests, against the others' weights.")
    backup: v.Flag = setting(False, "Whether it is used only when none of the others is available.")


def read_endpoint(value: object) -> object:
    """An endpoint's table, or the address alone."""
    return v.in_table("address", "an address", ENDPOINT_HINT, value)


_read_endpoint = BeforeValidator(read_endpoint)


class UpstreamTls(Table):
    """TLS to an upstream's endpoints."""

    verify: v.Flag = setting(True, "Whether their certificates must be trusted and theirs.")
    ca: v.FilePath | None = setting(None, "A PEM file with the authorities to trust; the system's if absent.")
    server_name: v.ServerName | None = setting(
        None, "The name that is asked for and verified; each endpoint's own host if absent."
    )
    cert: v.FilePath | None = setting(None, "A PEM file with our own certificate and its chain.")
    key: v.FilePath | None = setting(None, "A PEM file with its private key; the certificate's file if absent.")
    min_version: v.TlsVersion = setting("1.2", "The lowest version that is spoken.")


class Upstream(Table):
    """A group of interchangeable backends."""

    endpoints: list[Annotated[Endpoint, _read_endpoint, Short("The address of an endpoint with weight 1.")]] = setting(
        [], "The backends; with discover, those to begin with."
    )
    discover: Discover | None = setting(None, "Where endpoints are found while the gateway runs.")
    balance: v.Balance = setting("round-robin", "How an endpoint is chosen.")
    hash_on: r.HashKey | None = setting(None, 'What decides with balance = "hash": the same goes to the same endpoint.')
    sticky: Sticky | None = setting(None, "A cookie that brings a client back to its endpoint.")
    slow_start: v.DurationOrZero = setting("0s", "For how long an endpoint that has come back gets less.")
    panic_threshold: r.Share = setting("10%", "When fewer of the endpoints are available, all of them are used.")
    connect_timeout: v.Duration = setting("2s", "For a connection to be made.")
    response_timeout: v.Duration = setting("30s", "From the request's end to the end of the answer's head.")
    body_timeout: v.Duration = setting("60s", "Between two reads of an answer's body, or two writes of a request's.")
    tunnel_timeout: v.Duration = setting("1h", "Of a tunnel (WebSocket) through which nothing passes.")
    idle_timeout: v.Duration = setting("60s", "How long an unused connection is kept.")
    max_connections: v.Positive = setting(256, "Per endpoint and worker; more requests wait.")
    max_requests: v.Natural = setting(0, "At all endpoints together, per worker; more wait. 0: there is no such bound.")
    max_queued: v.Natural = setting(1024, "How many requests wait for a connection; more get 503.")
    queue_timeout: v.DurationOrZero = setting("1s", "How long a request waits for a connection before its 503.")
    dns_refresh: v.Duration = setting("30s", "How long a resolved name is believed.")
    tls: Annotated[UpstreamTls | Literal[False], OnOrOff(UpstreamTls)] = setting(
        False, "Whether and how TLS is spoken to the endpoints; true: with all its defaults."
    )
    proxy_protocol: v.ProxyVersion = setting(
        False, "The version of the PROXY header with which each connection tells of its client; false: none."
    )
    health: Annotated[Health | Literal[False], OnOrOff(Health)] = setting(
        False, "Whether and how endpoints are checked; true: by connecting to them."
    )
    outliers: Annotated[Outliers | Literal[False], OnOrOff(Outliers)] = setting(
        False, "Whether and when an endpoint is ejected for its answers; true: with all the defaults."
    )
    retry: Annotated[Retry | Literal[False], OnOrOff(Retry)] = setting(
        False, "Whether and when a request is sent again; true: with all the defaults."
    )
    breaker: Annotated[Breaker | Literal[False], OnOrOff(Breaker)] = setting(
        False, "Whether and when the upstream is spared for a while; true: with all the defaults."
    )
    concurrency: Annotated[Concurrency | Literal[False], OnOrOff(Concurrency)] = setting(
        False, "Whether the requests in flight are limited by the upstream's latency; true: with all the defaults."
    )


_read_mirror = BeforeValidator(lambda value: v.in_table("upstream", "an upstream's name", MIRROR_HINT, value))


class Match(Table):
    """More that a request must have, all of it.

    "~regex" must match the whole value; "present" and "absent" ask for no value.
    """

    headers: dict[v.TokenName, v.Condition] = setting({}, "By header name.")
    query: dict[v.QueryName, v.Condition] = setting({}, "By query parameter.")
    cookies: dict[v.TokenName, v.Condition] = setting({}, "By cookie name.")


class Split(Table):
    """One part of a split."""

    upstream: v.Text = Field(description="The upstream's name.", examples=["products"])
    weight: v.SplitWeight = setting(1, "Its share of the requests, against the other parts' weights.")


class Respond(Table):
    """An answer that the gateway gives by itself."""

    status: v.Status = setting(200, "The status.")
    body: v.Text | None = setting(None, "The body, as text/plain unless headers say otherwise.")
    json_body: Any = Field(None, alias="json", description="Any value, sent as JSON; instead of body.")
    headers: dict[v.HeaderName, v.HeaderValue] = setting({}, "Headers of the answer.")


class Redirect(Table):
    """An answer that sends the client elsewhere."""

    to: v.RedirectTarget = Field(
        description="A URL or an absolute path; {name} is replaced by the path's parameter.",
        examples=["https://shop.example.com/"],
    )
    status: v.RedirectStatus = setting(308, "301, 302, 303, 307 or 308; the last two keep the method.")
    keep_query: v.Flag = setting(True, "Whether the request's query is put behind it.")


class Rewrite(Table):
    """What the upstream gets instead of what the client sent."""

    path: v.PathTemplateText | None = setting(
        None, "The whole path; {name} is replaced by the path's parameter. The query stays."
    )
    strip_prefix: v.PathPrefix | None = setting(None, "A prefix of the path to leave out.")
    host: v.AuthorityOrOff | None = setting(None, "The Host header; the client's if absent.")


class HeaderEdits(Table):
    """Edits of a message's headers. Names are told apart without regard to case."""

    set: dict[v.HeaderName, v.HeaderValue] = setting({}, "Replaces all lines of that name by one.")
    add: dict[v.HeaderName, v.HeaderValue] = setting({}, "Adds a line, whatever lines there are.")
    remove: list[v.HeaderName] = setting([], "Removes all lines of that name.")


class MessageEdits(Table):
    """Edits of requests or of responses."""

    headers: Annotated[HeaderEdits | Literal[False], OffOr(HeaderEdits)] | None = setting(None, "The headers.")


class Route(Table):
    """A rule that matches requests, and what happens to them: one of upstream, respond and redirect."""

    name: v.Name | None = setting(None, 'Stands in the access log; "route-N" if absent, N counted from 1.')
    host: v.Hosts = setting([], 'Hosts, exact or "*.example.com"; any if absent.')
    path: v.PathText = setting("/*", '{name} is one segment; {name*} or a last "*" is the rest.')
    methods: list[v.Method] = setting([], "Methods; any if absent.")
    match: Match = section(Match, "More that a request must have.")
    upstream: Annotated[list[Split], BeforeValidator(v.split), Short("The name of one upstream.")] | None = setting(
        None, "Where to forward to: one upstream, or a split between several."
    )
    split: SplitChoice | None = setting(None, "How a request's part of a split is chosen; by lot if absent.")
    respond: Respond | None = setting(None, "Answer without an upstream.")
    redirect: Redirect | None = setting(None, "Send the client elsewhere.")
    rewrite: Rewrite | None = setting(None, "What the upstream gets instead of what the client sent.")
    timeout: v.DurationOrOff | None = setting(
        None, "For the whole exchange; none if absent, but the upstream's own hold."
    )
    retry: Annotated[RouteRetry | Literal[False], OffOr(RouteRetry)] | None = setting(
        None, "What differs from the upstream's retries; false: there are none."
    )
    mirror: Annotated[Mirror, _read_mirror, Short("The name of the second upstream.")] | None = setting(
        None, "A second upstream that gets copies of requests."
    )
    log: RouteLogSetting | None = setting(
        None, "What differs from [access_log]; true: all exchanges get a line, false: none does, not even errors."
    )
    tracing: Annotated[RouteTracing | Literal[False], OffOr(RouteTracing)] | None = setting(
        None,
        "What differs from [tracing]; false: nothing is traced, and clients' own lines go on as they are.",
    )
    request: MessageEdits | None = setting(None, "Edits of the request on its way to the upstream.")
    response: MessageEdits | None = setting(None, "Edits of the answer on its way to the client.")


class DefaultEdits(Table):
    """Edits of every route's requests or responses."""

    headers: HeaderEdits | None = setting(None, "The headers.")


class DefaultRewrite(Table):
    """What every route's upstream gets instead of what the client sent."""

    host: v.Authority | None = setting(None, "The Host header.")


class Defaults(Table):
    """What every route gets that does not say otherwise; false on a route switches one off.

    Header edits are merged, and for each name the route's win.
    """

    timeout: v.Duration | None = setting(None, "For the whole exchange.")
    rewrite: DefaultRewrite | None = setting(None, "What upstreams get instead of what clients sent.")
    request: DefaultEdits | None = setting(None, "Edits of requests.")
    response: DefaultEdits | None = setting(None, "Edits of answers.")


class TestRequest(Table):
    """The request of a test."""

    method: v.Method = setting("GET", "The method.")
    url: v.SampleUrl = Field(description="The URL.", examples=["http://shop.example.com/products/1"])
    headers: dict[v.TokenName, v.HeaderValue] = setting({}, "Headers beside Host.")


class Expect(Table):
    """What must become of a test's request."""

    route: v.Text | None = setting(None, "The name of the route that takes it.")
    upstream: v.Text | None = setting(None, "The upstream that it goes to.")
    path: v.Text | None = setting(None, "The path that the upstream gets, with the query if there is one.")
    status: v.Status | None = setting(None, "The status, where the gateway answers by itself.")
    location: v.Text | None = setting(None, "The Location of a redirect.")


class Test(Table):
    """A request, and what must become of it; `fastgw check` runs them all."""

    name: v.Text | None = setting(None, "What the test is about.")
    request: Annotated[TestRequest, BeforeValidator(v.sample_request), Short("METHOD and URL.")] = Field(
        description='"METHOD URL", or a table.', examples=["GET http://shop.example.com/products/1"]
    )
    expect: Expect = Field(description="What must become of it.", examples=[{"route": "product"}])


class Config(Table):
    """The whole file."""

    server: Server = section(Server, "The gateway as a whole.")
    listeners: list[Listener] = setting([], "The addresses that clients connect to.")
    acme: Acme | None = setting(None, "Certificates that are got and renewed by themselves.")
    admin: Admin | None = setting(None, "The HTTP API for those who run the gateway; there is none if absent.")
    tracing: Tracing | None = setting(None, "Traces of exchanges, for an OpenTelemetry collector; none if absent.")
    access_log: AccessLog = section(AccessLog, "One line per exchange.")
    upstreams: dict[v.Name, Upstream] = setting({}, "Groups of backends, by name.")
    routes: list[Route] = setting([], "Which requests go where.")
    defaults: Defaults = section(Defaults, "What every route gets that does not say otherwise.")
    tests: list[Test] = setting([], "Requests, and what must become of them.")
