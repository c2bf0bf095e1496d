"""Clients that come back to where they have been, through a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.troubled import Troubled

OLD_SECRET, SECRET = "an old secret, still known", "a new secret of some length"


@pytest.fixture
def backends() -> Iterator[list[Troubled]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Troubled()) for _ in range(3)]


def config(backends: list[Troubled], *secrets: str, workers: int = 2) -> str:
    addresses = ", ".join(f'"{backend.address}"' for backend in backends)
    return f"""
        [server]
        workers = {workers}

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.backend]
        endpoints = [{addresses}]
        sticky = {{ secret = {list(secrets)}, max_age = "1h", secure = false }}
        connect_timeout = "500ms"

        [[routes]]
        upstream = "backend"
    """


def ask(gateway: GatewayProcess, cookie: bytes = b"") -> Received:
    """On a connection of its own, so that any worker may get it."""
    with Client(gateway.address) as client:
        answer = client.ask(get(b"/", *([b"Cookie: " + cookie] if cookie else [])))
    assert answer.status == 200
    return answer


def cookie_of(answer: Received) -> bytes:
    (cookie,) = answer.values(b"set-cookie")
    assert cookie.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600")
    assert answer.values(b"cache-control") == [b"private"]
    return cookie.partition(b";")[0]


def test_a_client_comes_back_to_its_endpoint_until_that_is_gone(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends, SECRET), tmp_path) as gateway:
        first = ask(gateway)
        cookie = cookie_of(first)
        again = [ask(gateway, cookie) for _ in range(12)]
        assert {answer.body for answer in again} == {first.body}
        assert not any(answer.values(b"set-cookie") for answer in again)
        next(backend for backend in backends if str(backend.port).encode() == first.body).kill()
        other = ask(gateway, cookie)
        assert other.body != first.body
        assert cookie_of(other) != cookie
        assert {ask(gateway, cookie_of(other)).body for _ in range(6)} == {other.body}


def test_cookies_outlive_reloads_and_the_change_of_a_secret(backends: list[Troubled], tmp_path: Path) -> None:
    with GatewayProcess(config(backends, OLD_SECRET), tmp_path) as gateway:
        first = ask(gateway)
        cookie = cookie_of(first)
        # In another order, too.
        gateway.rewrite(config(backends[::-1], SECRET, OLD_SECRET))
        assert gateway.command("reload").returncode == 0
        answer = ask(gateway, cookie)
        assert answer.body == first.body
        renewed = cookie_of(answer)
        assert renewed != cookie
        gateway.rewrite(config(backends, SECRET))
        assert gateway.command("reload").returncode == 0
        assert {ask(gateway, renewed).body for _ in range(6)} == {first.body}


def split(backends: list[Troubled], *weights: int) -> str:
    stable, canary, _ = backends
    return f"""
        [server]
        workers = 2

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        stable.endpoints = ["{stable.address}"]
        canary.endpoints = ["{canary.address}"]

        [[routes]]
        name = "shop"
        upstream = [{{ upstream = "stable", weight = {weights[0]} }}, {{ upstream = "canary", weight = {weights[1]} }}]
        split.sticky = {{ secret = "{SECRET}", max_age = "1h", secure = false }}
        split.header = "X-Arm"
        split.cookie = "arm"
    """


def test_users_stay_in_their_arm_of_a_split_until_it_is_closed(backends: list[Troubled], tmp_path: Path) -> None:
    stable, canary = (str(backend.port).encode() for backend in backends[:2])
    with GatewayProcess(split(backends, 50, 50), tmp_path) as gateway:
        cookies: dict[bytes, bytes] = {}
        while len(cookies) < 2:
            answer = ask(gateway)
            cookies[answer.body] = cookie_of(answer)
        for body, cookie in cookies.items():
            assert {ask(gateway, cookie).body for _ in range(8)} == {body}
        gateway.rewrite(split(backends, 100, 0))
        assert gateway.command("reload").returncode == 0
        moved = ask(gateway, cookies[canary])
        assert moved.body == stable
        assert cookie_of(moved) == cookies[stable]
        # Who asks for it by name gets there all the same.
        assert ask(gateway, b"arm=canary").body == canary
        with Client(gateway.address) as client:
            assert client.ask(get(b"/", b"X-Arm: canary", b"Cookie: " + cookies[stable])).body == canary
