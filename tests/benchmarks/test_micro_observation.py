"""What is measured is what a request is observed by: lines, counts, and what the upstream is told."""

from __future__ import annotations

import pytest

from benchmarks import micro_observation
from benchmarks.micro_observation import CASES, LOG, TRACING, line_with
from fastgw.net.ended import Ended
from fastgw.policy.kind import Record


@pytest.mark.parametrize("name", CASES)
def test_each_part_is_at_work(name: str) -> None:
    line, logs = line_with(CASES[name])
    takes_ended = {part for part in CASES[name] if part != TRACING}
    assert isinstance(line.gateway.log, Ended) == bool(takes_ended)
    assert len(logs) == (LOG in CASES[name])
    ended: list[Record] = []
    line.gateway.log = Ended([ended.extend])
    for _ in range(8):
        line.turn()
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in line.last_answers())
    assert ended
    assert all((b"\r\ntraceparent: " in one.fields) == (TRACING in CASES[name]) for one, *_ in ended)
    for log in logs:
        log.close()


def test_the_table_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert micro_observation.main(["--rounds", "2", "--turns", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in printed[2:]] == list(CASES)
