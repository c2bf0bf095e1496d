"""Defects of `fastgw top`, as it draws and as it ends."""

from __future__ import annotations

import pytest

from fastgw.runtime.top import screen
from tests.runtime.test_top import look, route


@pytest.mark.parametrize("height", [0, 1, 3, 5, 8])
def test_a_small_terminal_was_written_over_its_end(height: int) -> None:
    now = look(1.0, [route("a", 1)], events=[{"at": "t", "kind": "k", "outcome": "o", "detail": "d"}])
    assert len(screen(now, now, 80, height).split("\n")) <= max(height, 1)


def test_what_was_since_the_start_stood_under_the_name_of_a_rate() -> None:
    before, now = look(1.0, [route("a", 1)], 1), look(3.0, [route("a", 9)], 9)
    assert "REQ/S" in screen(before, now, 200, 50)
    assert "REQ/S" not in screen(now, now, 200, 50)
    assert screen(now, now, 200, 50).count("REQUESTS") == 3
