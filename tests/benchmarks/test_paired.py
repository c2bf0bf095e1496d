from __future__ import annotations

import re
import signal

import pytest

from benchmarks import backend, paired
from benchmarks.processes import NotStartedError
from tests.support.programs import program


def test_both_have_their_costs_told_and_the_second_s_share_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    program("wrk")
    assert backend.missing() is None or program("nginx")
    assert paired.main(["fastgw-unobserved", "fastgw", "--rounds", "1", "--seconds", "2"]) == 0
    first, second, ratio = capsys.readouterr().out.splitlines()[-3:]
    costs = [re.fullmatch(r"fastgw\S* +(\d+\.\d) µs/request", line) for line in (first, second)]
    assert all(found is not None and float(found[1]) > 1 for found in costs)
    assert re.fullmatch(r"second to first: \d\.\d{3} \(\d\.\d{3}-\d\.\d{3}\), 1 rounds", ratio)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert paired.main(["fastgw", "nginx"]) == 1
    assert "wrk is not installed" in capsys.readouterr().err


def test_no_load_is_left_when_something_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program("wrk")
    assert backend.missing() is None or program("nginx")
    loads = []

    def fail(side: paired._Side) -> None:
        loads.append(side.load)
        raise NotStartedError("it is interrupted")

    monkeypatch.setattr(paired._Side, "take_turn", fail)
    assert paired.main(["fastgw-unobserved", "fastgw", "--rounds", "1", "--seconds", "2"]) == 1
    assert "it is interrupted" in capsys.readouterr().err
    assert [load.returncode for load in loads] == [-signal.SIGKILL]
