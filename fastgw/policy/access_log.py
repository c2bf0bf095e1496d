"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from fastgw.exchange import Exchange

FieldValue = str | int | float | None

# What would end a field or a line, or is no text, in the combined format; nginx escapes it the same way.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


def _milliseconds(seconds: float) -> float | None:
    return round(seconds * 1000, 3) if seconds else None


def _path(exchange: Exchange) -> str | None:
    request = exchange.request
    return (request.path + request.query).decode("latin-1") if request.method else None


def _upstream(exchange: Exchange) -> str | None:
    return exchange.pool.name if exchange.pool is not None else None


def _protocol(exchange: Exchange) -> str | None:
    return f"HTTP/1.{exchange.request.minor}" if exchange.request.method else None


def _nothing(_exchange: Exchange) -> None:
    return None


# `consumer` and `cache` are null as long as nothing authenticates or caches; `time` is filled in per batch.
FIELDS: dict[str, Callable[[Exchange], FieldValue]] = {
    "time": _nothing,
    "client": lambda exchange: exchange.client,
    "method": lambda exchange: _text(exchange.request.method),
    "host": lambda exchange: _text(exchange.request.host_name),
    "path": _path,
    "status": lambda exchange: exchange.status,
    "bytes": lambda exchange: exchange.bytes_out,
    "duration_ms": lambda exchange: _milliseconds(exchange.ended - exchange.started),
    "upstream_ms": lambda exchange: _milliseconds(exchange.upstream_s),
    "route": lambda exchange: exchange.route.name if exchange.route is not None else None,
    "endpoint": lambda exchange: exchange.endpoint or None,
    "consumer": _nothing,
    "cache": _nothing,
    "reason": lambda exchange: exchange.reason or None,
    "request_id": lambda exchange: _text(exchange.request_id),
    "listener": lambda exchange: exchange.downstream.listener_name,
    "bytes_in": lambda exchange: exchange.bytes_in,
    "upstream": _upstream,
    "protocol": _protocol,
    "user_agent": lambda exchange: _text(exchange.request.header(b"user-agent")),
    "referer": lambda exchange: _text(exchange.request.header(b"referer")),
}


class LineEncoder:
    """Turns ended exchanges into lines. `wall` is what the wall clock shows when the monotonic clock shows 0."""

    def __init__(self, log_format: str, fields: Sequence[str]) -> None:
        self._combined = log_format == "combined"
        self._names = tuple(fields)
        self._getters = tuple(FIELDS[name] for name in fields)
        self._second = -1
        self._second_text = ""

    def encode(self, exchanges: Sequence[Exchange], wall: float) -> bytes:
        """All the lines, each ended by a newline."""
        line = self._combined_line if self._combined else self._json_line
        return b"".join([line(exchange, exchange.started + wall) for exchange in exchanges])

    def _json_line(self, exchange: Exchange, at: float) -> bytes:
        record = {name: get(exchange) for name, get in zip(self._names, self._getters, strict=True)}
        if "time" in record:
            record["time"] = self._time(at)
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)

    def _time(self, at: float) -> str:
        """RFC 3339, UTC, to the millisecond."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((at - second) * 1000):03d}Z"

    def _combined_line(self, exchange: Exchange, at: float) -> bytes:
        request = exchange.request
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(int(at)))
        asked = f"{_text(request.method)} {_path(exchange)} HTTP/1.{request.minor}" if request.method else "-"
        referer = _text(request.header(b"referer")) or "-"
        agent = _text(request.header(b"user-agent")) or "-"
        safe = [_UNSAFE.sub(_escape, text) for text in (asked, referer, agent)]
        return (
            f'{exchange.client} - - [{stamp}] "{safe[0]}" {exchange.status} {exchange.bytes_out} '
            f'"{safe[1]}" "{safe[2]}"\n'
        ).encode()


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02X}"
