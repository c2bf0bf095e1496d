"""What an authority wants to see, in a snapshot, and what the supervisor does for its helper process."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import pytest

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime import acme
from fastgw.runtime import acme_messages as m
from fastgw.runtime.acme import AcmeKeeper, with_challenges
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.events import Events
from fastgw.runtime.explain import explain
from fastgw.runtime.workers import RefusedError
from fastgw.snapshot import KeyPair, Snapshot
from tests.fakes import snapshot_of
from tests.net.rig import Rig, messages

TOKEN = "/.well-known/acme-challenge/abc_-123"
ASKED = f"http://a.test{TOKEN}"
OWN = Challenge("a.test", TOKEN, "abc_-123.thumb")


def snapshot(host: str) -> Snapshot:
    routes = f'host = "{host}"\n' if host else ""
    return snapshot_of(
        f'[[routes]]\n{routes}path = "/.well-known/acme-challenge/{{token}}"\nrespond.status = 204\n'
        f'[[routes]]\n{routes}redirect.to = "/elsewhere"\n'
    )


@pytest.mark.parametrize("host", ["a.test", "*.test", ""])
def test_the_answer_to_an_authority_comes_before_all_routes(host: str) -> None:
    made = with_challenges(snapshot(host), [OWN])
    found = explain(made, "GET", ASKED, [])
    assert (found.route, found.status) == ("acme-challenge", 200)
    for method, url in (("GET", f"{ASKED}x"), ("POST", ASKED)):
        assert explain(made, method, url, []).status == 204
    assert explain(made, "GET", f"http://b.test{TOKEN}", []).route != "acme-challenge"
    assert explain(made, "GET", "http://a.test/", []).status == 308


def test_without_a_question_nothing_changes() -> None:
    made = snapshot("a.test")
    assert with_challenges(made, []) is made


def test_what_tls_shows_is_by_name_and_leaves_the_routes() -> None:
    pair = KeyPair(b"cert", b"key")
    before = snapshot("a.test")
    made = with_challenges(before, [Challenge("a.test", pair=pair)])
    assert made.tls_challenges == {b"a.test": pair}
    assert (made.routes, made.router) == (before.routes, before.router)


def test_it_travels_to_the_workers() -> None:
    made = pickle.loads(pickle.dumps(with_challenges(snapshot("a.test"), [OWN])))
    assert explain(made, "GET", ASKED, []).route == "acme-challenge"


def redirecting() -> Rig:
    made = Rig(
        """
        [[listeners]]
        address = "127.0.0.1:0"
        redirect_to_https = true
        [upstreams.a]
        endpoints = ["b:1"]
        [[routes]]
        upstream = "a"
        """
    )
    made.gateway.snapshot = with_challenges(made.gateway.snapshot, [OWN])
    made.gateway.bind_routes()
    return made


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        (TOKEN, "a.test", b"200"),
        (TOKEN, "b.test", b"308"),
        (f"{TOKEN}x", "a.test", b"308"),
        ("/", "a.test", b"308"),
    ],
)
def test_it_is_given_where_all_others_are_sent_to_https(path: str, host: str, status: bytes) -> None:
    made = redirecting()
    wire = made.client()
    wire.receive(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    (answer,) = messages(wire.sent)
    assert answer.start[9:12] == status
    if status == b"200":
        assert answer.body == b"abc_-123.thumb"
        assert b"Content-Type: application/octet-stream" in answer.lines


def test_a_route_of_the_users_that_is_called_alike_is_sent_to_https() -> None:
    made = redirecting()
    routes = tuple(replace(route, answers_authority=False) for route in made.gateway.snapshot.routes)
    made.gateway.snapshot = replace(made.gateway.snapshot, routes=routes)
    wire = made.client()
    wire.receive(f"GET {TOKEN} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    assert messages(wire.sent)[0].start[9:12] == b"308"


# The supervisor's side, with a helper that only takes notes.


class PlayedProcess:
    """`says` is what the helper says, one after the other; then it waits for its end."""

    made: ClassVar[list[PlayedProcess]] = []
    says: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, loop: asyncio.AbstractEventLoop, module: str) -> None:
        assert module == "fastgw.runtime.acme_helper"
        self.heard: list[tuple[object, ...]] = []
        self.ended: asyncio.Future[int] = loop.create_future()
        self.made.append(self)

    async def send(self, message: tuple[object, ...]) -> None:
        self.heard.append(message)

    async def hears(self, _: float) -> tuple[object, ...] | None:
        await asyncio.sleep(0)
        if self.says:
            return self.says.pop(0)
        await self.ended
        return None

    def kill(self) -> None:
        if not self.ended.done():
            self.ended.set_result(-9)

    async def close(self) -> None:
        await self.ended


class Stage:
    """A keeper, and what it has done."""

    def __init__(self) -> None:
        self.refuses = False
        self.adopted: list[Snapshot] = []
        self.events: list[tuple[str, str, str]] = []
        self.keeper = AcmeKeeper(cast(Events, self), self._put_in_force)

    def add(self, kind: str, outcome: str, detail: str) -> None:
        self.events.append((kind, outcome, detail))
        if outcome == "lost":
            self.keeper.stop()

    async def _put_in_force(self) -> None:
        if self.refuses:
            raise RefusedError("worker 0 does not answer")
        self.adopted.append(self.keeper.with_challenges(snapshot("a.test")))


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> type[PlayedProcess]:
    class Own(PlayedProcess):
        made: ClassVar[list[PlayedProcess]] = []
        says: ClassVar[list[tuple[object, ...]]] = []

    monkeypatch.setattr(acme, "WorkerProcess", Own)
    monkeypatch.setattr(acme, "_BACK_OFF_S", 0.0)
    return Own


SETTINGS = AcmeSettings("https://ca.test/dir", Path("/nowhere"), "http-01", ("a.test",))


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_challenges_are_in_force_before_the_helper_hears_so_and_no_longer_than_it_lives(
    process: type[PlayedProcess],
) -> None:
    stage = Stage()
    process.says += [(m.CHALLENGES, (OWN,)), (m.EVENT, "failed", "no")]
    stage.keeper.adopt(SETTINGS)
    running = asyncio.ensure_future(stage.keeper.run())
    await turns()
    assert process.made[0].heard == [(m.SETTINGS, SETTINGS), (m.IN_FORCE, "")]
    assert [len(one.routes) for one in stage.adopted] == [3]
    assert stage.events == [("acme", "failed", "no")]
    process.made[0].kill()
    await running
    assert [len(one.routes) for one in stage.adopted] == [3, 2]
    assert stage.events[1][1:] == (
        "lost",
        "the process that gets certificates ended with signal 9; it starts again in 0 s",
    )


@pytest.mark.asyncio
async def test_after_a_success_the_reload_of_the_files_takes_the_challenge_back(process: type[PlayedProcess]) -> None:
    stage = Stage()
    process.says += [(m.CHALLENGES, (OWN,)), (m.EVENT, "done", "well"), (m.CHALLENGES, ())]
    stage.keeper.adopt(SETTINGS)
    running = asyncio.ensure_future(stage.keeper.run())
    await turns()
    assert process.made[0].heard[1:] == [(m.IN_FORCE, ""), (m.IN_FORCE, "")]
    assert len(stage.adopted) == 1
    assert stage.keeper.with_challenges(snapshot("a.test")) is snapshot("a.test")
    stage.keeper.stop()
    await running


@pytest.mark.asyncio
async def test_what_the_workers_refuse_the_helper_hears_of(process: type[PlayedProcess]) -> None:
    stage = Stage()
    stage.refuses = True
    process.says += [(m.CHALLENGES, (OWN,))]
    stage.keeper.adopt(SETTINGS)
    running = asyncio.ensure_future(stage.keeper.run())
    await turns()
    assert process.made[0].heard[1] == (m.IN_FORCE, "worker 0 does not answer")
    # A reload meanwhile is not refused for it.
    assert stage.keeper.with_challenges(snapshot("a.test")) is snapshot("a.test")
    stage.keeper.stop()
    await running
    assert stage.events == []


@pytest.mark.asyncio
async def test_a_helper_is_there_only_for_as_long_as_it_is_wanted_and_hears_of_each_change(
    process: type[PlayedProcess],
) -> None:
    stage = Stage()
    running = asyncio.ensure_future(stage.keeper.run())
    await turns()
    assert process.made == []
    other = replace(SETTINGS, names=("b.test",))
    for settings in (SETTINGS, SETTINGS, other, None, SETTINGS):
        stage.keeper.adopt(settings)
        await turns()
    first, second = process.made
    assert first.heard == [(m.SETTINGS, SETTINGS), (m.SETTINGS, other)]
    assert second.heard == [(m.SETTINGS, SETTINGS)]
    stage.keeper.stop()
    await running
    assert stage.events == []


@pytest.mark.asyncio
async def test_a_helper_that_can_t_be_started_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(acme, "WorkerProcess", fail)
    monkeypatch.setattr(acme, "_BACK_OFF_S", 0.0)
    stage = Stage()
    stage.keeper.adopt(SETTINGS)
    await stage.keeper.run()
    ((_, outcome, detail),) = stage.events
    assert outcome == "lost"
    assert detail == (
        "the process that gets certificates can't be started: Resource temporarily unavailable; it starts again in 0 s"
    )
