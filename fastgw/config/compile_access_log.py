"""The access log's settings, and those of a route's exchanges, made into what the snapshot has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastgw.config.access_log import FACILITIES, AccessLog, LogPath, Redact, RouteLog, Syslog
from fastgw.policy.log_rule import LogRule
from fastgw.policy.redaction import RedactionSettings, plain_name
from fastgw.snapshot import AccessLog as CompiledAccessLog
from fastgw.snapshot import Address, SyslogTarget

_EVERYTHING = LogRule()


def access_log(log: AccessLog, base: Path, of_routes: Sequence[LogRule | None]) -> CompiledAccessLog:
    """`of_routes` are the rules of routes that have one of their own."""
    default = _default(log)
    used = [rule for rule in (default, *of_routes) if rule is not None]
    fields = tuple(log.fields)
    if any(rule.share < 1.0 for rule in used) and "sampled" not in fields:
        # Or nobody could tell how many a line stands for.
        fields = (*fields, "sampled")
    is_elsewhere = log.path.text in ("stdout", "off") or log.path.transport
    return CompiledAccessLog(
        path=log.path.text if is_elsewhere else str(base.absolute() / log.path.text),
        format=log.format,
        fields=fields,
        redaction=_redaction(log.redact),
        rule=default if any(rule != _EVERYTHING for rule in used) else None,
        syslog=_syslog(log.path, log.syslog, base) if log.path.transport else None,
    )


def route_rule(route: RouteLog | bool | None, log: AccessLog) -> LogRule | None:
    """None: that of all exchanges."""
    if route is None:
        return None
    if not isinstance(route, RouteLog):
        return LogRule(is_off=True)
    default = _default(log)
    share = default.share if route.sample is None else route.sample
    slow_s = default.slow_s if route.slow is None else route.slow or _EVERYTHING.slow_s
    return LogRule(share, slow_s)


def _default(log: AccessLog) -> LogRule:
    return LogRule(log.sample, _EVERYTHING.slow_s if log.slow is None else log.slow)


def _redaction(redact: Redact) -> RedactionSettings:
    by_default = RedactionSettings()
    query = by_default.query | {plain_name(name.encode()) for name in redact.query}
    headers = by_default.headers | {name.lower().encode() for name in redact.headers}
    for written in redact.clear:
        kind, _, name = written.partition(":")
        if kind == "query":
            query -= {plain_name(name.encode())}
        else:
            headers -= {name.lower().encode()}
    return RedactionSettings(query, headers)


def _syslog(path: LogPath, syslog: Syslog, base: Path) -> SyslogTarget | None:
    if path.address is None:
        return None
    address = Address(path.address.host, path.address.port)
    if path.address.unix_path:
        address = Address(path=str(base.absolute() / path.address.unix_path))
    return SyslogTarget(path.transport, address, FACILITIES.index(syslog.facility), syslog.tag)
