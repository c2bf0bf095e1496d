from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fastgw.runtime import channel
from tests.fakes import snapshot_of

CONFIG = '[upstreams.a]\nendpoints = ["b:1"]\n[[routes]]\npath = "/x/{y}"\nupstream = "a"\n'


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_messages_arrive_whole_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    for message in ((), ("ready", 7), ("text", {"a": [1, 2]}, b"\x00\xff")):
        channel.send(one, message)
    assert [channel.receive(other)[0] for _ in range(3)] == [(), ("ready", 7), ("text", {"a": [1, 2]}, b"\x00\xff")]


def test_a_message_larger_than_the_socket_s_buffer_arrives_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    message = (b"x" * 3_000_000,)
    sender = threading.Thread(target=channel.send, args=(one, message))
    sender.start()
    assert channel.receive(other)[0] == message
    sender.join()


def test_a_snapshot_arrives_as_one_that_routes_the_same(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    snapshot = snapshot_of(CONFIG)
    channel.send(one, (snapshot, [3]))
    arrived, numbers = channel.receive(other)[0]
    assert (arrived.routes, arrived.upstreams, numbers) == (snapshot.routes, snapshot.upstreams, [3])
    assert arrived.router.match(b"a", b"/x/1", b"GET", None) == (0, (b"1",))


@pytest.mark.parametrize("sent", [b"", b"\x00\x00", b"\x00\x00\x00\x09abc"])
def test_an_end_that_goes_away_is_told_even_inside_a_message(
    ends: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    one, other = ends
    one.sendall(sent)
    one.close()
    with pytest.raises(EOFError, match="gone"):
        channel.receive(other)[0]


def test_more_descriptors_than_the_kernel_takes_at_once_arrive_in_order(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = ends
    files = [os.memfd_create("file") for _ in range(300)]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)

    async def send() -> None:
        one.setblocking(False)
        await channel.send_later(asyncio.get_running_loop(), one, ("files",), files)

    sender = threading.Thread(target=asyncio.run, args=(send(),))
    sender.start()
    message, received = channel.receive(other)
    sender.join()
    assert message == ("files",)
    assert [os.pread(file, 9, 0) for file in received] == [b"%d" % number for number in range(300)]
    for file in (*files, *received):
        os.close(file)


def test_an_event_loop_receives_a_message_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    other.setblocking(False)

    async def receive() -> channel.Message:
        return await channel.receive_later(asyncio.get_running_loop(), other)

    sender = threading.Thread(target=channel.send, args=(one, ("large", b"x" * 3_000_000)))
    sender.start()
    assert asyncio.run(receive()) == ("large", b"x" * 3_000_000)
    sender.join()
    one.close()
    with pytest.raises(EOFError):
        asyncio.run(receive())
