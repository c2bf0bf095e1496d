"""The tables of an upstream that say what happens when its endpoints are in trouble."""

from __future__ import annotations

from typing import Annotated, Literal

from fastgw.config import resilience_values as r
from fastgw.config import values as v
from fastgw.config.table import Table, setting
from fastgw.config.values import OnOrOff


class Health(Table):
    """Active checks of an upstream's endpoints, made by the supervisor."""

    path: r.CheckPath | None = setting(None, "What is asked for by GET; if absent, a connection is all that is tried.")
    host: v.Authority | None = setting(None, "The Host header of a check; the endpoint's own address if absent.")
    status: list[r.StatusRange] = setting(["200-399"], 'Statuses that are good: "200", "200-399".')
    body: v.Text | None = setting(None, "What a good answer's first 64 KiB contain.")
    interval: v.Duration = setting("5s", "Between two checks of an endpoint.")
    fast_interval: v.Duration | None = setting(
        None, "The same, while the last result contradicts the state; a fifth of `interval` if absent."
    )
    timeout: v.Duration = setting("2s", "For a check as a whole.")
    rise: v.Positive = setting(2, "Good results in a row that bring an endpoint back.")
    fall: v.Positive = setting(3, "Bad results in a row that take it out.")


class Outliers(Table):
    """When an endpoint is ejected for what its answers to live traffic were."""

    consecutive_failures: v.Natural = setting(5, "Failures in a row; 0: any number.")
    failure_rate: r.Share = setting("50%", "More than this share of the answers within the window.")
    window: v.Duration = setting("10s", "The window.")
    min_answers: v.Positive = setting(20, "With fewer in the window, a share says nothing.")
    latency_factor: v.Natural = setting(0, "So many times its siblings' median latency is too slow; 0: nothing is.")
    eject_for: v.Duration = setting("30s", "The first time; twice in a row, for twice as long, and so on.")
    max_eject_for: v.Duration = setting("5m", "For this at the most.")
    max_ejected: r.Share = setting("50%", "The share of the endpoints that may be ejected at once.")


class Hedge(Table):
    """When a second try goes out, to another endpoint, while the first is awaited."""

    quantile: r.Share = setting("95%", "After the time within which this share of the answers comes.")
    min_delay: v.Duration = setting("10ms", "But not sooner.")
    all_routes: v.Flag = setting(True, "Whether it is for all routes to the upstream; false: for those that ask.")


class Retry(Table):
    """When a request is sent again, to another endpoint if there is one."""

    attempts: v.Positive = setting(2, "Beyond the first.")
    on: list[r.RetryCondition] = setting(
        ["connect-failure", "reset", "empty-answer"], 'After what: these, "timeout", and statuses such as "503".'
    )
    budget: r.Share = setting("20%", "Retries as a share of the requests of the last 10 s, per worker.")
    budget_floor: r.Rate = setting("10/s", "As many are allowed in any case.")
    backoff: v.Duration = setting("25ms", "The wait before the first is anything up to this; it doubles each time.")
    max_backoff: v.Duration = setting("250ms", "The longest such wait.")
    max_retry_after: v.DurationOrZero = setting("1s", "Whoever asks for more by Retry-After gets no retry.")
    max_body: v.SizeOrZero = setting("64KiB", "A request whose body is larger is not kept to be sent again.")
    hedge: Annotated[Hedge | Literal[False], OnOrOff(Hedge)] = setting(
        False, "Whether and when a slow request is sent to a second endpoint; true: with all the defaults."
    )


class RouteRetry(Table):
    """What a route says of its upstream's retries."""

    any_method: v.Flag = setting(False, "Its requests may be sent twice whatever their method.")
    hedge: v.Flag | None = setting(None, "Whether slow ones are sent to a second endpoint; as the upstream if absent.")


class Breaker(Table):
    """When an upstream is spared for a while."""

    consecutive_failures: v.Natural = setting(20, "Failures in a row that open it; 0: any number.")
    failure_rate: r.Share = setting("50%", "More than this share of the answers within the window opens it.")
    window: v.Duration = setting("10s", "The window.")
    min_answers: v.Positive = setting(50, "With fewer in the window, a share says nothing.")
    open_for: v.Duration = setting("5s", "For as long requests get 503; then a few are let through.")
    trials: v.Positive = setting(3, "How many are let through, and must succeed.")


class Concurrency(Table):
    """A limit on the requests in flight to an upstream that finds itself from its latency."""

    initial_limit: v.Positive = setting(20, "What it begins with, per worker.")
    min_limit: v.Positive = setting(4, "It is never lower.")
    max_limit: v.Positive = setting(1000, "Nor higher.")
