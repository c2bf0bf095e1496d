"""What must agree with what in a configuration: names, references, and settings that contradict each other.

Each value by itself was checked when it was read. What was found wrong there is in `broken`, and nothing that depends
on it is said again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastgw.config.access_log_checks import check_access_log
from fastgw.config.acme_checks import check_acme
from fastgw.config.addresses import HostPort
from fastgw.config.admin import check_admin
from fastgw.config.discovery import check_discovery
from fastgw.config.document import Path, touches
from fastgw.config.listener_checks import check_listener
from fastgw.config.problems import Report, did_you_mean, names_there_are, path_text
from fastgw.config.resilience_checks import check_resilience, check_route_retry
from fastgw.config.route_checks import check_edits, check_route
from fastgw.config.schema import Config, Listener, Upstream
from fastgw.config.sticky_checks import check_split_choice, check_sticky
from fastgw.config.tracing import check_route_tracing, check_tracing

# sun_path of Linux's sockaddr_un has 108 bytes with its final NUL.
_UNIX_PATH_MAX = 107


def check(config: Config, report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions."""
    _check_presence(config, report, broken)
    _check_listeners(config.listeners, report, broken)
    for index, listener in enumerate(config.listeners):
        check_listener(("listeners", index), listener, config.server.trusted_proxies, report, broken)
    check_acme(config, report, broken)
    check_admin(config.admin, [listener.address.text for listener in config.listeners], report, broken)
    check_access_log(config.access_log, report, broken)
    if config.access_log.path.address is not None:
        _check_unix(("access_log", "path"), config.access_log.path.address, report)
    check_tracing(config.tracing, report)
    for name, upstream in config.upstreams.items():
        _check_upstream(("upstreams", name), upstream, report, broken)
    names = [route.name or default_name("route", index) for index, route in enumerate(config.routes)]
    _check_names("routes", names, report)
    upstreams = named_tables(report, "upstreams", config.upstreams)
    for index, route in enumerate(config.routes):
        check_route(("routes", index), route, upstreams, report, broken)
        if not any(touches(broken, ("routes", index, key)) for key in ("upstream", "split")):
            check_split_choice(("routes", index, "split"), route, config.upstreams, report)
        check_route_tracing(("routes", index, "tracing"), route.tracing, config.tracing, report, broken)
        check_route_retry(("routes", index, "retry"), route, config.upstreams, report, broken)
    for side, edits in (("request", config.defaults.request), ("response", config.defaults.response)):
        if edits is not None and edits.headers is not None:
            check_edits(("defaults", side, "headers"), edits.headers, report)
    for index, test in enumerate(config.tests):
        path: Path = ("tests", index, "expect")
        if not test.expect.model_fields_set and not touches(broken, path):
            report.at_value(path, "nothing is expected", 'write expect = { route = "NAME" }')
        _check_expectation((*path, "route"), test.expect.route, names, report)
        _check_expectation((*path, "upstream"), test.expect.upstream, upstreams, report)


def default_name(kind: str, index: int) -> str:
    """What an element without a name is called, counted from 1."""
    return f"{kind}-{index + 1}"


def named_tables(report: Report, key: str, models: Mapping[str, object]) -> list[str]:
    """The names that the file defines, with those whose tables are wrong."""
    written = report.document.raw.get(key)
    return list(written) if isinstance(written, dict) else list(models)


def _check_presence(config: Config, report: Report, broken: frozenset[Path]) -> None:
    if not config.listeners and not touches(broken, ("listeners",)):
        report.at_key(("listeners",), "there is no listener", 'write [[listeners]] with address = "0.0.0.0:8080"')
    if not config.routes and not touches(broken, ("routes",)):
        report.at_key(("routes",), "there is no route", 'write [[routes]] with path = "/*" and upstream = "NAME"')


def _check_names(table: str, names: Sequence[str], report: Report) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            before = path_text((table, first[name]))
            report.at_value((table, index, "name"), f"the name is taken by {before}", "give each its own name")


def _check_listeners(listeners: Sequence[Listener], report: Report, broken: frozenset[Path]) -> None:
    names = [listener.name or default_name("listener", index) for index, listener in enumerate(listeners)]
    _check_names("listeners", names, report)
    first: dict[tuple[str, int, str], int] = {}
    for index, listener in enumerate(listeners):
        path: Path = ("listeners", index)
        if touches(broken, (*path, "address")):
            continue
        address = listener.address
        _check_unix((*path, "address"), address, report)
        key = (address.host, address.port, address.unix_path)
        # Port 0 too: it is by its address that a reload knows a listener again.
        if first.setdefault(key, index) != index:
            before = path_text(("listeners", first[key]))
            report.at_value((*path, "address"), f"the address is taken by {before}", "give each its own address")


def _check_unix(path: Path, address: HostPort, report: Report) -> None:
    if address.unix_path and len(str(report.document.base.absolute() / address.unix_path).encode()) > _UNIX_PATH_MAX:
        report.at_value(path, f"the path of a Unix socket has at most {_UNIX_PATH_MAX} bytes", "use a shorter one")


def _check_upstream(path: Path, upstream: Upstream, report: Report, broken: frozenset[Path]) -> None:
    if upstream.discover is not None:
        check_discovery((*path, "discover"), upstream.discover, report, broken)
        _check_found_names(path, upstream, report)
    elif not upstream.endpoints and not any(touches(broken, (*path, key)) for key in ("endpoints", "discover")):
        _report_no_endpoint((*path, "endpoints"), upstream, report)
    first: dict[str, int] = {}
    for index, endpoint in enumerate(upstream.endpoints):
        where: Path = (*path, "endpoints", index)
        _check_unix((*where, "address"), endpoint.address, report)
        if first.setdefault(endpoint.address.text, index) != index:
            report.at_value((*where, "address"), "the endpoint is there twice", "give one of them the weight of both")
    if upstream.endpoints and all(endpoint.backup for endpoint in upstream.endpoints):
        where = (*path, "endpoints", 0, "backup")
        report.at_value(where, "all are backups, and there is nobody to stand in for", "remove backup from one")
    if upstream.balance == "hash" and upstream.hash_on is None:
        report.at_value((*path, "balance"), "nothing is said of what is hashed", 'write hash_on = "client.ip"')
    if upstream.balance != "hash" and upstream.hash_on is not None:
        report.at_key((*path, "hash_on"), "nothing is hashed", 'write balance = "hash"')
    if upstream.sticky is not None:
        check_sticky((*path, "sticky"), upstream.sticky, report)
    check_resilience(path, upstream, report)


def _report_no_endpoint(path: Path, upstream: Upstream, report: Report) -> None:
    hint = 'write endpoints = ["10.0.0.1:80"]'
    if "endpoints" in upstream.model_fields_set:
        report.at_value(path, "there is no endpoint", hint)
    else:
        report.at_key(path[:-1], "endpoints is missing", hint)


def _check_found_names(path: Path, upstream: Upstream, report: Report) -> None:
    """Who is found by SRV records has an address and no name of its own: a target's is as good as who wrote it."""
    tls = upstream.tls
    if tls and tls.verify and tls.server_name is None and upstream.discover and upstream.discover.srv:
        message = "what SRV records lead to has no name that could be verified"
        report.at_key((*path, "tls"), message, 'write server_name = "products.internal"')


def _check_expectation(path: Path, name: str | None, known: Sequence[str], report: Report) -> None:
    if name is not None and name not in known:
        suggestion = did_you_mean(name, known) or names_there_are(known)
        report.at_value(path, f"there is no {path[-1]} {report.show(path)}", suggestion)
