"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field, and credentials are hidden. The list of
fields is compiled into one expression when the configuration is loaded, as nginx compiles its log_format: a line costs
about 1 µs, where a dictionary and a JSON library cost 5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from fastgw.http1.fields import values
from fastgw.policy.log_rule import LogRule, LogRules
from fastgw.policy.redaction import WORD, Redaction, RedactionSettings

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.http1.message import RequestHead

_NUMBERS = tuple(b"%d" % number for number in range(1024))
# Of microseconds, up to 8 ms: in milliseconds.
_MILLISECONDS = tuple(b"%d.%03d" % divmod(number, 1000) for number in range(8192))


def _number(expression: str) -> str:
    """The expression for a number's text; formatting a small one costs five times a look-up."""
    return f"number[n] if (n := {expression}) < {len(_NUMBERS)} else b'%d' % n"


def _milliseconds_of(us: str) -> str:
    """The expression for the milliseconds that so many microseconds are."""
    return f"milliseconds[{us}] if {us} < {len(_MILLISECONDS)} else b'%d.%03d' % divmod({us}, 1000)"


# Each field's JSON; what stands between backquotes are the expressions of Python that fill it. `e` is the exchange,
# `r` its request, `at` the time, `path` the target, escaped; `t` and `u` are the microseconds of the whole exchange and
# until the upstream's head. `name` gives the JSON of a text of ours (null for ""), `text` that of a client's bytes.
# What is put between quotes as it is has been checked to need no escaping: addresses, hosts, methods, ids.
# `consumer` and `cache` are null as long as nothing authenticates or caches. Functions of more than a look are below.
_JSON = {
    "time": '"`at`"',
    "client": '"`e.client`"',
    "method": '"`r.method`"',
    "host": '"`r.host_name`"',
    "path": '"`path`"',
    "status": "`number[e.status]`",
    "bytes": f"`{_number('e.bytes_out')}`",
    "duration_ms": f"`{_milliseconds_of('t')}`",
    "upstream_ms": f"`{_milliseconds_of('u')}`",
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
    "referer": "`url(r.header(b'referer'))`",
    "attempts": "`number[e.tries]`",
    "sampled": "`share(e)`",
    "answered_by": '"`answered_by(e)`"',
    "queue_ms": "`ms(e.queued_s)`",
    "connect_ms": "`ms(e.connect_s)`",
    "body_ms": "`ms(body_s(e))`",
    "earlier_ms": "`ms(before_s(e) if e.tries > 1 else 0.0)`",
    "gateway_ms": "`ms(before_s(e) if e.tries <= 1 else 0.0)`",
    "trace_id": "`b'\"%b\"' % e.trace_id if e.trace_id else b'null'`",
}
FIELDS = tuple(_JSON)
# Where the time of a slow exchange has gone.
PHASES = ("queue_ms", "connect_ms", "upstream_ms", "body_ms", "earlier_ms", "gateway_ms")
# Fields that name what is looked up: "header:User-Agent", "response:Content-Type", "query:page".
REQUEST_HEADER = "header"
RESPONSE_HEADER = "response"
QUERY = "query"

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


def _url(redaction: Redaction, value: bytes | None) -> bytes:
    """A text that may be a URL, with credentials in it."""
    return _text(redaction.url(value)) if value is not None else b"null"


def _hidden(value: bytes | None) -> bytes:
    """That there is something may be known."""
    return b'"%b"' % WORD if value is not None else b"null"


def _joined(lines: bytes, name: bytes) -> bytes | None:
    found = values(lines, name)
    return b", ".join(found) if found else None


def _milliseconds(seconds: float) -> bytes:
    return b"%.3f" % (seconds * 1000 if seconds > 0 else 0.0)


def _answered_by(e: Exchange) -> bytes:
    """Who has made the answer; `reason` says why where it is a failure's."""
    if e.upstream_started and (e.upstream_s or not e.reason):
        return b"upstream"
    if e.reason:
        return b"failure"
    if e.route is None:
        return b"https-redirect"
    if e.route.reply is None:
        return b"max-forwards"
    return b"respond" if e.route.reply.location is None else b"redirect"


def _body_s(e: Exchange) -> float:
    """From the answer's head to its end."""
    return e.ended - e.upstream_started - e.upstream_s if e.upstream_s else 0.0


def _before_s(e: Exchange) -> float:
    """What was neither spent in a queue nor on connecting before the request was sent the last time."""
    return (e.upstream_started or e.ended) - e.started - e.queued_s - e.connect_s


def _looked_up(field: str, redaction: Redaction) -> str:
    """The expression for a field that names what is looked up."""
    kind, _, written = field.partition(":")
    name = written.encode()
    if kind == QUERY:
        return f"{'hidden' if redaction.hides_parameter(name) else 'url'}(r.query_value({name!r}))"
    name = name.lower()
    value = f"r.header({name!r})" if kind == REQUEST_HEADER else f"joined(e.answer_fields, {name!r})"
    return f"{'hidden' if redaction.hides_header(name) else 'url'}({value})"


def _compile(fields: Sequence[str], redaction: Redaction, share: Callable[[Exchange], bytes]) -> _Line:
    # Literals and expressions. The source is made of the constants above alone, and of names as Python writes them.
    source, literal = [], b"{"
    for number, field in enumerate(fields):
        literal += (b"," if number else b"") + encode_basestring_ascii(field).encode() + b":"
        parts = _JSON[field].split("`") if field in _JSON else ["", _looked_up(field, redaction), ""]
        for at, part in enumerate(parts):
            if at % 2 == 0:
                literal += part.encode()
                continue
            if literal:
                source.append(repr(literal))
                literal = b""
            source.append(part)
    source.append(repr(literal + b"}\n"))
    names = {
        "join": b"".join,
        "name": _Names(),
        "number": _NUMBERS,
        "text": _text,
        "milliseconds": _MILLISECONDS,
        "url": partial(_url, redaction),
        "hidden": _hidden,
        "joined": _joined,
        "share": share,
        "answered_by": _answered_by,
        "ms": _milliseconds,
        "body_s": _body_s,
        "before_s": _before_s,
    }
    compiled: _Line = eval(f"lambda e, r, at, path, t, u: join(({','.join(source)},))", names)
    return compiled


class LineEncoder:
    """Turns ended exchanges into lines. `log_format` is "json" or "combined"; `fields` are for the former.

    `rule` is that of the exchanges whose routes have none; None: none has, and all exchanges get a line.
    """

    def __init__(
        self,
        log_format: str,
        fields: Sequence[str],
        redacted: RedactionSettings = RedactionSettings(),  # noqa: B008, it is immutable
        rule: LogRule | None = None,
    ) -> None:
        self._redaction = Redaction(redacted)
        self._rules = LogRules(rule) if rule is not None else None
        self._shares: dict[float, bytes] = {}
        self._line = _compile(fields, self._redaction, self._share)
        # A slow one says where its time has gone.
        phases = [field for field in PHASES if field not in fields]
        self._slow_line = _compile([*fields, *phases], self._redaction, self._share)
        self._is_combined = log_format == "combined"
        self._second = -1
        self._second_text = b""
        # The millisecond that the stamp is of.
        self._stamped_from = self._stamped_until = 0.0
        self._stamp = b""

    def _share(self, exchange: Exchange) -> bytes:
        """The number for `sampled`; there are as many as rules."""
        share = 1.0 if self._rules is None else self._rules.share(exchange)
        text = self._shares.get(share)
        if text is None:
            text = self._shares[share] = f"{share:.10g}".encode()
        return text

    def encode(self, exchanges: Sequence[Exchange], wall: float) -> bytes:
        """All the lines, each ended by a newline. `wall`: what the wall clock shows when the exchanges' shows 0."""
        encode_all = self._all_combined if self._is_combined else self._all_json
        return b"".join(encode_all(exchanges, wall))

    def _all_json(self, exchanges: Sequence[Exchange], wall: float) -> list[bytes]:
        # One loop for the batch, with nothing looked up twice: this is a fifth of what an exchange costs.
        line, slow_line = self._line, self._slow_line
        rules, hide = self._rules, self._redaction.url
        lines = []
        for exchange in exchanges:
            request = exchange.request
            path = request.path
            if request.query:
                path += hide(request.query)
            if _QUOTE in path or _BACKSLASH in path or not path.isascii():
                path = _text(path)[1:-1]
            if not self._stamped_from <= exchange.started + wall < self._stamped_until:
                self._set_time(exchange.started + wall)
            duration_us = int((exchange.ended - exchange.started) * 1e6)
            upstream_us = int(exchange.upstream_s * 1e6)
            if not upstream_us and exchange.upstream_started:
                # No head has come: so long it was waited for.
                upstream_us = int((exchange.ended - exchange.upstream_started) * 1e6)
            make = line if rules is None or not rules.is_slow(exchange) else slow_line
            lines.append(make(exchange, request, self._stamp, path, duration_us, upstream_us))
        return lines

    def _set_time(self, at: float) -> None:
        """RFC 3339, UTC. A busy millisecond has many lines, and a second all the more."""
        millisecond = int(at * 1000)
        self._stamped_from, self._stamped_until = millisecond / 1000, (millisecond + 1) / 1000
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
        hide = self._redaction.url
        query = hide(request.query) if request.query else b""
        asked = b"%b %b%b HTTP/1.%d" % (request.method, request.path, query, request.minor)
        referer = request.header(b"referer")
        referer = hide(referer) if referer else b"-"
        agent = request.header(b"user-agent") or b"-"
        texts = [_safe(text) for text in (asked if request.method else b"-", referer, agent)]
        client, status, sent = exchange.client.decode(), exchange.status, exchange.bytes_out
        return f'{client} - - [{stamp}] "{texts[0]}" {status} {sent} "{texts[1]}" "{texts[2]}"\n'.encode()


def _safe(text: bytes) -> str:
    return _UNSAFE.sub(lambda found: f"\\x{ord(found.group()):02X}", text.decode("latin-1"))
