from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from fastgw.exchange import Exchange
from fastgw.policy.log_rule import LogRule, LogRules
from tests.fakes import Line

CONFIG = '[[routes]]\nname = "r"\nrespond.body = "x"\n'


def ended(duration_s: float = 0.0, status: int = 200, reason: str = "", rule: LogRule | None = None) -> Exchange:
    exchange = Line(CONFIG).get("/")
    exchange.ended = exchange.started + duration_s
    exchange.status, exchange.reason = status, reason
    assert exchange.route is not None
    exchange.route = replace(exchange.route, log=rule)
    return exchange


def test_all_are_kept_by_default() -> None:
    rules = LogRules(LogRule())
    assert all(rules.keeps(ended()) for _ in range(100))
    assert LogRule().slow_s == inf


@pytest.mark.parametrize(("status", "reason"), [(400, ""), (503, "queue-full"), (0, ""), (200, "client-left")])
def test_errors_are_kept_whatever_the_share(status: int, reason: str) -> None:
    rules, exchange = LogRules(LogRule(0.0)), ended(0.0, status, reason)
    assert rules.keeps(exchange)
    assert rules.share(exchange) == 1.0


def test_of_the_others_the_share_is_kept_and_always_the_same() -> None:
    gateway = Line(CONFIG).gateway
    rules, exchange = LogRules(LogRule(0.1)), ended(status=302)
    ids = [gateway.new_request_id() for _ in range(20_000)]
    kept = []
    for request_id in ids:
        exchange.request_id = request_id
        if rules.keeps(exchange):
            kept.append(request_id)
    # Five standard deviations.
    assert abs(len(kept) - 2000) < 5 * 43
    exchange.request_id = kept[0]
    assert LogRules(LogRule(0.1)).keeps(exchange)
    assert rules.share(exchange) == 0.1
    # A smaller share is a part of a larger one, so that gateways with different shares agree.
    exchange.request_id = next(one for one in kept if not _keeps(0.05, one))
    assert not LogRules(LogRule(0.05)).keeps(exchange)
    assert LogRules(LogRule(0.2)).keeps(exchange)


def _keeps(share: float, request_id: bytes) -> bool:
    exchange = ended()
    exchange.request_id = request_id
    return LogRules(LogRule(share)).keeps(exchange)


def test_a_slow_one_is_kept_whatever_the_share() -> None:
    rules = LogRules(LogRule(0.0, slow_s=1.0))
    slow, quick = ended(1.0), ended(0.9)
    assert (rules.keeps(slow), rules.is_slow(slow), rules.share(slow)) == (True, True, 1.0)
    assert (rules.keeps(quick), rules.is_slow(quick)) == (False, False)


def test_a_tunnel_is_never_slow() -> None:
    tunnel = ended(3600.0, status=101)
    assert not LogRules(LogRule(0.0, slow_s=1.0)).keeps(tunnel)
    assert not LogRules(LogRule(0.0, slow_s=1.0)).is_slow(tunnel)


def test_a_route_s_rule_wins() -> None:
    rules = LogRules(LogRule(0.0, slow_s=1.0))
    assert rules.keeps(ended(rule=LogRule()))
    assert not rules.keeps(ended(2.0, rule=LogRule(0.0)))
    assert rules.share(ended(rule=LogRule(0.5))) == 0.5


def test_where_it_is_off_not_even_errors_are_kept() -> None:
    assert not LogRules(LogRule()).keeps(ended(9.0, 500, "internal-error", LogRule(slow_s=1.0, is_off=True)))


def test_what_has_no_route_is_under_the_common_rule() -> None:
    exchange = ended()
    exchange.route = None
    assert LogRules(LogRule()).keeps(exchange)
    assert not LogRules(LogRule(0.0)).keeps(exchange)
