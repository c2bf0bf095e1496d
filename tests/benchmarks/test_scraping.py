from __future__ import annotations

import re

import pytest

from benchmarks import scraping


def test_it_says_what_clients_see_with_scrapes_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert scraping.main(["--rounds", "2", "--seconds", "0.3", "--routes", "3"]) == 0
    *phases, scrapes = capsys.readouterr().out.splitlines()
    assert len(phases) == 2
    assert all(re.search(r"p50 \d+\.\d\d  p99 \d+\.\d\d  p99\.9 \d+\.\d\d ms  0 errors$", phase) for phase in phases)
    found = re.fullmatch(r"2 scrapes of ([\d,]+) lines, \d+ ms each, \d+ at most", scrapes)
    assert found is not None
    # At the least a histogram for each route.
    assert int(found[1].replace(",", "")) > 3 * 24
