from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from fastgw.runtime.health_checks import Checker
from fastgw.runtime.messages import Unhealthy
from fastgw.runtime.report import report
from fastgw.snapshot import Snapshot
from tests.support.observe import eventually
from tests.support.tls import Authority

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def snapshot(address: str, health: str, more: str = "", base: Path = Path()) -> Snapshot:
    text = f"""
        [[listeners]]
        address = "127.0.0.1:0"
        [upstreams.a]
        endpoints = ["{address}"]
        health = {health}
        {more}
        [[routes]]
        upstream = "a"
    """
    return load_text(text, base=base).snapshot


def quick(settings: str) -> str:
    return f'{{ interval = "50ms", fast_interval = "10ms", timeout = "200ms", rise = 1, fall = 1{settings} }}'


class Backend:
    """Answers as it is told to, and remembers the heads that it got."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        self.asked: list[bytes] = []
        self.address = ""

    async def was_asked(self, times: int = 1) -> None:
        assert await asyncio.to_thread(eventually, lambda: len(self.asked) >= times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            self.asked.append(b"")
        writer.close()


@asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    made = Backend()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


class Heard:
    """What workers would be told."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[Unhealthy] = asyncio.Queue()

    def say(self, outcome: str, detail: str) -> None:
        assert outcome in ("failed", "passed")
        report(detail)

    async def tell(self, unhealthy: Unhealthy) -> None:
        self.news.put_nowait(unhealthy)

    async def next(self) -> Unhealthy:
        async with asyncio.timeout(10):
            return await self.news.get()


@asynccontextmanager
async def checking(of: Snapshot) -> AsyncIterator[tuple[Checker, Heard]]:
    heard = Heard()
    checker = Checker(heard.tell, heard.say)
    checker.adopt(of)
    task = asyncio.create_task(checker.run())
    try:
        yield checker, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await checker.ended()


@pytest.mark.asyncio
async def test_an_endpoint_is_asked_and_believed(capsys: pytest.CaptureFixture[str]) -> None:
    async with backend() as made:
        of = snapshot(made.address, quick(', path = "/healthz?x=1", host = "b.test"'))
        async with checking(of) as (checker, heard):
            made.answer = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
            assert await heard.next() == {"a": frozenset({made.address})}
            made.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
            assert await heard.next() == {}
            assert checker.unhealthy() == {}
        assert made.asked[0].startswith(b"GET /healthz?x=1 HTTP/1.0\r\nHost: b.test\r\n")
    said = capsys.readouterr().err
    assert f"upstream a: {made.address} fails its checks: status 500" in said
    assert f"upstream a: {made.address} passes its checks again" in said


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("settings", "answer", "why"),
    [
        (', path = "/", status = ["200"]', b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        (', path = "/", body = "fine"', b"HTTP/1.1 200 OK\r\n\r\nnot well", "its body is another than expected"),
        (', path = "/"', b"", "it closed the connection without an answer"),
        (', path = "/"', b"nonsense\r\n\r\n", "its answer is not well-formed HTTP"),
        (', path = "/"', b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000), "the head of its answer is too large"),
    ],
)
async def test_what_is_not_as_expected_is_said(
    settings: str, answer: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with backend() as made:
        made.answer = answer
        async with checking(snapshot(made.address, quick(settings))) as (_, heard):
            assert await heard.next() == {"a": frozenset({made.address})}
    assert f"fails its checks: {why}\n" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_a_body_may_come_late_and_in_pieces() -> None:
    async with backend() as made:
        made.answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(30_000) + b"fine"
        async with checking(snapshot(made.address, quick(', path = "/", body = "fine"'))) as (checker, heard):
            await made.was_asked(3)
            assert heard.news.empty()
            assert checker.unhealthy() == {}


@pytest.mark.asyncio
async def test_a_connection_is_enough_where_no_path_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        async with checking(snapshot(address, quick(""))) as (_, heard):
            await asyncio.sleep(0.1)
            assert heard.news.empty()
            listening.close()
            assert await heard.next() == {"a": frozenset({address})}
    assert "fails its checks: " in capsys.readouterr().err


@pytest.mark.asyncio
async def test_one_that_does_not_answer_in_time_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with checking(snapshot(address, quick(', path = "/"'))) as (_, heard):
            assert await heard.next() == {"a": frozenset({address})}
    assert "no answer within 0.2 s" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_tls_is_spoken_and_verified_as_traffic_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    made = Backend()
    context = authority.server(authority.issue("b", "b.test"))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        for name, healthy in (("b.test", True), ("c.test", False)):
            tls = f'tls = {{ ca = "ca.pem", server_name = "{name}" }}'
            async with checking(snapshot(address, quick(', path = "/"'), tls, tmp_path)) as (_, heard):
                if healthy:
                    await made.was_asked()
                    assert heard.news.empty()
                else:
                    assert await heard.next() == {"a": frozenset({address})}
    assert "fails its checks: TLS: CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_a_check_may_be_under_way_when_its_upstream_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Authority(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        of = snapshot(address, quick(""), 'tls = { ca = "ca.pem", server_name = "b.test" }', tmp_path)
        async with checking(of) as (checker, heard):
            # It runs, and its check begins.
            for _ in range(2):
                await asyncio.sleep(0)
            assert len(checker._checking) == 1
            checker.adopt(snapshot(address, "false"))
            await checker.ended()
    assert (heard.news.empty(), capsys.readouterr().err) == (True, "")


@pytest.mark.asyncio
async def test_a_proxy_header_comes_first_where_traffic_has_one() -> None:
    async with backend() as made:
        more = 'proxy_protocol = "v1"'
        async with checking(snapshot(made.address, quick(', path = "/"'), more)) as _:
            await made.was_asked()
    assert made.asked[0].startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.0\r\n")


@pytest.mark.asyncio
async def test_it_is_known_when_the_next_check_is_due() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        two = address + '", "127.0.0.2:1'
        checker = Checker(Heard().tell, Heard().say)
        checker.adopt(snapshot(two, '{ path = "/", interval = "8s", timeout = "10ms" }'))
        for checked, chance in zip(checker._endpoints.values(), (0.25, 0.75), strict=True):
            checked.state.result(0, True, 100.0, lambda chance=chance: chance)  # type: ignore[misc]
        assert checker._begin_due(101.0) == 102.0
        assert checker._checking == set()
        # Of the one that is under way it is not known.
        assert checker._begin_due(102.0) == 106.0
        assert len(checker._checking) == 1
        await checker.ended()


@pytest.mark.asyncio
async def test_what_is_known_of_an_endpoint_outlives_a_reload() -> None:
    async with backend() as made:
        made.answer = b"HTTP/1.1 500 Oh\r\n\r\n"
        of = snapshot(made.address, quick(', path = "/"'))
        async with checking(of) as (checker, heard):
            await heard.next()
            checker.adopt(snapshot(made.address, quick(', path = "/"'), 'balance = "random"'))
            assert checker.unhealthy() == {"a": frozenset({made.address})}
            checker.adopt(snapshot(made.address, "false"))
            assert checker.unhealthy() == {}


@pytest.mark.asyncio
async def test_other_settings_are_no_reason_to_forget_or_to_ask_twice() -> None:
    async with backend() as made:
        made.answer = b"HTTP/1.1 500 Oh\r\n\r\n"
        async with checking(snapshot(made.address, quick(', path = "/"'))) as (checker, heard):
            await heard.next()
            slower = quick(', path = "/"').replace('interval = "50ms"', 'interval = "60ms"')
            checker.adopt(snapshot(made.address, slower))
            assert checker.unhealthy() == {"a": frozenset({made.address})}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        of = snapshot(address, '{ path = "/", interval = "50ms", fast_interval = "10ms", timeout = "1s" }')
        async with checking(of) as (checker, _):
            await asyncio.sleep(0.2)
            for _ in range(3):
                checker.adopt(of)
                await asyncio.sleep(0.2)
            assert len(checker._checking) == 1


@pytest.mark.asyncio
async def test_what_another_gateway_has_found_out_is_taken_over() -> None:
    checker = Checker(Heard().tell, Heard().say)
    checker.adopt(snapshot("127.0.0.1:1", quick("")))
    checker.presume({"a": frozenset({"127.0.0.1:1"}), "b": frozenset({"h:1"})})
    assert checker.unhealthy() == {"a": frozenset({"127.0.0.1:1"})}
