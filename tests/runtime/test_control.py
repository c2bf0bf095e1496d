from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastgw.runtime import control
from fastgw.runtime.control import Answer, ControlServer, NotRunning, ask


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[ControlServer]:
    """Answers each command with itself."""

    async def obey(command: str) -> Answer:
        return {"command": command}

    server = ControlServer(control.bind(config), obey)
    await server.start()
    yield server
    server.close()
    await server.answered()


def unix_sockets_of(uid: int, config: Path) -> str:
    with control.bind(config) as sock:
        name = sock.getsockname().decode()[1:]
    return "Num\n0000: 00000002 00000000 00010000 0001 01 1 @" + re.sub(r"-\d+-", f"-{uid}-", name) + "\n"


@pytest.mark.asyncio
async def test_a_command_reaches_the_gateway_of_its_configuration(tmp_path: Path) -> None:
    async with gateway(tmp_path / "a.toml"), gateway(tmp_path / "b.toml"):
        assert await asyncio.to_thread(ask, tmp_path / "a.toml", "status") == {"command": "status"}
        # However its path is written.
        assert await asyncio.to_thread(ask, tmp_path / ".." / tmp_path.name / "b.toml", "reload") == {
            "command": "reload"
        }


def test_where_none_runs_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=r"no gateway of yours runs with .*a\.toml; start it: fastgw run"):
        ask(tmp_path / "a.toml", "status")


def test_only_one_gateway_has_the_name(tmp_path: Path) -> None:
    with control.bind(tmp_path / "a.toml"), pytest.raises(OSError, match="in use"):
        control.bind(tmp_path / "a.toml")


def test_another_users_gateway_is_not_asked_but_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = unix_sockets_of(os.geteuid() + 77, tmp_path / "a.toml")
    monkeypatch.setattr(control, "_unix_sockets", lambda: listed)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotRunning, match=r"run by the user with the id \d+: ask as that one"):
        ask(tmp_path / "a.toml", "status")


@pytest.mark.asyncio
async def test_root_may_ask_anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    sock = control.bind(tmp_path / "a.toml")
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    async def obey(command: str) -> Answer:
        return {"command": command}

    server = ControlServer(sock, obey)
    await server.start()
    assert await asyncio.to_thread(ask, tmp_path / "a.toml", "status") == {"command": "status"}
    server.close()
    await server.answered()


@pytest.mark.asyncio
async def test_a_strangers_command_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(tmp_path / "a.toml"):
        monkeypatch.setattr(control, "_uid_at_other_end", lambda _sock: 4711)
        with pytest.raises(NotRunning):
            await asyncio.to_thread(ask, tmp_path / "a.toml", "reload")


@pytest.mark.asyncio
@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", b"[]\n", b'{"command": "' + b"x" * 5000 + b'"}\n', b""])
async def test_what_is_no_command_gets_no_answer_and_harms_nobody(line: bytes, tmp_path: Path) -> None:
    async with gateway(tmp_path / "a.toml"):
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, control._running(tmp_path / "a.toml"))
            await loop.sock_sendall(client, line)
            client.shutdown(socket.SHUT_WR)
            # What it had not read yet is thrown away.
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 100) == b""
        assert await asyncio.to_thread(ask, tmp_path / "a.toml", "status") == {"command": "status"}
