from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.played import PlayedBackend

BODY_SIZE = 1000


@pytest.fixture(scope="package")
def played() -> Iterator[PlayedBackend]:
    with PlayedBackend() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(played: PlayedBackend) -> Iterator[None]:
    yield
    played.hang_up()


@pytest.fixture(scope="package")
def gateway(played: PlayedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Trusts loopback; bodies may have 1,000 bytes, and heads take a minute."""
    config = f"""
        [server]
        workers = 1
        drain_timeout = "2s"
        trusted_proxies = ["127.0.0.1"]

        [[listeners]]
        address = "{LISTEN}"
        [listeners.limits]
        body_size = "{BODY_SIZE}B"
        head_timeout = "60s"

        [access_log]
        path = "access.log"

        [upstreams]
        played.endpoints = ["{played.address}"]

        [[routes]]
        host = "a.test"
        upstream = "played"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("regression")) as running:
        yield running
