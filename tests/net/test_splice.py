from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fastgw.net import splice
from fastgw.net.clock import Sweep
from fastgw.net.splice import DONE, SINK_BROKE, SINK_STALLED, SOURCE_BROKE, SOURCE_STALLED, Splice
from tests.fakes import Bugs, Clock

pytestmark = pytest.mark.asyncio

# More than one pipe holds.
LARGE = 3 * 1024 * 1024


class Ends:
    """A sender and a receiver with a splice between them."""

    def __init__(self, stack: ExitStack, remaining: int) -> None:
        self.sender, self.source = self._pair(stack)
        self.sink, self.receiver = self._pair(stack)
        self.loop = asyncio.get_running_loop()
        self.clock = Clock()
        self.sweep = Sweep(self.loop, self.clock, Bugs())
        self.outcomes: list[int] = []
        self.over: asyncio.Future[int] = self.loop.create_future()
        self.splice = Splice(
            self.loop,
            self.sweep,
            self.clock,
            (self.source.fileno(), 5.0),
            (self.sink.fileno(), 7.0),
            remaining,
            self._ended,
        )

    def _pair(self, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for one in pair:
            one.setblocking(False)
            stack.enter_context(one)
        return pair

    def _ended(self, outcome: int) -> None:
        self.outcomes.append(outcome)
        if not self.over.done():
            self.over.set_result(outcome)

    async def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += await self.loop.sock_recv(self.receiver, 1 << 20)
        return data

    async def turns(self) -> None:
        """A few turns of the loop, in which all that can move does."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


async def test_it_moves_what_it_was_told_to_and_not_a_byte_more(stack: ExitStack) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    ends = Ends(stack, LARGE)
    sending = asyncio.ensure_future(ends.loop.sock_sendall(ends.sender, data + b"next"))
    assert await ends.receive(LARGE) == data
    assert await ends.over == DONE
    await sending
    assert (ends.splice.moved, ends.source.recv(99), ends.sweep.watched) == (LARGE, b"next", set())


async def test_a_source_that_closes_early_has_broken_and_what_came_has_arrived(stack: ExitStack) -> None:
    ends = Ends(stack, 100)
    ends.sender.send(b"x" * 60)
    ends.sender.close()
    assert await ends.over == SOURCE_BROKE
    assert (ends.splice.moved, ends.receiver.recv(99)) == (60, b"x" * 60)


async def test_a_sink_that_closes_has_broken(stack: ExitStack) -> None:
    ends = Ends(stack, 100)
    ends.receiver.close()
    ends.sender.send(b"x")
    assert await ends.over == SINK_BROKE


async def test_a_source_that_says_nothing_for_its_time_has_stalled(stack: ExitStack) -> None:
    ends = Ends(stack, 100)
    ends.clock.now += 4.0
    ends.sender.send(b"x")
    await ends.turns()
    ends.sweep.look(ends.clock.now + 4.9)
    assert ends.outcomes == []
    ends.sweep.look(ends.clock.now + 5.1)
    assert ends.outcomes == [SOURCE_STALLED]
    assert ends.splice.moved == 1


async def test_a_sink_that_takes_nothing_for_its_time_has_stalled(stack: ExitStack) -> None:
    ends = Ends(stack, LARGE)
    sending = asyncio.ensure_future(ends.loop.sock_sendall(ends.sender, b"x" * LARGE))
    await ends.turns()
    ends.sweep.look(ends.clock.now + 6.9)
    assert ends.outcomes == []
    ends.sweep.look(ends.clock.now + 7.1)
    assert ends.outcomes == [SINK_STALLED]
    sending.cancel()


async def test_one_that_is_cancelled_says_nothing_more_not_even_when_it_is_overdue(stack: ExitStack) -> None:
    ends = Ends(stack, 100)
    ends.sender.send(b"x" * 10)
    await ends.turns()
    ends.splice.cancel()
    ends.splice.cancel()
    assert (ends.splice.moved, ends.sweep.watched) == (10, set())
    # A sweep that is under way may still have it on its list.
    if ends.splice.deadline < ends.clock.now + 99.0:
        ends.splice.overdue(ends.clock.now + 99.0)
    ends.sender.send(b"y")
    await ends.turns()
    assert ends.outcomes == []


async def test_a_clean_pipe_serves_again_and_one_with_bytes_in_it_does_not(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, int]] = []
    monkeypatch.setattr(splice, "_pipes", kept)
    ends = Ends(stack, 1)
    ends.sender.send(b"x")
    assert await ends.over == DONE
    assert len(kept) == 1
    stuck = Ends(stack, LARGE)
    assert kept == []
    sending = asyncio.ensure_future(stuck.loop.sock_sendall(stuck.sender, b"x" * LARGE))
    await stuck.turns()
    stuck.splice.cancel()
    assert kept == []
    sending.cancel()


async def test_only_a_transport_with_a_socket_and_without_encryption_has_a_plain_descriptor(stack: ExitStack) -> None:
    sock = stack.enter_context(socket.socket())
    assert splice.plain_descriptor(asyncio.Transport({"socket": sock})) == sock.fileno()
    assert splice.plain_descriptor(asyncio.Transport({"socket": sock, "sslcontext": object()})) == -1
    assert splice.plain_descriptor(asyncio.Transport()) == -1
