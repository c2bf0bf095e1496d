"""What valgrind counts is read, and is of requests alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import instructions
from benchmarks.instructions import Cost, costs, read_counts, table
from benchmarks.micro_policies import NOTHING
from tests.support.programs import program

TOLD = """\
==7== Cachegrind, a high-precision tracing profiler
==7== I refs:        1,300,000
==7== I1  misses:        3,200
==7== LLi misses:           10
==7== I1  miss rate:      0.25%
==7==
==7== D refs:          500,000  (300,000 rd   + 200,000 wr)
==7== D1  misses:        1,000  (    700 rd   +     300 wr)
==7== LLd misses:            5  (      4 rd   +       1 wr)
==7== LL refs:           4,200  (  3,900 rd   +     300 wr)
==7== LL misses:            15  (     14 rd   +       1 wr)
"""


def test_the_counts_are_those_of_instructions_and_of_misses() -> None:
    assert read_counts(TOLD) == (1_300_000, 4200, 15)


def test_what_valgrind_says_instead_is_told() -> None:
    with pytest.raises(ValueError, match="no I:\nvalgrind: no such tool"):
        read_counts("valgrind: no such tool\n")


def test_the_first_part_stands_whole_and_the_others_with_what_they_add() -> None:
    found = {"nothing": Cost(2000.0, 30.0, 4.0), "log": Cost(2500.0, 29.0, 6.0)}
    assert [line.split() for line in table(found).splitlines()[1:]] == [
        ["nothing", "2,000", "30", "4"],
        ["log", "+500", "+25.0%", "-1", "+2"],
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_counted_is_requests_alone() -> None:
    program("valgrind")
    cost = costs([NOTHING], (2, 4))[NOTHING]
    # The start of the process takes a thousand times as many.
    assert 10_000 < cost.instructions < 1_000_000
    assert cost.instructions > cost.misses > cost.far_misses > 0


def test_a_valgrind_that_fails_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "valgrind"
    broken.write_text("#!/bin/sh\necho 'valgrind: no such tool' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SystemExit) as ended:
        instructions.main(["metrics"])
    assert (ended.value.code, capsys.readouterr().err) == (1, "valgrind: no such tool\n\n")


def test_an_unknown_part_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        instructions.main(["breakers"])
    assert "'breakers' is none of: nothing, access log, " in capsys.readouterr().err
