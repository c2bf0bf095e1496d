"""The demo's backends by themselves: what they answer, and that they stay in step with their clients."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastgw.runtime import shop


@contextmanager
def backend(name: str) -> Iterator[http.client.HTTPConnection]:
    server = shop.start(name, "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.shutdown()
        server.server_close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_one_connection_serves_many_requests() -> None:
    with backend("products") as connection:
        assert ask(connection, "GET", "/products/7")[1]["name"] == "Lantern"
        assert [one["id"] for one in ask(connection, "GET", "/products?category=garden")[1]] == [1, 3]
        assert ask(connection, "GET", "/products/99")[0] == 404
        assert ask(connection, "GET", "/nothing")[0] == 404


def test_an_order_is_listed_and_streamed() -> None:
    with backend("orders") as connection:
        status, order = ask(connection, "POST", "/orders", {"user": 2, "product": 3, "quantity": 4})
        assert status == 201
        assert order in ask(connection, "GET", "/orders")[1]
        connection.request("GET", "/orders/events")
        stream = connection.getresponse()
        assert stream.getheader("Content-Type") == "text/event-stream"
        while f"data: {json.dumps(order)}\n".encode() != stream.readline():
            pass


@pytest.mark.parametrize("order", [{}, {"user": "x", "product": 1, "quantity": 1}, [1], None])
def test_what_is_no_order_is_refused(order: object) -> None:
    with backend("orders") as connection:
        assert ask(connection, "POST", "/orders", order)[0] == 422


def test_a_body_that_nobody_asked_for_is_not_taken_for_the_next_request() -> None:
    with backend("users") as connection:
        assert ask(connection, "POST", "/users", {"GET /users/1 HTTP/1.1": ""})[0] == 200
        assert ask(connection, "GET", "/users/2")[1]["name"] == "Grace"


def test_a_body_in_chunks_is_read_as_any_other() -> None:
    order = json.dumps({"user": 1, "product": 2, "quantity": 3}).encode()
    with backend("orders") as connection:
        connection.request("POST", "/orders", iter([order[:5], order[5:]]), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["quantity"]) == (201, 3)
        assert ask(connection, "GET", "/orders/1")[0] == 200


def test_a_large_body_is_refused_and_the_connection_goes_on() -> None:
    with backend("users") as connection:
        assert ask(connection, "POST", "/users", "x" * 1_000_000)[0] == 413
        assert ask(connection, "GET", "/users/2")[0] == 200
