from __future__ import annotations

from fastgw.policy.ticket_secret import PERIOD_S, SECRET_SIZE, TicketSecret

FIRST = TicketSecret(bytes(SECRET_SIZE), 20_000)
NOON = 20_000.5 * PERIOD_S


def test_it_begins_today() -> None:
    assert TicketSecret.begun(FIRST.value, NOON) == FIRST


def test_it_is_the_same_all_day_and_another_the_next_day() -> None:
    assert FIRST.at(NOON) is FIRST
    following = FIRST.at(NOON + PERIOD_S)
    assert following.period == 20_001
    assert len(following.value) == SECRET_SIZE
    assert following.value != FIRST.value


def test_all_come_to_the_same_whether_they_have_slept_or_not() -> None:
    by_day = FIRST
    for day in range(1, 8):
        by_day = by_day.at(NOON + day * PERIOD_S)
    assert FIRST.at(NOON + 7 * PERIOD_S) == by_day


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    later = FIRST.at(NOON + PERIOD_S)
    assert later.at(NOON) is later


def test_it_is_never_printed() -> None:
    assert repr(FIRST) == "TicketSecret(period=20000)"
