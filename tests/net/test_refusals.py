from __future__ import annotations

from fastgw.net.refusals import Refusals
from tests.fakes import Clock


def test_ten_lines_a_second_are_written_and_the_others_counted() -> None:
    said: list[str] = []
    clock = Clock()
    refusals = Refusals(said.append, clock)
    for number in range(25):
        refusals.tell("public", f"connection {number} refused")
    assert said == [f"listener public: connection {number} refused" for number in range(10)]
    refusals.tick(clock.now + 0.5)
    assert len(said) == 10
    refusals.tick(clock.now + 1.0)
    assert said[10:] == ["15 more connections were refused within a second"]
    clock.now += 1.5
    refusals.tell("public", "the next")
    refusals.tick(clock.now + 5.0)
    assert said[11:] == ["listener public: the next"]
