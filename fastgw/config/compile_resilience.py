"""The tables of `resilience` made into what the snapshot has."""

from __future__ import annotations

from fastgw.config.resilience import Health, Outliers, Retry
from fastgw.policy import retry as retry_policy
from fastgw.policy.health import HealthSettings
from fastgw.policy.outlier import OutlierSettings
from fastgw.policy.retry import RetrySettings
from fastgw.snapshot import HealthCheck, RetryPolicy

_CONDITIONS = {
    "connect-failure": retry_policy.CONNECT_FAILURE,
    "reset": retry_policy.RESET,
    "empty-answer": retry_policy.EMPTY_ANSWER,
    "timeout": retry_policy.TIMEOUT,
}


def health_check(health: Health) -> HealthCheck:
    return HealthCheck(
        HealthSettings(health.rise, health.fall, health.interval, min(health.fast_interval, health.interval)),
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


def retries(retry: Retry) -> RetryPolicy:
    conditions = 0
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
    return RetryPolicy(settings, retry.budget, retry.budget_floor, retry.max_body)
