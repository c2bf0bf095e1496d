from __future__ import annotations

import re

import pytest

from benchmarks import micro_metrics


def test_it_says_what_counting_and_a_scrape_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert micro_metrics.main(["--rounds", "3", "--batches", "2", "--routes", "5"]) == 0
    counted, *many, scraped = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+\.\d\d µs to count an exchange", counted)
    for routes, line in zip((5, 25), many, strict=True):
        assert re.fullmatch(rf"\d+\.\d\d µs where there are {routes} routes, and then \d+\.\d ms for ten .*", line)
    found = re.fullmatch(r"\d+ ms for a scrape of 5 routes and 4 workers, ([\d,]+) lines, .*", scraped)
    assert found is not None
    # All counters of five routes and of what no route has matched, and more.
    assert int(found[1].replace(",", "")) > 6 * 100
