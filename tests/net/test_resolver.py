from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from fastgw.net.resolver import Resolver
from tests.fakes import Clock

Answer = list[str] | Exception


class ScriptedLoop:
    """The running loop with a resolver that answers as it is told to."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def create_task(self, coroutine: Coroutine[Any, Any, list[str]]) -> asyncio.Task[list[str]]:
        return asyncio.get_running_loop().create_task(coroutine)

    async def getaddrinfo(self, host: str, port: None, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002
        self.asked.append(host)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, type, 6, "", (address, 0)) for address in answer]


def resolver(*answers: Answer) -> tuple[Resolver, ScriptedLoop, Clock]:
    loop, clock = ScriptedLoop(*answers), Clock()
    return Resolver(cast(asyncio.AbstractEventLoop, loop), clock), loop, clock


async def settled() -> None:
    """All tasks but this one have run."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


NOWHERE = socket.gaierror(socket.EAI_NONAME, "unknown")

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_its_own_answer(address: str) -> None:
    names, loop, _ = resolver()
    assert await names.addresses(address, 30.0) == [address]
    assert loop.asked == []


async def test_a_name_s_addresses_are_kept_once_each_and_in_order() -> None:
    names, loop, clock = resolver(["10.0.0.2", "10.0.0.1", "10.0.0.2"])
    assert await names.addresses("b.test", 30.0) == ["10.0.0.2", "10.0.0.1"]
    clock.now += 30.0
    assert await names.addresses("b.test", 30.0) == ["10.0.0.2", "10.0.0.1"]
    assert loop.asked == ["b.test"]


async def test_those_who_ask_at_the_same_time_share_one_look_up() -> None:
    names, loop, _ = resolver(["10.0.0.1"])
    answers = await asyncio.gather(*(names.addresses("b.test", 30.0) for _ in range(5)))
    assert answers == [["10.0.0.1"]] * 5
    assert loop.asked == ["b.test"]


async def test_one_who_gives_up_does_not_end_the_look_up_of_the_others() -> None:
    names, _, _ = resolver(["10.0.0.1"])
    hasty = asyncio.ensure_future(names.addresses("b.test", 30.0))
    patient = asyncio.ensure_future(names.addresses("b.test", 30.0))
    await asyncio.sleep(0)
    hasty.cancel()
    assert await patient == ["10.0.0.1"]
    assert hasty.cancelled()


async def test_an_old_answer_serves_while_a_new_one_is_looked_up() -> None:
    names, loop, clock = resolver(["10.0.0.1"], ["10.0.0.2"])
    await names.addresses("b.test", 30.0)
    clock.now += 30.1
    assert await names.addresses("b.test", 30.0) == ["10.0.0.1"]
    await settled()
    assert await names.addresses("b.test", 30.0) == ["10.0.0.2"]
    assert len(loop.asked) == 2


async def test_an_old_answer_outlives_a_look_up_that_fails_which_is_tried_again_after_a_second() -> None:
    names, loop, clock = resolver(["10.0.0.1"], NOWHERE, ["10.0.0.2"])
    await names.addresses("b.test", 30.0)
    clock.now += 30.1
    await names.addresses("b.test", 30.0)
    await settled()
    clock.now += 0.9
    assert await names.addresses("b.test", 30.0) == ["10.0.0.1"]
    await settled()
    assert len(loop.asked) == 2
    clock.now += 0.2
    assert await names.addresses("b.test", 30.0) == ["10.0.0.1"]
    await settled()
    assert await names.addresses("b.test", 30.0) == ["10.0.0.2"]


async def test_a_name_without_address_is_an_error_and_is_not_asked_for_again_within_a_second() -> None:
    names, loop, clock = resolver(NOWHERE, ["10.0.0.1"])
    for _ in range(3):
        with pytest.raises(socket.gaierror):
            await names.addresses("b.test", 30.0)
        clock.now += 0.3
    assert len(loop.asked) == 1
    clock.now += 0.2
    assert await names.addresses("b.test", 30.0) == ["10.0.0.1"]
