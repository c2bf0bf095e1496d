"""A gateway that tells by its answers which configuration is in force."""

from __future__ import annotations

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess


def config(body: str, upstream: str = "127.0.0.1:1", more: str = "", workers: int = 2) -> str:
    """Answers `body` to "/", and forwards "/forwarded"; `more` stands in the listener's table, or behind it."""
    return f"""
        [server]
        workers = {workers}
        drain_timeout = "5s"

        [[listeners]]
        name = "public"
        address = "{LISTEN}"
        {more}

        [upstreams.backend]
        endpoints = ["{upstream}"]

        [[routes]]
        path = "/"
        respond = {{ body = "{body}" }}

        [[routes]]
        path = "/forwarded"
        upstream = "backend"
    """


def second_listener(address: str) -> str:
    return f"""
        [[listeners]]
        name = "second"
        address = "{address}"
    """


def bodies(gateway: GatewayProcess, clients: int = 20) -> set[bytes]:
    """What so many new clients get; they come to all workers."""
    found = set()
    for _ in range(clients):
        with Client(gateway.address) as client:
            found.add(client.ask(get()).body)
    return found
