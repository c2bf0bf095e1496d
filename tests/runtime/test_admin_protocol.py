from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from fastgw.runtime import admin_protocol
from fastgw.runtime.admin_protocol import BoundedProtocol

_REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\n"
# Of a head, for these tests; and what is well beyond.
_HEAD_S, _LATER_S = 0.5, 0.8


async def _app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(_LATER_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class _Served:
    """A server of such connections; `connect` gives both ends of one."""

    async def __aenter__(self) -> _Served:
        config = uvicorn.Config(_app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=60)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)
        self._writers: list[asyncio.StreamWriter] = []
        return self

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        return reader, writer

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()
        # Until the other ends are closed, too.
        await asyncio.sleep(0.05)
        gc.collect()


async def _is_open(reader: asyncio.StreamReader, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.read(1)
            return False
    return True


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_protocol, "HEAD_S", _HEAD_S)
    monkeypatch.setattr(admin_protocol, "CONNECTIONS_MAX", 3)


@pytest.mark.asyncio
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHos"])
async def test_who_sends_no_head_or_not_all_of_it_is_left(sent: bytes) -> None:
    async with _Served() as served:
        reader, writer = await served.connect()
        writer.write(sent)
        assert await reader.read() == b""


@pytest.mark.asyncio
async def test_a_head_that_comes_piece_by_piece_has_no_more_time() -> None:
    async with _Served() as served:
        reader, writer = await served.connect()
        ended = asyncio.create_task(reader.read())
        for piece in (b"GET / HTTP/1.1\r\n", *(b"X: y\r\n" for _ in range(100))):
            if ended.done():
                break
            writer.write(piece)
            await asyncio.sleep(_HEAD_S / 4)
        assert ended.done()


@pytest.mark.asyncio
async def test_the_next_request_s_head_is_waited_for_as_long() -> None:
    async with _Served() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(_REQUEST)
            assert await reader.readline() == _ANSWER
            await reader.readuntil(b"\r\n\r\n")
        writer.write(_REQUEST[:20])
        assert await reader.read() == b""


@pytest.mark.asyncio
async def test_an_answer_may_take_longer_than_a_head() -> None:
    async with _Served() as served:
        reader, writer = await served.connect()
        writer.write(_REQUEST.replace(b"GET /", b"GET /slow"))
        assert await reader.readline() == _ANSWER


@pytest.mark.asyncio
async def test_there_are_only_so_many_connections() -> None:
    async with _Served() as served:
        ends = [await served.connect() for _ in range(3)]
        for reader, writer in ends:
            writer.write(_REQUEST.replace(b"GET /", b"GET /slow"))
            assert await _is_open(reader, 0.05)
        reader, _ = await served.connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        # One goes, another may come.
        ends[0][1].close()
        await asyncio.sleep(0.05)
        reader, writer = await served.connect()
        writer.write(_REQUEST)
        assert await reader.readline() == _ANSWER
