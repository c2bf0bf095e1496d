"""How `fastgw reload`, `upgrade` and `status` reach a running gateway: a Unix socket named after its configuration.

The name is an abstract one (unix(7)), so that no file is left behind: `fastgw-UID-DIGEST`, with the user that the
gateway runs as and a digest of its configuration's path, links not followed: where they lead may change. Who may speak
is decided by the kernel's word about the other end (SO_PEERCRED): the gateway obeys root and its own user, and whoever
asks believes only the user that the name says. A request and its answer are a line of JSON each.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastgw.runtime.report import report_bug

Answer = dict[str, Any]
Handler = Callable[[str], Awaitable[Answer]]

# Another gateway has the socket by now: it is to be asked.
MOVED: Answer = {"outcome": "moved"}

_REQUEST_MAX = 1024
# To say what is wanted, and to take the answer.
_SLOWEST_CLIENT_S = 5.0
_CREDENTIALS = struct.Struct("iII")
# For what is told at once. A change takes as long as it takes: a canary says how long it is tried, and others wait for
# that. When the gateway is gone, the kernel tells.
_AT_ONCE = frozenset(("status", "summary"))
_PATIENCE_S = 30.0
# More than these in turn make no sense.
_MOVES_MAX = 3


class NotRunning(Exception):
    """There is nobody to ask, or no answer; the message is for the user."""


def _digest(config_path: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(config_path))).hexdigest()[:24]


def name_of(config_path: Path, uid: int) -> str:
    """The abstract address at which a user's gateway with this configuration is asked."""
    return f"\0fastgw-{uid}-{_digest(config_path)}"


def bind(config_path: Path) -> socket.socket:
    """The control socket. Raises OSError when somebody has it already."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name_of(config_path, os.geteuid()))
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
        self._listening: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, sock=self._sock, limit=_REQUEST_MAX)

    def close(self) -> None:
        """Takes no more commands."""
        if self._server is not None:
            self._server.close()

    async def answered(self) -> None:
        """Until those that were given have their answers; nobody else is waited for."""
        while self._listening:
            for task, writer in self._listening.items():
                task.cancel()
                # One that has not begun does nothing by itself any more.
                writer.close()
            await asyncio.wait(tuple(self._listening))
        while self._answering:
            await asyncio.wait(tuple(self._answering))

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._listen(reader, writer))
        self._listening[task] = writer
        task.add_done_callback(self._listening.pop)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = ""
        try:
            if _uid_at_other_end(writer.get_extra_info("socket")) in (0, os.geteuid()):
                async with asyncio.timeout(_SLOWEST_CLIENT_S):
                    command = str(json.loads(await reader.readline())["command"])
        except (ValueError, KeyError, TypeError, OSError, TimeoutError):
            # Somebody else is at the other end, or it has left, or says nothing.
            return
        finally:
            if not command:
                writer.close()
        if command:
            task = asyncio.create_task(self._answer(command, writer))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, command: str, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._handle(command)
        except Exception as error:
            report_bug(error)
            answer = {"outcome": "refused", "detail": f"a bug in fastgw, told on its standard error: {error!r}"}
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(_SLOWEST_CLIENT_S):
                await writer.drain()
        writer.close()


def ask(config_path: Path, command: str) -> Answer:
    """What the gateway that runs with this configuration answers to a command. Raises NotRunning."""
    for _ in range(_MOVES_MAX):
        answer = _ask_once(config_path, command)
        if answer != MOVED:
            return answer
    raise NotRunning(f"the gateway with {config_path} is being replaced, again and again")


def _ask_once(config_path: Path, command: str) -> Answer:
    uid = _running(config_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PATIENCE_S if command in _AT_ONCE else None)
        try:
            sock.connect(name_of(config_path, uid))
            if _uid_at_other_end(sock) != uid:
                raise NotRunning(f"what answers for {config_path} is not what it says it is")
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline()
            if not line:
                raise NotRunning(f"the gateway with {config_path} has ended without an answer")
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise NotRunning(f"the gateway with {config_path} does not answer: {error}") from None
    if not isinstance(answer, dict):
        raise NotRunning(f"what answers for {config_path} is no fastgw")
    return answer


def _running(config_path: Path) -> int:
    """The user who runs it; root may ask anybody's. Raises NotRunning."""
    found = re.findall(rf"@fastgw-(\d+)-{_digest(config_path)}$", _unix_sockets(), re.MULTILINE)
    uids, ours = sorted({int(uid) for uid in found}), os.geteuid()
    if ours in uids:
        return ours
    if not uids:
        raise NotRunning(f"no gateway runs with {config_path}; start it: fastgw run {config_path}")
    who = ", ".join(map(str, uids))
    if ours != 0:
        raise NotRunning(f"the gateway with {config_path} is run by the user with the id {who}: ask as that one")
    if len(uids) > 1:
        raise NotRunning(f"several users run a gateway with {config_path}, with the ids {who}: ask as one of them")
    return uids[0]


def _unix_sockets() -> str:
    return Path("/proc/net/unix").read_text(errors="replace")
