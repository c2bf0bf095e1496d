"""Ending a connection so that its other end can't take it for a good end, and nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

# socket(7): a close drops what is unsent, and sends a reset.
_LINGER_FOR_NOTHING = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Closes at once, with a reset (RFC 9293 §3.10.5).

    A mere close leaves what is unsent to the kernel, which goes on offering it to a client that does not read: some
    megabytes for minutes. And to a client whose answer ends with its connection, it would say that this was all.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_NOTHING)
    transport.abort()
