"""The line that tracing is measured on: real answers, and what each case says."""

from __future__ import annotations

import pytest

from benchmarks import micro_tracing
from benchmarks.micro_policies import CLIENTS, NOTHING
from benchmarks.micro_tracing import CASES, TracedLine


@pytest.mark.parametrize("name", CASES)
def test_every_client_gets_its_answer_and_what_is_recorded_leaves(name: str) -> None:
    traced = TracedLine(CASES[name])
    for _ in range(10):
        traced.line.turn()
        answers = traced.line.last_answers()
        assert len(answers) == CLIENTS
        assert all(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"{}") for answer in answers)
    batches = traced.received()
    assert traced.sink.newly_lost() == 0
    traced.close()
    assert (batches > 0) == (name == "all is recorded")
    assert (traced.line.gateway.tracer is None) == (name == NOTHING)


def test_the_table_has_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert micro_tracing.main(["--rounds", "2", "--turns", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in printed[2:-1]] == list(CASES)
