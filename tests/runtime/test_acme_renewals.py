from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.runtime.acme_renewals import ATTEMPTS_PER_HOUR, HOUR_S, RETRY_MAX_S, Renewals, Validity

DAY_S = 86400.0
NOW = 1_800_000_000.0
QUARTER = Validity(NOW, NOW + 90 * DAY_S)


def renewals(
    *names: str,
    renew_before: float = 0.0,
    validities: dict[str, Validity] | None = None,
    attempts: dict[str, list[float]] | None = None,
) -> Renewals:
    made = Renewals(names or ("a.test",), renew_before, attempts or {})
    made.validities = validities or {}
    return made


def test_what_is_missing_is_due_at_once_in_the_order_of_the_names() -> None:
    made = renewals("c.test", "b.test", "a.test", validities={"c.test": QUARTER})
    assert made.next() == ("b.test", 0.0)
    made.succeeded("b.test", QUARTER)
    assert made.next() == ("a.test", 0.0)
    made.succeeded("a.test", QUARTER)
    assert NOW + 60 * DAY_S <= made.next()[1] <= NOW + 63 * DAY_S


@pytest.mark.parametrize(
    ("lifetime_days", "renew_before_days", "left_days"),
    [(90, 0, 30), (6, 0, 2), (90, 7, 7), (90, 60, 60), (90, 400, 60), (1, 30, 2 / 3)],
)
def test_it_is_renewed_before_its_end_but_never_in_its_first_third(
    lifetime_days: float, renew_before_days: float, left_days: float
) -> None:
    validity = Validity(NOW, NOW + lifetime_days * DAY_S)
    for name in ("a.test", "b.test", "c.test"):
        at = renewals(name, renew_before=renew_before_days * DAY_S, validities={name: validity}).due(name)
        assert left_days * 0.9 <= (validity.ends - at) / DAY_S <= left_days + 0.001


def test_those_that_came_together_are_renewed_apart_and_always_then() -> None:
    names = [f"{number}.test" for number in range(20)]
    made = renewals(*names, validities=dict.fromkeys(names, QUARTER))
    assert len({round(made.due(name)) for name in names}) == 20
    again = renewals(*names, validities=dict.fromkeys(names, QUARTER))
    assert [again.due(name) for name in names] == [made.due(name) for name in names]


def failing(made: Renewals, seconds: float) -> list[float]:
    """When attempts begin, one after the other, in so many seconds."""
    now, begun = NOW, []
    while now < NOW + seconds:
        begun.append(now - NOW)
        made.begun("a.test", now)
        made.failed("a.test", now, 0.0)
        now = made.due("a.test")
    return begun


def test_failures_are_repeated_five_times_in_the_first_hour_and_then_up_to_every_six() -> None:
    begun = failing(renewals(), 48 * HOUR_S)
    assert [at / 60 for at in begun[:6]] == [0, 1, 4, 13, 40, 121]
    assert begun[-1] - begun[-2] == RETRY_MAX_S


def test_the_authority_s_word_on_when_to_come_again_is_heeded() -> None:
    made = renewals()
    made.begun("a.test", NOW)
    assert made.failed("a.test", NOW, 7200.0) == 7200.0
    assert made.failed("a.test", NOW, 1.0) == 180.0


def test_one_that_fails_keeps_no_other_waiting() -> None:
    made = renewals("a.test", "b.test")
    made.begun("a.test", NOW)
    made.failed("a.test", NOW, 0.0)
    assert made.next() == ("b.test", 0.0)


def test_what_is_nobody_s_fault_keeps_all_waiting_and_is_no_attempt() -> None:
    made = renewals("a.test", "b.test")
    for count, minutes in enumerate((1, 3, 9)):
        made.begun("a.test", NOW + count)
        assert made.paused("a.test", NOW + count, 0.0) == minutes * 60
    assert made.next() == ("a.test", NOW + 2 + 540)
    assert made.attempts["a.test"] == []
    made.succeeded("b.test", QUARTER)
    assert made.due("a.test") == 0.0


def test_a_failure_that_is_one_name_s_ends_the_pause_s_growth() -> None:
    made = renewals("a.test", "b.test")
    made.begun("a.test", NOW)
    made.paused("a.test", NOW, 0.0)
    made.begun("a.test", NOW)
    made.failed("a.test", NOW, 0.0)
    made.begun("b.test", NOW)
    assert made.paused("b.test", NOW, 0.0) == 60.0


def test_a_failing_renewal_is_repeated_and_a_success_forgets_it() -> None:
    made = renewals(validities={"a.test": QUARTER})
    now = made.due("a.test")
    made.begun("a.test", now)
    assert made.failed("a.test", now, 0.0) == 60.0
    later = Validity(now, now + 90 * DAY_S)
    made.succeeded("a.test", later)
    assert made.due("a.test") >= now + 60 * DAY_S
    made.begun("a.test", made.due("a.test"))
    assert made.failed("a.test", now, 0.0) >= 60.0


def test_one_that_goes_lost_as_soon_as_it_is_there_is_not_ordered_in_a_circle() -> None:
    made, now = renewals(), NOW
    for _ in range(ATTEMPTS_PER_HOUR):
        assert made.due("a.test") <= now
        made.begun("a.test", now)
        made.succeeded("a.test", QUARTER)
        made.validities = {}
        now += 60.0
    assert made.due("a.test") == NOW + HOUR_S


@given(st.lists(st.floats(0, 7200), min_size=1, max_size=20))
def test_whatever_kills_it_it_makes_no_more_than_five_attempts_in_an_hour(lives: list[float]) -> None:
    """Each life is as long as it says, and all that is left of the last is what was written down."""
    written: dict[str, list[float]] = {}
    now, begun = NOW, []
    for life in lives:
        made, ends = renewals(attempts=written), now + life
        while (now := max(now, made.due("a.test"))) < ends:
            made.begun("a.test", now)
            written = {name: list(times) for name, times in made.attempts.items()}
            begun.append(now)
            made.failed("a.test", now, 0.0)
        now = ends
    for at in begun:
        assert len([other for other in begun if at <= other < at + HOUR_S]) <= ATTEMPTS_PER_HOUR


def test_attempts_are_forgotten_after_an_hour() -> None:
    made = renewals(attempts={"b.test": [NOW - 3601], "a.test": [NOW - 2 * HOUR_S]})
    made.begun("a.test", NOW)
    assert made.attempts == {"a.test": [NOW]}
