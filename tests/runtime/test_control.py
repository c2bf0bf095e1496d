from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastgw.runtime import control
from fastgw.runtime.control import Answer, ControlServer, NotRunning, ask


async def some_turns() -> None:
    """The loop accepts a connection in several, and a closed one is gone a turn later."""
    for _ in range(10):
        await asyncio.sleep(0)


async def end(server: ControlServer) -> None:
    await some_turns()
    server.close()
    await server.answered()
    await some_turns()


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[ControlServer]:
    """Answers each command with itself."""

    async def obey(command: str) -> Answer:
        return {"command": command}

    server = ControlServer(control.bind(config), obey)
    await server.start()
    yield server
    await end(server)


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
    with pytest.raises(NotRunning, match=r"no gateway runs with .*a\.toml; start it: fastgw run .*a\.toml"):
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

    # Both ends are root's here.
    ours = threading.current_thread()
    monkeypatch.setattr(control, "_uid_at_other_end", lambda _sock: 0 if threading.current_thread() is ours else 1000)
    server = ControlServer(sock, obey)
    await server.start()
    assert await asyncio.to_thread(ask, tmp_path / "a.toml", "status") == {"command": "status"}
    await end(server)


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
            await loop.sock_connect(client, control.name_of(tmp_path / "a.toml", os.geteuid()))
            await loop.sock_sendall(client, line)
            client.shutdown(socket.SHUT_WR)
            # What it had not read yet is thrown away.
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 100) == b""
        assert await asyncio.to_thread(ask, tmp_path / "a.toml", "status") == {"command": "status"}


def test_links_in_the_path_are_not_followed(tmp_path: Path) -> None:
    # As Kubernetes swaps a ConfigMap.
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.toml").touch()
    (tmp_path / "data").symlink_to("before")
    (tmp_path / "a.toml").symlink_to("data/a.toml")
    name = control.name_of(tmp_path / "a.toml", 0)
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("after")
    assert control.name_of(tmp_path / "a.toml", 0) == name


@pytest.mark.asyncio
async def test_one_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with asyncio.timeout(2):
        async with gateway(tmp_path / "a.toml"):
            client = socket.socket(socket.AF_UNIX)
            client.connect(control.name_of(tmp_path / "a.toml", os.geteuid()))
            await asyncio.sleep(0.05)
        client.close()


@pytest.mark.asyncio
async def test_a_bug_is_told_to_whoever_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def obey(_command: str) -> Answer:
        raise KeyError("mistaken")

    server = ControlServer(control.bind(tmp_path / "a.toml"), obey)
    await server.start()
    answer = await asyncio.to_thread(ask, tmp_path / "a.toml", "reload")
    assert answer["outcome"] == "refused"
    assert "KeyError('mistaken')" in answer["detail"]
    assert "a bug: Traceback" in capsys.readouterr().err
    await end(server)


@pytest.mark.asyncio
async def test_who_asks_one_that_was_replaced_meanwhile_asks_its_successor(tmp_path: Path) -> None:
    answers = [control.MOVED, control.MOVED, {"outcome": "done"}]

    async def obey(_command: str) -> Answer:
        return answers.pop(0)

    server = ControlServer(control.bind(tmp_path / "a.toml"), obey)
    await server.start()
    assert await asyncio.to_thread(ask, tmp_path / "a.toml", "reload") == {"outcome": "done"}
    await end(server)
