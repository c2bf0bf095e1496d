from __future__ import annotations

import pytest

from fastgw.runtime.events import DONE, LOST, Event, Events


def test_what_becomes_of_endpoints_pushes_nothing_else_out(capsys: pytest.CaptureFixture[str]) -> None:
    events = Events()
    events.add("reload", DONE, "first")
    for number in range(30):
        events.note("endpoint", "ejected", f"h:{number}")
    events.add("worker", LOST, "second")
    assert [(one.kind, one.detail) for one in events.last] == [
        ("reload", "first"),
        *[("endpoint", f"h:{number}") for number in range(10, 30)],
        ("worker", "second"),
    ]
    # Numbered together, in the order in which they came.
    assert [one.number for one in events.last] == [1, *range(12, 32), 32]
    assert +events.counts == {("reload", "done"): 1, ("endpoint", "ejected"): 30, ("worker", "lost"): 1}
    # A worker says so itself.
    assert "ejected" not in capsys.readouterr().err


def test_of_all_else_the_last_are_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    events = Events()
    events.note("upstream", "breaker-open", "a")
    for number in range(25):
        events.add("reload", DONE, str(number))
    assert [one.detail for one in events.last] == ["a", *map(str, range(5, 25))]
    assert capsys.readouterr().err.count("event ") == 25


def test_whoever_listens_hears_of_both() -> None:
    events = Events()
    with events.listening() as queue:
        events.note("endpoint", "ejected", "h:1")
        events.add("reload", DONE, "it")
        assert [queue.get_nowait().kind for _ in range(2)] == ["endpoint", "reload"]


def test_a_gateway_goes_on_with_the_numbers_of_the_one_before() -> None:
    events = Events()
    history = [Event(7, "reload", DONE, "t", "a"), Event(9, "endpoint", "ejected", "t", "b")]
    events.go_on_from(history)
    events.note("endpoint", "returned", "c")
    assert [(one.number, one.detail) for one in events.last] == [(7, "a"), (9, "b"), (10, "c")]
