"""What must agree in the tables that say what happens when endpoints are in trouble."""

from __future__ import annotations

from collections.abc import Mapping

from fastgw.config.document import Path, touches
from fastgw.config.problems import Report
from fastgw.config.resilience import Concurrency, Health, Outliers, Retry
from fastgw.config.schema import Route, Upstream

# Of a smaller share more is lost by the load than can be won by the second answer.
_HEDGE_QUANTILE_MIN = 0.5


def check_resilience(path: Path, upstream: Upstream, report: Report) -> None:
    """Reports all contradictions in those of an upstream."""
    if upstream.health:
        _check_health((*path, "health"), upstream.health, report)
    if upstream.outliers:
        _check_outliers((*path, "outliers"), upstream.outliers, report)
    if upstream.retry:
        _check_retry((*path, "retry"), upstream.retry, report)
    if upstream.concurrency:
        _check_concurrency((*path, "concurrency"), upstream.concurrency, report)


def _check_health(path: Path, health: Health, report: Report) -> None:
    if health.path is None:
        for key in ("host", "status", "body"):
            if key in health.model_fields_set:
                report.at_value((*path, key), "nothing is asked for without a path", 'write path = "/healthz"')
    if health.fast_interval is not None and health.fast_interval > health.interval:
        report.at_value((*path, "fast_interval"), "fast_interval is longer than interval", "write a shorter one")


def _check_outliers(path: Path, outliers: Outliers, report: Report) -> None:
    if outliers.max_eject_for < outliers.eject_for:
        key = "max_eject_for" if "max_eject_for" in outliers.model_fields_set else "eject_for"
        report.at_value((*path, key), "max_eject_for is shorter than eject_for", "write a longer one")


def _check_retry(path: Path, retry: Retry, report: Report) -> None:
    if not retry.on and not retry.hedge:
        report.at_value((*path, "on"), "nothing is retried after", "name something, or write retry = false")
    if retry.hedge and retry.hedge.quantile < _HEDGE_QUANTILE_MIN:
        where: Path = (*path, "hedge", "quantile")
        report.at_value(where, "more than half of the requests would be sent twice", 'write "95%"')
    if retry.max_backoff < retry.backoff:
        key = "max_backoff" if "max_backoff" in retry.model_fields_set else "backoff"
        report.at_value((*path, key), "max_backoff is shorter than backoff", "write a longer one")


def _check_concurrency(path: Path, limits: Concurrency, report: Report) -> None:
    if not limits.min_limit <= limits.initial_limit <= limits.max_limit:
        hint = "write min_limit <= initial_limit <= max_limit"
        report.at_key(path, "the limits are not in order", hint)


def check_route_retry(
    path: Path, route: Route, upstreams: Mapping[str, Upstream], report: Report, broken: frozenset[Path]
) -> None:
    """Reports what a route asks of retries that an upstream of it does not have. `path` is that of its retry."""
    if not route.retry:
        return
    asked = [key for key in ("any_method", "hedge") if getattr(route.retry, key)]
    for part in route.upstream or ():
        upstream = upstreams.get(part.upstream)
        if upstream is None or upstream.retry or touches(broken, ("upstreams", part.upstream, "retry")):
            continue
        for key in asked:
            message = f"upstream {part.upstream} sends nothing again"
            report.at_value((*path, key), message, f"write retry = true in [upstreams.{part.upstream}]")
