"""The tables of `resilience` made into what the snapshot has."""

from __future__ import annotations

from typing import Literal

from fastgw.config.resilience import Health, Hedge, Outliers, Retry
from fastgw.policy import retry as retry_policy
from fastgw.policy.health import FAST_SHARE, HealthSettings
from fastgw.policy.outlier import OutlierSettings
from fastgw.policy.retry import HedgeSettings, RetrySettings
from fastgw.snapshot import HealthCheck, RetryPolicy

_CONDITIONS = {
    "connect-failure": retry_policy.CONNECT_FAILURE,
    "reset": retry_policy.RESET,
    "empty-answer": retry_policy.EMPTY_ANSWER,
    "timeout": retry_policy.TIMEOUT,
}


def health_check(health: Health) -> HealthCheck:
    fast_interval = health.fast_interval or health.interval * FAST_SHARE
    return HealthCheck(
        HealthSettings(health.rise, health.fall, health.interval, fast_interval),
        health.path or "",
        health.host or "",
        tuple(health.status),
        (health.body or "").encode(),
        health.timeout,
    )


def outlier_settings(outliers: Outliers) -> OutlierSettings:
    return OutlierSettings(
        consecutive_failures=outliers.consecutive_failures,
        failure_rate=outliers.failure_rate,
        window=outliers.window,
        min_answers=outliers.min_answers,
        latency_factor=float(outliers.latency_factor),
        base_ejection=outliers.eject_for,
        max_ejection=outliers.max_eject_for,
        max_ejected=outliers.max_ejected,
    )


def retries(retry: Retry, is_hedge_asked_for: bool) -> RetryPolicy:
    """`is_hedge_asked_for`: by a route."""
    hedge = _hedge_settings(retry.hedge, is_hedge_asked_for)
    conditions = retry_policy.SLOW if hedge is not None else 0
    for condition in retry.on:
        conditions |= _CONDITIONS.get(condition, retry_policy.STATUS)
    settings = RetrySettings(
        conditions=conditions,
        statuses=frozenset(int(condition) for condition in retry.on if condition not in _CONDITIONS),
        tries=1 + retry.attempts,
        base_backoff=retry.backoff,
        max_backoff=retry.max_backoff,
        max_retry_after=retry.max_retry_after,
    )
    is_for_all = retry.hedge is not False and retry.hedge.all_routes
    return RetryPolicy(settings, retry.budget, retry.budget_floor, retry.max_body, hedge, is_for_all)


def _hedge_settings(hedge: Hedge | Literal[False], is_asked_for: bool) -> HedgeSettings | None:
    """None: no route of the upstream needs them."""
    if hedge is False:
        return HedgeSettings() if is_asked_for else None
    return HedgeSettings(hedge.quantile, hedge.min_delay) if is_asked_for or hedge.all_routes else None
