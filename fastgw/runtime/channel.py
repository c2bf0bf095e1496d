"""The control channels: messages with file descriptors, over socket pairs.

A message is a pickled tuple behind its length (4 bytes, big-endian) and the number of its descriptors (2 bytes). Both
ends are this program: supervisor and worker in one version, old and new supervisor maybe in two, so what those say to
each other stays plain.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

_HEADER = struct.Struct(">IH")
# The kernel takes 253 descriptors with one piece of data (SCM_MAX_FD).
_DESCRIPTORS_AT_ONCE = 250

Message = tuple[Any, ...]


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Sends a message whole; blocks for as long as it takes, or the socket's time-out says."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    sock.sendall(_HEADER.pack(len(body), len(descriptors)))
    for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
        socket.send_fds(sock, [b"\0"], descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    sock.sendall(body)


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors. Raises EOFError when the other end is gone."""
    length, count = _HEADER.unpack(_exactly(sock, _HEADER.size))
    descriptors: list[int] = []
    while len(descriptors) < count:
        mark, some, _, _ = socket.recv_fds(sock, 1, _DESCRIPTORS_AT_ONCE)
        if not mark:
            raise EOFError(_GONE)
        descriptors += some
    message: Message = pickle.loads(_exactly(sock, length))
    return message, descriptors


_GONE = "the other end of the control channel is gone"


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise EOFError(_GONE)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


# The same for an event loop, which must not wait; the sockets are non-blocking.


async def send_later(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, message: Message, descriptors: Sequence[int] = ()
) -> None:
    """Sends a message whole. Raises OSError when the other end is gone."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    await loop.sock_sendall(sock, _HEADER.pack(len(body), len(descriptors)))
    for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
        await _send_descriptors(loop, sock, descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    await loop.sock_sendall(sock, body)


async def _send_descriptors(loop: asyncio.AbstractEventLoop, sock: socket.socket, some: Sequence[int]) -> None:
    while True:
        try:
            socket.send_fds(sock, [b"\0"], some)
        except BlockingIOError:
            await _writable(loop, sock)
        else:
            return


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    is_writable = asyncio.Event()
    loop.add_writer(sock, is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(sock)


async def receive_later(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Message:
    """The next message, which has no descriptors. Raises EOFError when the other end is gone."""
    length, _ = _HEADER.unpack(await _exactly_later(loop, sock, _HEADER.size))
    message: Message = pickle.loads(await _exactly_later(loop, sock, length))
    return message


async def _exactly_later(loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = await loop.sock_recv(sock, count)
        if not part:
            raise EOFError(_GONE)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
