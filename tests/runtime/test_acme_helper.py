"""The helper process's loop, with an authority and a clock of its own; the process as a whole is seen from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import trustme

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime import acme_helper
from fastgw.runtime.acme_helper import Helper, Supervisor, duration
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.acme_order import OrderError
from fastgw.runtime.acme_store import Store

NOW = 1_800_000_000.0


class PlayedSupervisor:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.shown: list[tuple[Challenge, ...]] = []
        self.refuses = False

    def show(self, challenges: tuple[Challenge, ...]) -> None:
        self.shown.append(challenges)
        if self.refuses:
            raise OrderError("the challenge can't be answered: no")

    def tell(self, outcome: str, detail: str) -> None:
        self.told.append((outcome, detail))


class Played:
    """An authority that answers what `outcomes` says, one after the other, and a clock that stops after the last."""

    def __init__(self, settings: AcmeSettings, outcomes: list[Exception | bytes]) -> None:
        self.now = NOW
        self.outcomes = outcomes
        self.asked: list[tuple[str, float]] = []
        self.supervisor = PlayedSupervisor()
        self.settings = settings
        self.store = Store(settings)
        assert self.store.take()

    def __call__(self, *_: object) -> Played:
        return self

    def certificate(self, name: str) -> bytes:
        self.asked.append((name, self.now - NOW))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return not self.outcomes

    def run(self) -> list[tuple[str, float]]:
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        Helper(self.settings, self.store, cast(Supervisor, self.supervisor), clock, self.wait).keep()
        return self.asked


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Played]:
    def made(*outcomes: Exception | bytes, names: tuple[str, ...] = ("a.test",)) -> Played:
        settings = AcmeSettings("https://ca.test/dir", tmp_path / "acme", "http-01", names)
        played = Played(settings, list(outcomes))
        monkeypatch.setattr(acme_helper, "Authority", played)
        return played

    return made


def pair(name: str = "a.test") -> bytes:
    return trustme.CA().issue_cert(name).private_key_and_cert_chain_pem.bytes()


def test_each_name_gets_its_certificate_and_it_is_told(play: Callable[..., Played]) -> None:
    one, other = pair("a.test"), pair("b.test")
    played = play(one, other, names=("a.test", "b.test"))
    assert played.run() == [("a.test", 0.0), ("b.test", 0.0)]
    assert played.settings.certificate_file("a.test").read_bytes() == one
    assert played.settings.certificate_file("b.test").read_bytes() == other
    assert [outcome for outcome, _ in played.supervisor.told] == ["done", "done"]
    assert "there is a certificate for a.test, valid until 3000-01-01" in played.supervisor.told[0][1]
    # What was shown is shown no longer.
    assert played.supervisor.shown == [(), ()]


def test_one_that_is_there_is_left_alone(play: Callable[..., Played]) -> None:
    played = play()
    played.store.save("a.test", pair())
    assert played.run() == []
    assert played.now > NOW


def test_one_that_is_taken_away_is_got_anew(play: Callable[..., Played]) -> None:
    played = play(pair(), pair())
    file = played.settings.certificate_file("a.test")

    def wait(seconds: float) -> bool:
        file.unlink(missing_ok=True)
        played.now += max(seconds, 60.0)
        return not played.outcomes

    played.wait = wait  # type: ignore[method-assign]
    assert played.run() == [("a.test", 0.0), ("a.test", 60.0)]


def test_a_failure_is_told_and_repeated_later_and_what_was_there_stays(play: Callable[..., Played]) -> None:
    refused = OrderError("refused: no")
    played = play(refused, OrderError("wait", retry_after=3600.0), pair())
    file = played.settings.certificate_file("a.test")
    file.write_bytes(b"what was there")
    assert played.run() == [("a.test", 0.0), ("a.test", 60.0), ("a.test", 3660.0)]
    assert [detail for _, detail in played.supervisor.told[:2]] == [
        "a.test: refused: no; the next attempt is in 1m",
        "a.test: wait; the next attempt is in 1h",
    ]
    assert file.read_bytes().startswith(b"-----BEGIN")


def test_what_concerns_all_stops_all(play: Callable[..., Played]) -> None:
    played = play(OrderError("down", concerns_all=True), pair("a.test"), pair("b.test"), names=("a.test", "b.test"))
    assert played.run() == [("a.test", 0.0), ("a.test", 60.0), ("b.test", 60.0)]


def test_an_attempt_is_written_down_before_it_begins(play: Callable[..., Played]) -> None:
    class Killed(BaseException):
        pass

    played = play()
    played.outcomes.append(cast(Exception, Killed()))
    played.certificate = lambda _: (_ for _ in ()).throw(Killed())  # type: ignore[method-assign]
    with pytest.raises(Killed):
        played.run()
    assert json.loads((played.settings.folder / "attempts.json").read_text()) == {"a.test": [NOW]}


def test_attempts_from_before_the_clock_was_set_are_none(play: Callable[..., Played]) -> None:
    played = play(pair())
    played.store.save_attempts({"a.test": [NOW + 86400.0] * 5})
    assert played.run() == [("a.test", 0.0)]


def test_five_attempts_of_an_earlier_life_put_the_next_off(play: Callable[..., Played]) -> None:
    played = play(pair())
    played.store.save_attempts({"a.test": [NOW - 3000.0] * 5})
    assert played.run() == [("a.test", 600.0)]


def test_a_certificate_that_can_t_be_written_is_a_failure(play: Callable[..., Played]) -> None:
    played = play(pair(), pair())
    file = played.settings.certificate_file("a.test")
    file.mkdir()
    played.outcomes.pop()
    played.run()
    ((outcome, detail),) = played.supervisor.told
    assert outcome == "failed"
    assert detail.startswith("a.test: it can't be written: [Errno 21] Is a directory")


def test_a_challenge_that_can_t_be_taken_back_is_no_reason_to_end(play: Callable[..., Played]) -> None:
    played = play(pair())
    played.supervisor.refuses = True
    played.run()
    assert [outcome for outcome, _ in played.supervisor.told] == ["done"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1m"), (60, "1m"), (3540, "59m"), (3600, "1h"), (5460, "1h31m"), (21600, "6h")]
)
def test_durations_are_as_the_configuration_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
