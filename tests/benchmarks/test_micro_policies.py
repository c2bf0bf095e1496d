"""The line that policies are measured on: real answers, and the policy that the name says."""

import json
from pathlib import Path

import pytest

from benchmarks import micro_policies
from benchmarks.micro_policies import CLIENTS, ELSEWHERE, NOTHING, ONE_OUT, POLICIES, WARMING, Line


@pytest.mark.parametrize("policy", POLICIES)
def test_every_client_gets_its_answer(policy: str) -> None:
    line = Line(policy)
    for _ in range(80):
        line.turn()
        answers = line.last_answers()
        assert len(answers) == CLIENTS
        assert all(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"{}") for answer in answers)
        # The cookie of a sticky one is known.
        assert not any(b"Set-Cookie" in answer for answer in answers)


def test_a_policy_is_there_when_it_is_measured_and_only_then() -> None:
    states = {name: Line(name).pool.states for name in POLICIES}
    assert [name for name, state in states.items() if state.detector] == ["outliers", "outliers, of latency too", "all"]
    assert [name for name, state in states.items() if state.admission] == ["breaker", "concurrency", "all"]
    assert [name for name, state in states.items() if state.out] == [ONE_OUT]
    assert len(set(states[WARMING].balancer.weights)) == 2  # type: ignore[union-attr]
    for name in (NOTHING, ELSEWHERE):
        unused = states[name]
        assert (unused.observes, unused.ticks, unused.looks_at_request) == (False, False, False)


def test_the_table_and_the_json_have_every_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert micro_policies.main(["--rounds", "2", "--turns", "1", "--json", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "out").read_text())
    assert found["base_us"] > 0
    assert list(found["added_us"]) == list(POLICIES)
    assert all(len(rounds) == 2 for rounds in found["added_us"].values())
    assert [line[:30].strip() for line in printed[2:]] == list(POLICIES)
