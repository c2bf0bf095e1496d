from __future__ import annotations

import asyncio

import pytest

from fastgw.runtime.turnstile import Turnstile


async def some_turns() -> None:
    """So that whoever can go on has done so."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_many_are_inside_at_once_or_one_alone() -> None:
    turnstile, leave, events = Turnstile(), asyncio.Event(), []

    async def share(name: str) -> None:
        async with turnstile.shared():
            events.append(f"{name} in")
            await leave.wait()
            events.append(f"{name} out")

    async def be_alone(name: str) -> None:
        async with turnstile.alone():
            events.append(f"{name} in")
            await asyncio.sleep(0)
            events.append(f"{name} out")

    async with asyncio.TaskGroup() as group:
        group.create_task(share("a"))
        group.create_task(share("b"))
        await some_turns()
        group.create_task(be_alone("x"))
        group.create_task(be_alone("y"))
        await some_turns()
        # It comes after the one who waits already.
        group.create_task(share("c"))
        await some_turns()
        assert events == ["a in", "b in"]
        leave.set()
    assert events[2:] == ["a out", "b out", "x in", "x out", "y in", "y out", "c in", "c out"]


@pytest.mark.asyncio
async def test_one_that_gives_up_waiting_keeps_nobody_out() -> None:
    turnstile = Turnstile()

    async def be_alone() -> None:
        async with turnstile.alone():
            pass

    async with turnstile.shared():
        waiting = asyncio.create_task(be_alone())
        await some_turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(1), turnstile.shared():
            pass
