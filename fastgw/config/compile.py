"""A checked configuration made into a snapshot. The only file that knows both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Literal, TypeAlias

from fastgw.config import schema
from fastgw.config.addresses import HostPort
from fastgw.config.certificates import group_certificates
from fastgw.config.checks import default_name
from fastgw.config.compile_access_log import access_log, route_rule
from fastgw.config.compile_mirror import mirror_settings
from fastgw.config.compile_resilience import health_check, outlier_settings, retries
from fastgw.config.compile_sticky import arm_settings, sticky_settings
from fastgw.config.cpus import usable_cpus
from fastgw.config.discovery import Discover
from fastgw.config.document import Path, touches
from fastgw.config.patterns import PathPattern, Template, ValueTest
from fastgw.config.problems import Report, path_text
from fastgw.config.resilience import RouteRetry
from fastgw.config.route_checks import json_text
from fastgw.config.tls_files import ListenerFiles, PemFiles, TlsFiles
from fastgw.config.tracing import tracing_settings
from fastgw.policy.breaker import BreakerSettings
from fastgw.policy.concurrency import ConcurrencySettings
from fastgw.policy.router import Condition, Router, Rule
from fastgw.snapshot import (
    Address,
    Discovery,
    Endpoint,
    HeaderEdits,
    KeyPair,
    Limits,
    Listener,
    ListenerTls,
    LocalReply,
    PathTemplate,
    Rewrite,
    Route,
    Snapshot,
    Upstream,
    UpstreamTls,
)

Endpoints: TypeAlias = tuple[Endpoint, ...]

# Of an upstream.
_MADE_APART = {
    "endpoints", "discover", "tls", "proxy_protocol", "hash_on", "sticky",
    "health", "outliers", "retry", "breaker", "concurrency",
}  # fmt: skip


def compile_config(config: schema.Config, router: Router, base: FilePath, tls_files: TlsFiles) -> Snapshot:
    """The snapshot of a configuration without problems; relative paths in it start from `base`. `tls_files` is what
    the files of its TLS hold."""
    server = config.server
    hedged = _hedged_upstreams(config)
    routes = tuple(_route(index, route, config) for index, route in enumerate(config.routes))
    return Snapshot(
        listeners=tuple(
            _listener(index, listener, base, tls_files.listeners.get(index))
            for index, listener in enumerate(config.listeners)
        ),
        upstreams={
            name: _upstream(name, upstream, name in hedged, base, tls_files.upstreams.get(name))
            for name, upstream in config.upstreams.items()
        },
        routes=routes,
        router=router,
        access_log=access_log(config.access_log, base, [route.log for route in routes]),
        trusted_proxies=tuple(network for network in server.trusted_proxies if network is not None),
        trusts_unix=None in server.trusted_proxies,
        has_client_cert_headers=any(
            listener.tls is not None and listener.tls.client_cert_headers for listener in config.listeners
        ),
        drain_timeout=server.drain_timeout,
        workers=usable_cpus() if server.workers == "auto" else server.workers,
        pin_workers=server.pin_workers,
        hang_timeout=server.hang_timeout,
        watch=server.watch,
        is_observed=config.admin is not None or server.canary is not None,
        counts_requests=(config.admin is not None and config.admin.metrics) or server.canary is not None,
        canary=server.canary or 0.0,
        tracing=tracing_settings(config.tracing),
    )


def compile_router(config: schema.Config, report: Report, broken: frozenset[Path]) -> Router:
    """The router of all routes that were understood; reports those that can never match."""
    indexes = [index for index in range(len(config.routes)) if not _is_unclear(index, broken)]
    try:
        router = Router([_rule(config.routes[index]) for index in indexes])
    except ValueError as error:
        report.at_key(("routes",), str(error), "write the parameter's alternatives as match conditions")
        return Router([])
    for hidden, by in router.shadowed():
        message = f"can never match: {path_text(('routes', indexes[by]))} takes all its requests"
        report.at_key(("routes", indexes[hidden]), message, "remove one of them, or tell them apart")
    return router


def _is_unclear(index: int, broken: frozenset[Path]) -> bool:
    return any(touches(broken, ("routes", index, key)) for key in ("host", "path", "methods", "match"))


def _listener(index: int, listener: schema.Listener, base: FilePath, files: ListenerFiles | None) -> Listener:
    return Listener(
        name=listener.name or default_name("listener", index),
        address=_address(listener.address, base),
        max_connections=listener.max_connections,
        limits=Limits(**listener.limits.model_dump()),
        tls=None if listener.tls is None or files is None else _listener_tls(listener.tls, files),
        proxy_protocol=listener.proxy_protocol,
        redirect_to_https=listener.redirect_to_https or 0,
    )


def _listener_tls(tls: schema.ListenerTls, files: ListenerFiles) -> ListenerTls:
    groups, names = group_certificates(files.certificates)
    return ListenerTls(
        pairs=tuple(KeyPair(one.cert, one.key) for one in files.certificates),
        groups=groups,
        names=names,
        min_version=tls.min_version,
        client_ca=files.client_ca,
        requires_client_cert=tls.client_auth == "required",
        client_cert_headers=tls.client_cert_headers,
        hsts=b"" if tls.hsts is None else _hsts_line(tls.hsts),
    )


def _hsts_line(hsts: schema.Hsts) -> bytes:
    directives = [f"max-age={int(hsts.max_age)}"]
    directives += ["includeSubDomains"] if hsts.include_subdomains else []
    directives += ["preload"] if hsts.preload else []
    return b"\r\nStrict-Transport-Security: " + "; ".join(directives).encode()


def _address(address: HostPort, base: FilePath) -> Address:
    if address.unix_path:
        return Address(path=str(base.absolute() / address.unix_path))
    return Address(address.host, address.port)


def _hedged_upstreams(config: schema.Config) -> set[str]:
    """Those with routes that ask for hedging."""
    asking = [route for route in config.routes if route.retry and route.retry.hedge]
    return {part.upstream for route in asking for part in route.upstream or ()}


def _upstream(
    name: str, upstream: schema.Upstream, is_hedged: bool, base: FilePath, files: PemFiles | None
) -> Upstream:
    discover = upstream.discover
    # Whoever speaks for the name that is looked up is one of its addresses.
    found_name = discover.dns.host if discover is not None and discover.dns is not None else ""
    return Upstream(
        name=name,
        endpoints=compile_endpoints(upstream.endpoints, base),
        discover=_discovery(discover, base) if discover is not None else None,
        tls=_upstream_tls(upstream.tls, files, found_name) if upstream.tls and files is not None else None,
        proxy_protocol=upstream.proxy_protocol or "",
        hash_on=upstream.hash_on or ("", ""),
        sticky=sticky_settings(upstream.sticky, f"fastgw_{name}") if upstream.sticky else None,
        health=health_check(upstream.health) if upstream.health else None,
        outliers=outlier_settings(upstream.outliers) if upstream.outliers else None,
        retry=retries(upstream.retry, is_hedged) if upstream.retry else None,
        breaker=BreakerSettings(**upstream.breaker.model_dump()) if upstream.breaker else None,
        concurrency=ConcurrencySettings(**upstream.concurrency.model_dump()) if upstream.concurrency else None,
        **upstream.model_dump(exclude=_MADE_APART),
    )


def compile_endpoints(endpoints: Sequence[schema.Endpoint], base: FilePath) -> Endpoints:
    """Relative paths of Unix sockets start from `base`."""
    return tuple(
        Endpoint(endpoint.address.text, _address(endpoint.address, base), endpoint.weight, endpoint.backup)
        for endpoint in endpoints
    )


def _discovery(discover: Discover, base: FilePath) -> Discovery:
    if discover.file is not None:
        return Discovery("file", str(base.absolute() / discover.file), base=str(base.absolute()))
    server = discover.server.text if discover.server is not None else ""
    bounds = (discover.min_refresh, discover.max_refresh)
    if discover.dns is not None:
        return Discovery("dns", discover.dns.host, discover.dns.port, server, *bounds)
    return Discovery("srv", discover.srv or "", 0, server, *bounds)


def _upstream_tls(tls: schema.UpstreamTls, files: PemFiles, found_name: str) -> UpstreamTls:
    return UpstreamTls(
        verify=tls.verify,
        ca=files.ca,
        server_name=tls.server_name or found_name,
        cert=files.cert,
        key=files.key,
        min_version=tls.min_version,
    )


def _rule(route: schema.Route) -> Rule:
    conditions = (
        *_conditions("header", {name.lower(): test for name, test in route.match.headers.items()}),
        *_conditions("query", route.match.query),
        *_conditions("cookie", route.match.cookies),
    )
    return Rule(
        hosts=tuple(host.encode() for host in route.host),
        path=route.path.pattern,
        methods=tuple(method.encode() for method in route.methods),
        conditions=conditions,
    )


def _conditions(kind: Literal["header", "query", "cookie"], tests: Mapping[str, ValueTest]) -> Iterable[Condition]:
    return (Condition(kind, name.encode(), test.op, test.value.encode()) for name, test in tests.items())


def _route(index: int, route: schema.Route, config: schema.Config) -> Route:
    defaults = config.defaults
    log = route_rule(route.log, config.access_log)
    name = route.name or default_name("route", index)
    timeout = defaults.timeout if route.timeout is None else route.timeout
    request, response = _merged_edits(route.request, defaults.request), _merged_edits(route.response, defaults.response)
    is_traced = route.tracing is not False
    sample = route.tracing.sample if route.tracing else None
    if route.upstream is None:
        reply = _reply(route, response)
        return Route(
            name, (), (), reply=reply, timeout=timeout or 0.0, log=log, is_traced=is_traced, trace_sample=sample
        )
    # A part without weight gets nothing unless a request names it, so nobody needs to look at it.
    parts = [part for part in route.upstream if part.weight or route.split is not None]
    return Route(
        name=name,
        upstreams=tuple(part.upstream for part in parts),
        weights=tuple(part.weight for part in parts),
        arms=arm_settings(route.split, name) if route.split is not None else None,
        rewrite=_rewrite(route, defaults),
        timeout=timeout or 0.0,
        retries=route.retry is not False,
        retries_any_method=route.retry.any_method if route.retry else False,
        hedges=_hedges(route.retry),
        request_edits=_edits(request),
        response_edits=_edits(response),
        mirror=mirror_settings(route.mirror) if route.mirror is not None else None,
        log=log,
        is_traced=is_traced,
        trace_sample=sample,
    )


def _hedges(retry: RouteRetry | Literal[False] | None) -> bool | None:
    if retry is None:
        return None
    return retry is not False and retry.hedge


def _rewrite(route: schema.Route, defaults: schema.Defaults) -> Rewrite | None:
    own = route.rewrite or schema.Rewrite()
    default_host = defaults.rewrite.host if defaults.rewrite else None
    host = (default_host if own.host is None else own.host) or ""
    path = _template(own.path, route.path) if own.path else None
    prefix = own.strip_prefix or b""
    return Rewrite(path, prefix, host.encode()) if path or prefix or host else None


def _template(template: Template, pattern: PathPattern) -> PathTemplate:
    return PathTemplate(template.literals, tuple(pattern.parameters.index(name) for name in template.names))


def _merged_edits(own: schema.MessageEdits | None, default: schema.DefaultEdits | None) -> schema.HeaderEdits | None:
    """A route's header edits over the defaults'; for each name the route's win."""
    headers = own.headers if own else None
    below = default.headers if default else None
    if headers is False:
        return None
    if headers is None or below is None:
        return headers or below
    decided = {name.lower() for names in (headers.set, headers.add, headers.remove) for name in names}
    return schema.HeaderEdits.model_construct(
        set={name: value for name, value in below.set.items() if name.lower() not in decided} | headers.set,
        add={name: value for name, value in below.add.items() if name.lower() not in decided} | headers.add,
        remove=[name for name in below.remove if name.lower() not in decided] + headers.remove,
    )


def _edits(edits: schema.HeaderEdits | None) -> HeaderEdits | None:
    if edits is None or not (edits.set or edits.add or edits.remove):
        return None
    names = [name.lower().encode() for name in (*edits.set, *edits.remove)]
    drop = re.compile(rb"\r\n(?i:" + b"|".join(map(re.escape, names)) + rb"):[^\r]*") if names else None
    return HeaderEdits(drop, _lines((*edits.set.items(), *edits.add.items())), frozenset(names))


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(b"\r\n%b: %b" % (name.encode(), value.encode()) for name, value in headers)


def _reply(route: schema.Route, edits: schema.HeaderEdits | None) -> LocalReply:
    """The answer of `respond` or `redirect`, with the edits of the route's responses made already."""
    if route.redirect is not None:
        redirect = route.redirect
        lines = _edited_lines([], edits)
        return LocalReply(redirect.status, lines, b"", _template(redirect.to, route.path), redirect.keep_query)
    respond = route.respond or schema.Respond.model_validate({})
    body, content_type = (respond.body or "").encode(), "text/plain; charset=utf-8"
    if respond.json_body is not None:
        body, content_type = json_text(respond.json_body).encode(), "application/json"
    headers = list(respond.headers.items())
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("Content-Type", content_type))
    return LocalReply(respond.status, _edited_lines(headers, edits), body)


def _edited_lines(headers: list[tuple[str, str]], edits: schema.HeaderEdits | None) -> bytes:
    if edits is None:
        return _lines(headers)
    dropped = {name.lower() for name in (*edits.set, *edits.remove)}
    kept = [(name, value) for name, value in headers if name.lower() not in dropped]
    return _lines((*kept, *edits.set.items(), *edits.add.items()))
