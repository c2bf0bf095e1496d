"""What to try with the demo: each request as a curl command, and what must come back.

The same list is printed by `fastgw demo` and run by `fastgw demo --check`, so what is printed works.
"""

from __future__ import annotations

import http.client
import shlex
from dataclasses import dataclass, field

from fastgw.runtime.shop import CATALOGUE_BYTES

# The slowest sample takes a second; a machine under load takes a few.
_TIMEOUT_S = 20.0
_READ_BYTES = 64 * 1024


@dataclass(frozen=True)
class Sample:
    """A request to try. `shows` says what it is about, `options` are curl's; the answer must have `status`, and
    `holds` in its head or body, but not `lacks`. An `endless` answer is read until that is there."""

    shows: str
    path: str
    options: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 200
    holds: tuple[str, ...] = ()
    lacks: str = ""
    size: int = -1
    endless: bool = False

    def command(self, base: str) -> str:
        """The curl command; `base` is the gateway's URL without a path."""
        parts = ["curl"] + ([self.options] if self.options else [])
        if self.method != "GET" and not self.body:
            parts += ["-X", self.method]
        for name, value in self.headers.items():
            parts += ["-H", shlex.quote(f"{name}: {value}")]
        if self.body:
            parts += ["-d", shlex.quote(self.body)]
        return " ".join([*parts, shlex.quote(base + self.path)])

    def trouble(self, host: str, port: int) -> str:
        """Makes the request; what is wrong with the answer, or an empty string."""
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            connection.request(self.method, self.path, self.body or None, self.headers)
            response = connection.getresponse()
            text = "".join(f"{name}: {value}\n" for name, value in response.getheaders())
            size = 0
            while not (self.endless and self._is_there(text)) and (data := response.read1(_READ_BYTES)):
                size += len(data)
                # Large answers are only counted.
                text += data.decode("latin-1") if size <= _READ_BYTES else ""
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {error!r}"
        finally:
            connection.close()
        return self._judge(response.status, text, size)

    def _is_there(self, text: str) -> bool:
        return all(part in text for part in self.holds)

    def _judge(self, status: int, text: str, size: int) -> str:
        if status != self.status:
            return f"status {status}, expected {self.status}"
        if not self._is_there(text):
            return f"the answer lacks {' or '.join(map(repr, self.holds))}: {text}"
        if self.lacks and self.lacks in text:
            return f"the answer holds {self.lacks!r}"
        if self.size >= 0 and size != self.size:
            return f"{size} bytes, expected {self.size}"
        return ""


SAMPLES = (
    Sample("a path leads to a backend", "/users/1", holds=('"Ada"',)),
    Sample("the query passes as it came", "/products?category=garden", holds=('"Spade"',), lacks="Lantern"),
    Sample("an old path is rewritten: the backend gets /products/7", "/v1/items/7", holds=('"Lantern"',)),
    Sample(
        "paths are normalized before they are matched, and what was matched is what is forwarded",
        "/users/..//products/%37", "--path-as-is", holds=('"Lantern"',),
    ),
    Sample(
        "a new order; the backend gets /orders, without /api", "/api/orders", "-i", "POST",
        {"Content-Type": "application/json"}, '{"user": 1, "product": 3, "quantity": 2}', 201,
        ("Location: /api/orders/", '"quantity": 2'),
    ),
    Sample("the orders", "/api/orders", holds=('"product": 7',)),
    Sample("a split by weight: run it a few times", "/hello", holds=('"hello"',)),
    Sample("more conditions win: the header leads elsewhere", "/hello", headers={"X-Beta": "1"}, holds=("the orders",)),
    Sample(
        "header edits both ways: X-Shop is set, Cookie and Server are removed; who asked is told", "/headers", "-i",
        headers={"Cookie": "secret=1"}, holds=("X-Shop: demo", "X-Forwarded-For: ", "Cache-Control: no-store"),
        lacks="secret",
    ),
    Sample("an answer of the gateway's own; its X-Request-Id is in the log below", "/status", "-i",
           holds=('"status":"ok"', "X-Request-Id: ")),
    Sample("a redirect", "/shop/7?lang=en", "-i", status=308, holds=("Location: /products/7?lang=en",)),
    Sample("no route: 404", "/nothing/here", "-i", status=404, holds=("no-route",)),
    Sample("a method that no route takes: 405, with Allow", "/users/1", "-i", "DELETE", status=405,
           holds=("Allow: GET, HEAD",)),
    Sample("a backend that is too slow: 504 after the route's timeout of a second", "/report", "-i", status=504,
           holds=("route-timeout",)),
    Sample("server-sent events, as they happen: each new order, until Ctrl-C", "/api/orders/events", "-N",
           holds=("event: order",), endless=True),
    Sample("a download of 20 MB, spliced from socket to socket", "/catalogue",
           r"-o /dev/null -w '%{size_download} bytes in %{time_total} s\n'", size=CATALOGUE_BYTES),
)  # fmt: skip
