"""The three backends of the demo: users, products and orders, each a small HTTP/1.1 server with its data in memory.

They are plain on purpose (a thread for each connection): what they show is the gateway in front of them.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# How long a report takes; the route in front of it waits for less.
REPORT_S = 3.0
CATALOGUE_BYTES = 20_000_000
# As often as this a stream says that it is still there, and so learns that nobody listens any more.
HEARTBEAT_S = 1.0
# What is sent here is small, and of the orders the newest are kept.
_BODY_BYTES_MAX = 64 * 1024
_ORDERS_KEPT = 1000

USERS = {
    1: {"id": 1, "name": "Ada", "city": "London"},
    2: {"id": 2, "name": "Grace", "city": "New York"},
    3: {"id": 3, "name": "Edsger", "city": "Rotterdam"},
}
PRODUCTS = {
    1: {"id": 1, "name": "Watering can", "category": "garden", "price": 24.5},
    2: {"id": 2, "name": "Tea pot", "category": "kitchen", "price": 32.0},
    3: {"id": 3, "name": "Spade", "category": "garden", "price": 19.9},
    7: {"id": 7, "name": "Lantern", "category": "living", "price": 45.0},
}


class Answer(Exception):
    """An answer that ends a handler early."""

    def __init__(self, status: int, content: object) -> None:
        super().__init__(status)
        self.status = status
        self.content = content


class Backend(BaseHTTPRequestHandler):
    """One connection. Subclasses say what their paths hold, in `answer`."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes; without this the second waits for the client's acknowledgement of the first.
    disable_nagle_algorithm = True
    kind = ""
    body = b""

    def do_GET(self) -> None:
        try:
            self.body = self._read_body()
            url = urlsplit(self.path)
            if url.path == "/hello":
                raise Answer(200, {"hello": f"from the {self.kind}"})
            self.answer(url.path, {name: given[0] for name, given in parse_qs(url.query).items()})
        except Answer as answer:
            self.send_json(answer.status, answer.content)
        except (OSError, ValueError):
            # Whoever asked has left, or can't say how long a body is.
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 (the names are the library's)
    do_POST = do_GET  # noqa: N815

    def _read_body(self) -> bytes:
        """All of what comes: what is left of it would be taken for the next request."""
        body = b""
        if "Transfer-Encoding" in self.headers:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body = self._read_piece(body, size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                """A trailer; nobody asks for it."""
        else:
            body = self._read_piece(body, int(self.headers.get("Content-Length", "0")))
        if len(body) > _BODY_BYTES_MAX:
            raise Answer(413, {"error": f"a body has at most {_BODY_BYTES_MAX} bytes here"})
        return body

    def _read_piece(self, body: bytes, size: int) -> bytes:
        """`body` with the next `size` bytes, or with a few of them when that is too much already."""
        while size and (read := self.rfile.read(min(size, _BODY_BYTES_MAX))):
            size -= len(read)
            body = body + read if len(body) <= _BODY_BYTES_MAX else body
        return body

    def answer(self, path: str, query: dict[str, str]) -> None:
        """Sends what is at `path`, or raises an Answer."""
        raise NotImplementedError

    def send_json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_one(self, things: dict[int, dict[str, Any]], identifier: str) -> None:
        found = things.get(int(identifier)) if identifier.isdecimal() else None
        if found is None:
            raise Answer(404, {"error": f"the {self.kind} have no {identifier}"})
        self.send_json(200, found)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the library's)
        """The gateway has an access log; one is enough."""


class Users(Backend):
    kind = "users"

    def answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/users":
            self.send_json(200, list(USERS.values()))
        elif path.startswith("/users/"):
            self.send_one(USERS, path.removeprefix("/users/"))
        elif path == "/headers":
            self.send_json(200, [f"{name}: {value}" for name, value in self.headers.items()])
        else:
            raise Answer(404, {"error": f"the {self.kind} know no {path}"})


class Products(Backend):
    kind = "products"

    def answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/products":
            category = query.get("category")
            self.send_json(200, [one for one in PRODUCTS.values() if category in (None, one["category"])])
        elif path.startswith("/products/"):
            self.send_one(PRODUCTS, path.removeprefix("/products/"))
        elif path == "/catalogue":
            self._send_catalogue()
        else:
            raise Answer(404, {"error": f"the {self.kind} know no {path}"})

    def _send_catalogue(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(CATALOGUE_BYTES))
        self.end_headers()
        if self.command == "HEAD":
            return
        page = b"Watering can, tea pot, spade, lantern. " * 2048
        for sent in range(0, CATALOGUE_BYTES, len(page)):
            self.wfile.write(page[: CATALOGUE_BYTES - sent])


class OrderBook:
    """The orders, and those who listen for new ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 2
        self.orders: dict[int, dict[str, Any]] = {1: {"id": 1, "user": 1, "product": 7, "quantity": 1}}
        self._listening: set[queue.SimpleQueue[dict[str, Any]]] = set()

    def add(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            entered = {"id": self._next, **order}
            self._next += 1
            self.orders[entered["id"]] = entered
            if len(self.orders) > _ORDERS_KEPT:
                del self.orders[min(self.orders)]
            for listener in self._listening:
                listener.put(entered)
        return entered

    def everything(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self.orders.values())

    def listen(self) -> queue.SimpleQueue[dict[str, Any]]:
        """All orders so far, and then each new one."""
        listener: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            for order in self.orders.values():
                listener.put(order)
            self._listening.add(listener)
        return listener

    def leave(self, listener: queue.SimpleQueue[dict[str, Any]]) -> None:
        with self._lock:
            self._listening.discard(listener)


class Orders(Backend):
    kind = "orders"
    book = OrderBook()

    def answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/orders" and self.command == "POST":
            order = self.book.add(self._read_order())
            self.send_json(201, order, {"Location": f"/api/orders/{order['id']}"})
        elif path == "/orders":
            self.send_json(200, self.book.everything())
        elif path == "/orders/events":
            self._send_events()
        elif path.startswith("/orders/"):
            self.send_one(self.book.orders, path.removeprefix("/orders/"))
        elif path == "/report":
            time.sleep(REPORT_S)
            self.send_json(200, {"orders": len(self.book.everything())})
        else:
            raise Answer(404, {"error": f"the {self.kind} know no {path}"})

    def _read_order(self) -> dict[str, Any]:
        try:
            order = json.loads(self.body)
            return {"user": int(order["user"]), "product": int(order["product"]), "quantity": int(order["quantity"])}
        except (ValueError, TypeError, KeyError):
            raise Answer(422, {"error": 'write an order like {"user": 1, "product": 7, "quantity": 1}'}) from None

    def _send_events(self) -> None:
        """Server-sent events: each order as it is made. The stream has no length, so it ends with the connection."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        listener = self.book.listen()
        try:
            while True:
                try:
                    order = listener.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    self.wfile.write(b": nothing new\n\n")
                else:
                    self.wfile.write(f"event: order\ndata: {json.dumps(order)}\n\n".encode())
        finally:
            self.book.leave(listener)


BACKENDS: dict[str, type[Backend]] = {backend.kind: backend for backend in (Users, Products, Orders)}


class Server(ThreadingTCPServer):
    """A backend that listens. Its threads end with the process."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    # The gateway opens many connections at once when there is much to do.
    request_queue_size = 128

    def __init__(self, host: str, port: int, backend: type[Backend]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.kind = backend.kind
        super().__init__((host, port), backend)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; the gateway says so where it matters."""


def start(name: str, host: str, port: int) -> Server:
    """A running backend; `name` is one of BACKENDS. Raises OSError when it can't listen there."""
    server = Server(host, port, BACKENDS[name])
    threading.Thread(target=server.serve_forever, name=f"shop-{name}", daemon=True).start()
    return server
