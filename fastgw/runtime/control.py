"""How `fastgw reload`, `upgrade` and `status` reach a running gateway: a Unix socket named after its configuration.

The name is an abstract one (unix(7)), so that no file is left behind: `fastgw-UID-DIGEST`, with the user that the
gateway runs as and a digest of its configuration's path. Who may speak is decided by the kernel's word about the other
end (SO_PEERCRED): root and that user, and each asks only one of those. A request and its answer are a line of JSON
each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Handler = Callable[[str], Awaitable[Answer]]

_REQUEST_MAX = 1024
_CREDENTIALS = struct.Struct("iII")
# An upgrade of 100,000 routes takes a minute.
_PATIENCE_S = 150.0


class NotRunning(Exception):
    """There is nobody to ask; the message is for the user."""


def _digest(config_path: Path) -> str:
    return hashlib.sha256(os.fsencode(config_path.resolve())).hexdigest()[:24]


def bind(config_path: Path) -> socket.socket:
    """The control socket. Raises OSError when another gateway has it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(f"\0fastgw-{os.geteuid()}-{_digest(config_path)}")
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    return sock


def _uid_at_other_end(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


class ControlServer:
    """Answers commands on a socket, each on a connection of its own."""

    def __init__(self, sock: socket.socket, handle: Handler) -> None:
        self._sock = sock
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, sock=self._sock, limit=_REQUEST_MAX)

    def close(self) -> None:
        """Takes no more commands."""
        if self._server is not None:
            self._server.close()

    async def answered(self) -> None:
        """Until those that were given have their answers."""
        while self._answering:
            await asyncio.wait(tuple(self._answering))

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _uid_at_other_end(writer.get_extra_info("socket")) in (0, os.geteuid()):
                command = json.loads(await reader.readline())["command"]
                writer.write(json.dumps(await self._handle(command)).encode() + b"\n")
                await writer.drain()
        except (ValueError, KeyError, TypeError, OSError):
            # Not one of ours at the other end, or it has left.
            return
        finally:
            writer.close()


def ask(config_path: Path, command: str) -> Answer:
    """What the gateway that runs with this configuration answers to a command. Raises NotRunning."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PATIENCE_S)
        try:
            sock.connect(_running(config_path))
            if os.geteuid() and _uid_at_other_end(sock) not in (0, os.geteuid()):
                raise NotRunning(f"what answers for {config_path} is another user's")
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            with sock.makefile("rb") as file:
                answer: Answer = json.loads(file.readline())
        except (OSError, ValueError) as error:
            raise NotRunning(f"the gateway with {config_path} does not answer: {error}") from None
        return answer


def _running(config_path: Path) -> str:
    """The name of its socket; root may ask anybody's. Raises NotRunning."""
    digest = _digest(config_path)
    uids = [int(uid) for uid in re.findall(rf"@fastgw-(\d+)-{digest}$", _unix_sockets(), re.MULTILINE)]
    ours = os.geteuid()
    usable = sorted({uid for uid in uids if ours in (uid, 0)}, key=lambda uid: uid != ours)
    if not usable:
        hint = f"it is run by the user with the id {uids[0]}: ask as that one" if uids else "start it: fastgw run"
        raise NotRunning(f"no gateway of yours runs with {config_path}; {hint}")
    return f"\0fastgw-{usable[0]}-{digest}"


def _unix_sockets() -> str:
    return Path("/proc/net/unix").read_text(errors="replace")
