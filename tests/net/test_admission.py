from __future__ import annotations

from fastgw import errors
from fastgw.net.admission import Admission
from tests.fakes import Clock
from tests.net.test_endpoint_states import upstream


class Told:
    def __init__(self, settings: str) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.news: list[tuple[str, str, str]] = []
        self.admission = Admission(upstream(settings), self.clock, self.told.append, self._hear)

    def _hear(self, kind: str, outcome: str, line: str) -> None:
        self.news.append((kind, outcome, line))


def test_an_open_breaker_refuses_and_says_for_how_long() -> None:
    made = Told('breaker = { consecutive_failures = 3, open_for = "5s", trials = 1 }')
    for _ in range(3):
        assert made.admission.refusal() is None
        made.admission.concluded(True)
    refusal = made.admission.refusal()
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == (errors.BREAKER_OPEN.reason, 5)
    made.clock.now += 5.1
    assert made.admission.refusal() is None
    made.admission.concluded(False)
    assert made.told == ["upstream a: the circuit breaker is open", "upstream a: the circuit breaker is closed"]
    assert made.news == [
        ("upstream", f"breaker-{state}", f"upstream a: the circuit breaker is {state}")
        for state in ("open", "half-open", "closed")
    ]


def test_over_the_limit_requests_are_refused_until_others_have_their_heads() -> None:
    made = Told("concurrency = { initial_limit = 5, min_limit = 4 }")
    for _ in range(5):
        assert made.admission.refusal() is None
    assert made.admission.refusal() is errors.OVERLOADED
    made.admission.concluded(None)
    assert made.admission.refusal() is None


def test_refusals_alone_do_not_lower_the_limit() -> None:
    made = Told("concurrency = true")
    for _ in range(200):
        admitted = sum(made.admission.refusal() is None for _ in range(60))
        assert admitted >= 20
        made.clock.now += 0.01
        for _ in range(admitted):
            made.admission.sample(0.01, False)
            made.admission.concluded(False)


def test_a_request_over_the_limit_is_no_trial_of_the_breaker() -> None:
    made = Told(
        'breaker = { consecutive_failures = 1, open_for = "1s", trials = 1 }\nconcurrency = { initial_limit = 4 }'
    )
    for _ in range(4):
        assert made.admission.refusal() is None
    made.admission.concluded(True)
    made.clock.now += 1.1
    assert made.admission.refusal() is None
    assert made.admission.refusal() is errors.OVERLOADED
    made.admission.concluded(False)
    assert made.told[-1].endswith("closed")
