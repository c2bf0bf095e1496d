from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.window import SLOTS, Window

# Binary fractions, so that sums of them are exact. The window is 10 s long, and its slots 1 s.
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 3.75, 9.0, 12.0]), st.booleans(), st.booleans()), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_it_counts_what_a_list_of_all_would_count(steps: list[tuple[float, bool, bool]]) -> None:
    window = Window(10.0, 5.0)
    added: list[int] = []
    marked: list[int] = []
    now = 5.0
    for wait, adds, marks in steps:
        now += wait
        slot = int(now - 5.0)
        if adds:
            window.add(now)
            added.append(slot)
        if marks:
            window.mark(now)
            marked.append(slot)
        assert window.total(now) == sum(then > slot - SLOTS for then in added)
        assert window.marked(now) == sum(then > slot - SLOTS for then in marked)


def test_what_is_older_than_the_window_is_gone_and_what_is_younger_than_nine_tenths_is_not() -> None:
    for start in (0.0, 0.5, 0.875):
        window = Window(10.0, 0.0)
        window.add(start)
        window.mark(start)
        assert (window.total(start + 9.0), window.marked(start + 9.0)) == (1, 1)
        assert (window.total(start + 10.0), window.marked(start + 10.0)) == (0, 0)


def test_what_was_cleared_does_not_come_back() -> None:
    window = Window(10.0, 0.0)
    for now in range(5):
        window.add(float(now))
    window.clear()
    window.add(5.0)
    assert [window.total(float(now)) for now in range(5, 17)] == [1] * 10 + [0, 0]


def test_a_clock_that_stood_for_days_is_caught_up_with_at_once() -> None:
    window = Window(0.1, 0.0)
    window.add(0.0)
    assert window.total(1e7) == 0
    window.add(1e7)
    assert window.total(1e7) == 1


def test_a_window_has_a_length() -> None:
    with pytest.raises(ValueError, match="length"):
        Window(0.0, 0.0)
