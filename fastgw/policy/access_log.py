"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field. The list of fields is compiled into one
format string of Python when the configuration is loaded, as nginx compiles its log_format: a line then costs about
2 µs, where a dictionary and a JSON library cost 5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.http1.message import RequestHead

# Each field as an expression of Python that yields its JSON: `e` is the exchange, `r` its request, `at` the time as
# text; `q` quotes and escapes text, `n` bytes, None when there are none. `consumer` and `cache` are null as long as
# nothing authenticates or caches.
_JSON = {
    "time": "at",
    "client": "q(e.client)",
    "method": "n(r.method)",
    "host": "n(r.host_name)",
    "path": "n(r.path + r.query) if r.method else 'null'",
    "status": "e.status",
    "bytes": "e.bytes_out",
    "duration_ms": "'%.3f' % ((e.ended - e.started) * 1000)",
    "upstream_ms": "'%.3f' % (e.upstream_s * 1000) if e.upstream_s else 'null'",
    "route": "q(e.route.name) if e.route is not None else 'null'",
    "endpoint": "q(e.endpoint) if e.endpoint else 'null'",
    "consumer": "'null'",
    "cache": "'null'",
    "reason": "q(e.reason) if e.reason else 'null'",
    "request_id": "n(e.request_id)",
    "listener": "q(e.downstream.listener_name)",
    "bytes_in": "e.bytes_in",
    "upstream": "q(e.pool.name) if e.pool is not None else 'null'",
    "protocol": "'\"HTTP/1.%d\"' % r.minor if r.method else 'null'",
    "user_agent": "n(r.header(b'user-agent'))",
    "referer": "n(r.header(b'referer'))",
}
FIELDS = tuple(_JSON)

# What would end a field or a line, or is no text, in the combined format; nginx escapes it the same way.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')


def _quote_bytes(value: bytes | None) -> str:
    return encode_basestring_ascii(value.decode("latin-1")) if value else "null"


def _compile(fields: Sequence[str]) -> Callable[[Exchange, RequestHead, str], str]:
    # The source is made of the constants above alone.
    members = ",".join(f'"{name}":{{{_JSON[name]}}}' for name in fields)
    source = f"lambda e, r, at: f'''{{{{{members}}}}}\\n'''"
    names = {"q": encode_basestring_ascii, "n": _quote_bytes}
    compiled: Callable[[Exchange, RequestHead, str], str] = eval(source, names)  # noqa: S307
    return compiled


class LineEncoder:
    """Turns ended exchanges into lines. `log_format` is "json" or "combined"; `fields` are for the former."""

    def __init__(self, log_format: str, fields: Sequence[str]) -> None:
        self._combined = log_format == "combined"
        self._json_line = _compile(fields)
        self._second = -1
        self._second_text = ""

    def encode(self, exchanges: Sequence[Exchange], wall: float) -> bytes:
        """All the lines, each ended by a newline. `wall`: what the wall clock shows when the exchanges' shows 0."""
        lines = []
        for exchange in exchanges:
            at = exchange.started + wall
            if self._combined:
                lines.append(_combined_line(exchange, at))
            else:
                lines.append(self._json_line(exchange, exchange.request, self._time(at)))
        return "".join(lines).encode()

    def _time(self, at: float) -> str:
        """RFC 3339, UTC, to the millisecond, in quotes."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime('"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
        return '%s%03dZ"' % (self._second_text, (at - second) * 1000)  # noqa: UP031


def _combined_line(exchange: Exchange, at: float) -> str:
    request = exchange.request
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(int(at)))
    target = request.path + request.query
    asked = b"%b %b HTTP/1.%d" % (request.method, target, request.minor) if request.method else b"-"
    referer = request.header(b"referer") or b"-"
    agent = request.header(b"user-agent") or b"-"
    texts = [_UNSAFE.sub(_escape, text.decode("latin-1")) for text in (asked, referer, agent)]
    return '%s - - [%s] "%s" %d %d "%s" "%s"\n' % (
        exchange.client,
        stamp,
        texts[0],
        exchange.status,
        exchange.bytes_out,
        texts[1],
        texts[2],
    )


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02X}"
