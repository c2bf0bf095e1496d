from __future__ import annotations

import pytest

from fastgw.exchange import Exchange
from fastgw.policy.log_filter import LogFilter, log_filter
from tests.fakes import Line

CONFIG = '[[routes]]\nname = "r"\npath = "/r"\nrespond.body = "x"\n'


def ended(path: str = "/r", status: int = 200) -> Exchange:
    exchange = Line(CONFIG).get(path)
    exchange.status = status
    return exchange


def test_all_are_taken_if_nothing_is_said() -> None:
    everything = log_filter(None, None)
    assert everything == LogFilter()
    assert all(everything.takes(ended(path, status)) for path in ("/r", "/other") for status in (0, 200, 503))


def test_a_route_s_are_taken_and_those_of_none() -> None:
    assert [log_filter("r", None).takes(ended(path)) for path in ("/r", "/other")] == [True, False]
    assert [log_filter("", None).takes(ended(path)) for path in ("/r", "/other")] == [False, True]


@pytest.mark.parametrize(
    ("written", "taken"), [("404", [404]), ("4xx", [400, 404, 499]), ("5xx", [500, 599]), ("1xx", [101])]
)
def test_a_status_or_a_class_of_them_is_taken(written: str, taken: list[int]) -> None:
    wanted = log_filter(None, written)
    statuses = (0, 101, 200, 399, 400, 404, 499, 500, 599)
    assert [status for status in statuses if wanted.takes(ended(status=status))] == taken


@pytest.mark.parametrize("written", ["", "6xx", "5XX", "99", "4x", "1000", "200 ", "-1", "٤٠٤"])
def test_what_is_no_status_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no status"):
        log_filter(None, written)
