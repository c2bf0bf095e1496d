"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field. The list of fields is compiled into one
expression when the configuration is loaded, as nginx compiles its log_format: a line costs about 1 µs, where a
dictionary and a JSON library cost 5.
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

_NUMBERS = tuple(b"%d" % number for number in range(1024))
_THOUSANDTHS = tuple(b".%03d" % number for number in range(1000))


def _number(expression: str) -> str:
    """The expression for a number's text; formatting a small one costs five times a look-up."""
    return f"number[{expression}] if {expression} < {len(_NUMBERS)} else b'%d' % ({expression})"


# Each field's JSON; what stands between backquotes are the expressions of Python that fill it. `e` is the exchange,
# `r` its request, `at` the time, `path` the target, escaped; `t` and `u` are the microseconds of the whole exchange and
# until the upstream's head. `name` gives the JSON of a text of ours (null for ""), `text` that of a client's bytes.
# What is put between quotes as it is has been checked to need no escaping: addresses, hosts, methods, ids.
# `consumer` and `cache` are null as long as nothing authenticates or caches.
_JSON = {
    "time": '"`at`"',
    "client": '"`e.client`"',
    "method": '"`r.method`"',
    "host": '"`r.host_name`"',
    "path": '"`path`"',
    "status": "`number[e.status]`",
    "bytes": f"`{_number('e.bytes_out')}`",
    "duration_ms": f"`{_number('t // 1000')}``thousandths[t % 1000]`",
    "upstream_ms": f"`{_number('u // 1000')}``thousandths[u % 1000]`",
    "route": "`name[e.route.name if e.route is not None else '']`",
    "endpoint": "`name[e.endpoint]`",
    "consumer": "null",
    "cache": "null",
    "reason": "`name[e.reason]`",
    "request_id": '"`e.request_id`"',
    "listener": "`name[e.downstream.listener_name]`",
    "bytes_in": f"`{_number('e.bytes_in')}`",
    "upstream": "`name[e.pool.name if e.pool is not None else '']`",
    "protocol": '"HTTP/1.`number[r.minor]`"',
    "user_agent": "`text(r.header(b'user-agent'))`",
    "referer": "`text(r.header(b'referer'))`",
    "attempts": "`number[e.tries]`",
}
FIELDS = tuple(_JSON)

# What would end a field or a line, or is no text, in the combined format; nginx escapes it the same way.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')
_QUOTE, _BACKSLASH = b'"\\'

_Line = Callable[["Exchange", "RequestHead", bytes, bytes, int, int], bytes]


class _Names(dict[str, bytes]):
    """The JSON of names and reasons: of the configuration's and the program's own, so there are few."""

    def __missing__(self, name: str) -> bytes:
        self[name] = encode_basestring_ascii(name).encode() if name else b"null"
        return self[name]


def _text(value: bytes | None) -> bytes:
    return encode_basestring_ascii(value.decode("latin-1")).encode() if value is not None else b"null"


def _compile(fields: Sequence[str]) -> _Line:
    line = "{" + ",".join(f'"{name}":{_JSON[name]}' for name in fields) + "}\n"
    # Literals and expressions in turn. The source is made of the constants above alone.
    parts = [part if at % 2 else repr(part.encode()) for at, part in enumerate(line.split("`"))]
    joined = ",".join(part for part in parts if part != "b''")
    names = {"join": b"".join, "name": _Names(), "number": _NUMBERS, "text": _text, "thousandths": _THOUSANDTHS}
    compiled: _Line = eval(f"lambda e, r, at, path, t, u: join(({joined},))", names)
    return compiled


class LineEncoder:
    """Turns ended exchanges into lines. `log_format` is "json" or "combined"; `fields` are for the former."""

    def __init__(self, log_format: str, fields: Sequence[str]) -> None:
        self._line = _compile(fields)
        self._is_combined = log_format == "combined"
        self._second = -1
        self._second_text = b""
        self._millisecond = -1
        self._stamp = b""

    def encode(self, exchanges: Sequence[Exchange], wall: float) -> bytes:
        """All the lines, each ended by a newline. `wall`: what the wall clock shows when the exchanges' shows 0."""
        encode_all = self._all_combined if self._is_combined else self._all_json
        return b"".join(encode_all(exchanges, wall))

    def _all_json(self, exchanges: Sequence[Exchange], wall: float) -> list[bytes]:
        # One loop for the batch, with nothing looked up twice: this is a fifth of what an exchange costs.
        line = self._line
        lines = []
        for exchange in exchanges:
            request = exchange.request
            path = request.path
            if request.query:
                path += request.query
            if _QUOTE in path or _BACKSLASH in path or not path.isascii():
                path = _text(path)[1:-1]
            millisecond = int((exchange.started + wall) * 1000)
            if millisecond != self._millisecond:
                self._set_time(millisecond)
            duration_us = int((exchange.ended - exchange.started) * 1e6)
            upstream_us = int(exchange.upstream_s * 1e6)
            lines.append(line(exchange, request, self._stamp, path, duration_us, upstream_us))
        return lines

    def _set_time(self, millisecond: int) -> None:
        """RFC 3339, UTC. A busy millisecond has many lines, and a second all the more."""
        self._millisecond = millisecond
        second = millisecond // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        self._stamp = b"%b.%03dZ" % (self._second_text, millisecond % 1000)

    def _all_combined(self, exchanges: Sequence[Exchange], wall: float) -> list[bytes]:
        return [self._combined(exchange, exchange.started + wall) for exchange in exchanges]

    def _combined(self, exchange: Exchange, at: float) -> bytes:
        request = exchange.request
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(int(at)))
        asked = b"%b %b%b HTTP/1.%d" % (request.method, request.path, request.query, request.minor)
        referer = request.header(b"referer") or b"-"
        agent = request.header(b"user-agent") or b"-"
        texts = [_safe(text) for text in (asked if request.method else b"-", referer, agent)]
        client, status, sent = exchange.client.decode(), exchange.status, exchange.bytes_out
        return f'{client} - - [{stamp}] "{texts[0]}" {status} {sent} "{texts[1]}" "{texts[2]}"\n'.encode()


def _safe(text: bytes) -> str:
    return _UNSAFE.sub(lambda found: f"\\x{ord(found.group()):02X}", text.decode("latin-1"))
