"""The control channel between the supervisor and a worker: messages over a socket pair.

A message is a pickled tuple behind its length (4 bytes, big-endian). Both ends are this program, in one version.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")


def send(sock: socket.socket, message: tuple[Any, ...]) -> None:
    """Sends a message whole; blocks for as long as it takes."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    sock.sendall(_LENGTH.pack(len(body)) + body)


def receive(sock: socket.socket) -> tuple[Any, ...]:
    """The next message. Raises EOFError when the other end is gone."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    message: tuple[Any, ...] = pickle.loads(_exactly(sock, length))
    return message


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the other end of the control channel is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
