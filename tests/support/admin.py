"""The admin API as its users ask it: over HTTP, with a token or without."""

from __future__ import annotations

import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import free_port

TOKEN = "a-token-that-nobody-guesses"


def admin_table(port: int, more: str = "") -> str:
    return f'[admin]\naddress = "127.0.0.1:{port}"\n{more}\n'


class Admin:
    """Asks at a port of the loopback."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, value: object) -> tuple[int, Any]:
        status, _, body = self.ask(path, "POST", json.dumps(value).encode())
        return status, json.loads(body)

    def samples(self) -> dict[tuple[str, ...], float]:
        """Each metric's value, by its name without `fastgw_` and its labels' values in their order."""
        status, _, body = self.ask("/metrics")
        assert status == 200
        return {
            (sample.name.removeprefix("fastgw_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


def with_admin(config: str, more: str = "") -> tuple[str, Admin]:
    """A configuration with an admin API on a free port, and whoever asks there."""
    port = free_port()
    token = TOKEN if f'token = "{TOKEN}"' in more else ""
    return config + admin_table(port, more), Admin(port, token)
