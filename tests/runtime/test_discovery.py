from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from fastgw.runtime import discovery, dns_lookup
from fastgw.runtime.discovery import Discoverer, DnsSource, FileSource, TroubleError
from fastgw.runtime.messages import Found
from fastgw.snapshot import Address, Discovery, Endpoint, Snapshot
from tests.fakes import snapshot_of

IN_DNS = Discovery("dns", "app.test", 80, min_refresh=2.0, max_refresh=60.0)
IN_FILE = Discovery("file", "/etc/e.toml")


def endpoint(name: str) -> Endpoint:
    return Endpoint(name, Address(name, 80))


A, B = endpoint("a"), endpoint("b")


def snapshot(*discoveries: Discovery | None) -> Snapshot:
    tables = "\n".join(f'[upstreams.u{index}]\nendpoints = ["written:1"]' for index in range(len(discoveries)))
    found = snapshot_of(f'[[listeners]]\naddress = "127.0.0.1:0"\n{tables}\n[[routes]]\nupstream = "u0"')
    upstreams = {
        name: replace(upstream, discover=discover)
        for (name, upstream), discover in zip(found.upstreams.items(), discoveries, strict=True)
    }
    return replace(found, upstreams=upstreams)


class PlayedSource:
    """Yields what is put into it: endpoints, or what is raised."""

    def __init__(self, tells_each_trouble: bool) -> None:
        self.tells_each_trouble = tells_each_trouble
        self.answers: asyncio.Queue[tuple[Endpoint, ...] | Exception] = asyncio.Queue()

    async def next(self) -> tuple[Endpoint, ...]:
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Rig:
    """A discoverer that looks into played sources; what it tells and reports is remembered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sources: dict[Discovery, PlayedSource] = {}
        self.told: list[Found] = []
        self.said: list[str] = []
        self.bugs: list[Exception] = []
        # Raised by the next that is told.
        self.trouble: Exception | None = None
        self.discoverer = Discoverer(self._tell)
        for kind, tells_each in (("DnsSource", False), ("FileSource", True)):
            monkeypatch.setattr(discovery, kind, self._maker(tells_each))
        monkeypatch.setattr(discovery, "report", self.said.append)
        monkeypatch.setattr(discovery, "report_bug", self.bugs.append)
        monkeypatch.setattr(discovery, "_FIRST_LOOK_S", 0.05)
        monkeypatch.setattr(discovery, "LOOK_S", 0.0)

    def _maker(self, tells_each: bool) -> Any:
        def make(where: Discovery) -> PlayedSource:
            self.sources[where] = PlayedSource(tells_each)
            return self.sources[where]

        return make

    async def _tell(self, changed: Found) -> None:
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble
        self.told.append(changed)

    async def answers(self, where: Discovery, *answers: tuple[Endpoint, ...] | Exception) -> None:
        """And until they have been looked at."""
        source = self.sources[where]
        for answer in answers:
            source.answers.put_nowait(answer)
        for _ in range(20):
            await asyncio.sleep(0)
        assert source.answers.empty()


def play(monkeypatch: pytest.MonkeyPatch, scene: Any) -> Rig:
    made: list[Rig] = []

    async def run() -> None:
        made.append(Rig(monkeypatch))
        await scene(made[0])
        await made[0].discoverer.stop()

    asyncio.run(run())
    return made[0]


def test_only_what_has_changed_is_told_and_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, (A,), (A,), (A, B), (replace(A, weight=2), B), (B,))
        assert rig.discoverer.found() == {IN_DNS: (B,)}

    rig = play(monkeypatch, scene)
    assert rig.told == [{IN_DNS: (A,)}, {IN_DNS: (A, B)}, {IN_DNS: (replace(A, weight=2), B)}, {IN_DNS: (B,)}]
    assert rig.said == [
        "dns app.test:80: b came; now 2 endpoints",
        "dns app.test:80: weights changed; now 2 endpoints",
        "dns app.test:80: a went; now 1 endpoint",
    ]


def test_many_that_come_at_once_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, (A,), (A, *(endpoint(f"n{number}") for number in range(10))))

    assert play(monkeypatch, scene).said == [
        "dns app.test:80: n0 n1 n2 n3 n4 n5 n6 n7 and 2 more came; now 11 endpoints"
    ]


@pytest.mark.parametrize(
    ("where", "told"), [(IN_DNS, ["no answer"]), (IN_FILE, ["no answer", "another trouble"])], ids=["dns", "file"]
)
def test_trouble_changes_nothing_and_is_told_once(
    where: Discovery, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = [TroubleError("no answer"), TroubleError("no answer"), TroubleError("another trouble")]

    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(where))
        await rig.answers(where, (A, B), *troubles)
        assert rig.discoverer.found() == {where: (A, B)}
        await rig.answers(where, (A, B), troubles[0])

    rig = play(monkeypatch, scene)
    goes_on = "the last good list goes on, 2 endpoints"
    assert rig.said == [
        *(f"{where}: {trouble}; {goes_on}" for trouble in told),
        f"{where}: is well again, and has 2 endpoints",
        f"{where}: no answer; {goes_on}",
    ]
    assert len(rig.told) == 1


def test_too_many_endpoints_are_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_ENDPOINTS_MAX", 2)

    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_FILE))
        await rig.answers(IN_FILE, (A, B), (A, B, endpoint("c")))
        assert rig.discoverer.found() == {IN_FILE: (A, B)}

    rig = play(monkeypatch, scene)
    assert rig.said == [f"{IN_FILE}: 3 endpoints are too many, 2 the most; the last good list goes on, 2 endpoints"]


def test_trouble_from_the_start_leaves_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, TroubleError("no answer"))
        assert rig.discoverer.filled(snapshot(IN_DNS)) == snapshot(IN_DNS)

    rig = play(monkeypatch, scene)
    assert (rig.said, rig.told) == (["dns app.test:80: no answer; nothing was found so far"], [])


def test_a_bug_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, ValueError("ours"), (A,))
        assert rig.discoverer.found() == {IN_DNS: (A,)}

    assert [str(bug) for bug in play(monkeypatch, scene).bugs] == ["ours"]


def test_what_could_not_be_told_is_told_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        rig.trouble = ValueError("ours")
        await rig.answers(IN_DNS, (A,), (A,), (A,))

    rig = play(monkeypatch, scene)
    assert (rig.told, [str(bug) for bug in rig.bugs]) == ([{IN_DNS: (A,)}], ["ours"])


def test_upstreams_that_look_for_the_same_share_it_and_the_others_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(rig: Rig) -> None:
        wanted = snapshot(IN_DNS, None, IN_DNS)
        await rig.discoverer.expect(wanted)
        assert len(rig.sources) == 1
        await rig.answers(IN_DNS, (A,))
        filled = rig.discoverer.filled(wanted).upstreams.values()
        assert [[one.name for one in upstream.endpoints] for upstream in filled] == [["a"], ["written:1"], ["a"]]

    play(monkeypatch, scene)


def test_what_no_snapshot_wants_any_more_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, (A,))
        before = rig.sources[IN_DNS]
        await rig.discoverer.expect(snapshot(IN_DNS, IN_FILE))
        # The one from before goes on.
        assert rig.sources[IN_DNS] is before
        rig.discoverer.adopt(snapshot(IN_FILE))
        assert rig.discoverer.found() == {}
        before.answers.put_nowait((B,))
        await asyncio.sleep(0.01)
        assert not before.answers.empty()
        await rig.answers(IN_FILE, (B,))
        assert rig.discoverer.found() == {IN_FILE: (B,)}

    play(monkeypatch, scene)


def test_the_first_answer_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        waiting = asyncio.create_task(rig.discoverer.expect(snapshot(IN_DNS)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await rig.answers(IN_DNS, TroubleError("that is an answer, too"))
        assert waiting.done()
        # This one is over after a while.
        await rig.discoverer.expect(snapshot(IN_FILE))

    play(monkeypatch, scene)


def test_what_another_gateway_has_found_counts_at_once_and_until_something_better_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(rig: Rig) -> None:
        rig.discoverer.presume(snapshot(IN_DNS), {str(IN_DNS): (A,), "dns elsewhere.test:80": (B,)})
        assert rig.discoverer.found() == {IN_DNS: (A,)}
        # Would wait for ever.
        monkeypatch.setattr(discovery, "_FIRST_LOOK_S", 1e9)
        await rig.discoverer.expect(snapshot(IN_DNS))
        await rig.answers(IN_DNS, TroubleError("no answer"))
        assert rig.discoverer.found() == {IN_DNS: (A,)}
        await rig.answers(IN_DNS, (B,))
        assert rig.discoverer.found() == {IN_DNS: (B,)}

    play(monkeypatch, scene)


def test_words_for_where_tell_one_from_the_other() -> None:
    some = [
        IN_DNS,
        replace(IN_DNS, port=81),
        replace(IN_DNS, server="127.0.0.1:53"),
        replace(IN_DNS, kind="srv", port=0),
        IN_FILE,
    ]
    assert [str(one) for one in some] == [
        "dns app.test:80",
        "dns app.test:81",
        "dns app.test:80 at 127.0.0.1:53",
        "srv app.test",
        "file /etc/e.toml",
    ]


# When.


@pytest.mark.parametrize(("ttl_s", "waited_s"), [(0.0, 2.0), (30.0, 30.0), (86400.0, 60.0), (float("inf"), 60.0)])
def test_a_dns_answer_holds_for_its_ttl_within_bounds(
    ttl_s: float, waited_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waits(monkeypatch, ((A,), ttl_s), ((A,), ttl_s)) == [0.0, waited_s]


@pytest.mark.parametrize("trouble", [((), 3600.0), dns_lookup.LookUpError("no answer")], ids=["empty", "error"])
def test_after_a_bad_answer_the_next_look_is_soon(trouble: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, ((A,), 50.0), trouble, ((A,), 50.0)) == [0.0, 50.0, 2.0]


def waits(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[float]:
    """How long is waited before each of these look-ups."""
    slept: list[float] = []
    rest = list(answers)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    class PlayedLookUp:
        def __init__(self, where: Discovery) -> None:
            assert where is IN_DNS

        async def endpoints(self) -> Any:
            answer = rest.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def look() -> None:
        source = DnsSource(IN_DNS)
        for answer in answers:
            if isinstance(answer, tuple) and answer[0]:
                assert await source.next() == (A,)
            else:
                with pytest.raises(TroubleError):
                    await source.next()

    monkeypatch.setattr(dns_lookup, "LookUp", PlayedLookUp)
    monkeypatch.setattr(discovery.asyncio, "sleep", sleep)
    run(look())
    return slept


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_file_is_read_again_when_it_has_changed_and_been_left_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LOOK_S", 0.01)
    file = tmp_path / "e.toml"
    file.write_text('endpoints = ["a:80"]')

    async def look() -> None:
        source = FileSource(Discovery("file", str(file), base=str(tmp_path)))
        assert [one.name for one in await source.next()] == ["a:80"]
        again = asyncio.create_task(source.next())
        await asyncio.sleep(0.05)
        assert not again.done()
        file.write_text('endpoints = ["a:80", "b:80"]')
        assert [one.name for one in await again] == ["a:80", "b:80"]
        file.write_text("endpoints = []")
        with pytest.raises(TroubleError, match="the list is empty"):
            await source.next()

    run(look())
