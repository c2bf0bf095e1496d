"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field, and credentials are hidden. The list of
fields is compiled into expressions when the configuration is loaded, as nginx compiles its log_format. What stands
between two of a line's own values is made once for all lines of a kind, or of a millisecond. So a line costs less than
1 µs, where a dictionary and a JSON library cost 5.
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
    from fastgw.policy.kind import Kind, Record

_NUMBERS = tuple(b"%d" % number for number in range(1024))
# Of microseconds, up to 8 ms: in milliseconds.
_MILLISECONDS = tuple(b"%d.%03d" % divmod(number, 1000) for number in range(8192))


def _number(expression: str) -> str:
    """The expression for a number's text; formatting a small one costs five times a look-up."""
    return f"number[n] if (n := {expression}) < {len(_NUMBERS)} else b'%d' % n"


def _milliseconds_of(us: str) -> str:
    """The expression for the milliseconds that so many microseconds are."""
    return f"milliseconds[{us}] if {us} < {len(_MILLISECONDS)} else b'%d.%03d' % divmod({us}, 1000)"


# Each field's JSON; what stands between backquotes are the expressions of Python that fill it. `k` is the exchange's
# kind, `at` its time, `e` itself, `r` its request, `path` the target, escaped; `t` and `u` are the microseconds of the
# whole exchange and until the upstream's head. `name` gives the JSON of a text of ours (null for ""), `text` that of a
# client's bytes. What is put between quotes as it is has been checked to need no escaping: addresses, hosts, methods,
# ids. `consumer` and `cache` are null as long as nothing authenticates or caches. Functions of more than a look are
# below.
_JSON = {
    "time": '"`at`"',
    "client": '"`e.client`"',
    "method": '"`k.method`"',
    "host": '"`r.host_name`"',
    "path": '"`path`"',
    "status": "`b'%d' % k.status`",
    "bytes": f"`{_number('e.bytes_out')}`",
    "duration_ms": f"`{_milliseconds_of('t')}`",
    "upstream_ms": f"`{_milliseconds_of('u')}`",
    "route": "`name[k.route]`",
    "endpoint": "`name[k.endpoint]`",
    "consumer": "null",
    "cache": "null",
    "reason": "`name[k.reason]`",
    "request_id": '"`e.request_id`"',
    "listener": "`name[k.listener]`",
    "bytes_in": f"`{_number('e.bytes_in')}`",
    "upstream": "`name[k.upstream]`",
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
    "trace_id": "`b'\"%b\"' % found if (found := e.trace_id) else b'null'`",
}
FIELDS = tuple(_JSON)
# What a value depends on; of all other fields, it is the exchange.
_KIND, _TIME, _EXCHANGE = "kind", "time", "exchange"
_DEPENDS_ON = {
    **dict.fromkeys(("method", "status", "route", "endpoint", "reason", "listener", "upstream"), _KIND),
    "time": _TIME,
}
# Where the time of a slow exchange has gone.
PHASES = ("queue_ms", "connect_ms", "upstream_ms", "body_ms", "earlier_ms", "gateway_ms")
# Fields that name what is looked up: "header:User-Agent", "response:Content-Type", "query:page".
REQUEST_HEADER = "header"
RESPONSE_HEADER = "response"
QUERY = "query"

# What would end a field or a line, or is no text, in the combined format; nginx escapes it the same way.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')
_QUOTE, _BACKSLASH = b'"\\'

_Pieces = tuple[bytes, ...]


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


class _Run:
    """Neighbours in a line that are made at once: literals (bytes), and expressions that depend on the same, `of`."""

    def __init__(self) -> None:
        self.parts: list[bytes | str] = []
        self.of = ""

    def takes(self, part: bytes | str, of: str) -> bool:
        """What depends on the exchange is joined with the rest of its line alone."""
        if self.parts and of != self.of and (_EXCHANGE in (of, self.of) or (of and self.of)):
            return False
        if isinstance(part, bytes) and self.parts and isinstance(self.parts[-1], bytes):
            self.parts[-1] += part
        else:
            self.parts.append(part)
        self.of = self.of or of
        return True

    def source(self) -> str:
        parts = [part if isinstance(part, str) else repr(part) for part in self.parts]
        return parts[0] if len(parts) == 1 else f"join(({','.join(parts)},))"


def _runs(fields: Sequence[str], redaction: Redaction) -> list[_Run]:
    """Those of a line. The source is made of the constants above alone, and of names as Python writes them."""
    runs = [_Run()]

    def add(part: bytes | str, of: str) -> None:
        if not runs[-1].takes(part, of):
            runs.append(_Run())
            runs[-1].takes(part, of)

    for number, field in enumerate(fields):
        add((b"," if number else b"{") + encode_basestring_ascii(field).encode() + b":", "")
        parts = _JSON[field].split("`") if field in _JSON else ["", _looked_up(field, redaction), ""]
        for at, part in enumerate(parts):
            if at % 2:
                add(part, _DEPENDS_ON.get(field, _EXCHANGE))
            elif part:
                add(part.encode(), "")
    add(b"}\n", "")
    return runs


class _Line:
    """What makes the lines of some fields. `make` gives one in pieces, of an exchange, its request, the pieces of its
    kind and of its time, its target, escaped, and microseconds as above."""

    def __init__(self, fields: Sequence[str], redaction: Redaction, share: Callable[[Exchange], bytes]) -> None:
        source: list[str] = []
        shared: dict[str, list[str]] = {_KIND: [], _TIME: []}
        for run in _runs(fields, redaction):
            if run.of in shared:
                source.append(f"{run.of}[{len(shared[run.of])}]")
                shared[run.of].append(run.source())
            else:
                source.append(run.source())
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
        self.of_kind: Callable[[Kind], _Pieces] = _function("k", shared[_KIND], names)
        self.of_time: Callable[[bytes], _Pieces] = _function("at", shared[_TIME], names)
        self.make: Callable[[Exchange, RequestHead, _Pieces, _Pieces, bytes, int, int], _Pieces]
        self.make = _function("e, r, kind, time, path, t, u", source, names)


def _function(arguments: str, expressions: Sequence[str], names: dict[str, object]) -> Callable[..., _Pieces]:
    values = "".join([f"{expression}," for expression in expressions])
    made: Callable[..., _Pieces] = eval(f"lambda {arguments}: ({values})", names)
    return made


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
        self._line = _Line(fields, self._redaction, self._share)
        # A slow one says where its time has gone.
        phases = [field for field in PHASES if field not in fields]
        self._slow_line = _Line([*fields, *phases], self._redaction, self._share)
        self._is_combined = log_format == "combined"
        self._second = -1
        self._second_text = b""
        # The millisecond of the stamp, and what it is in lines.
        self._stamped_from = self._stamped_until = 0.0
        self._stamp = b""
        self._stamp_pieces: _Pieces = ()

    def _share(self, exchange: Exchange) -> bytes:
        """The number for `sampled`; there are as many as rules."""
        share = 1.0 if self._rules is None else self._rules.share(exchange)
        text = self._shares.get(share)
        if text is None:
            text = self._shares[share] = f"{share:.10g}".encode()
        return text

    def encode(self, records: Sequence[Record], wall: float) -> bytes:
        """All the lines, each ended by a newline. `wall`: what the wall clock shows when the exchanges' shows 0.

        An encoder has kinds of its own, which keep pieces of its lines.
        """
        if self._is_combined:
            return b"".join([self._combined(record[0], record[0].started + wall) for record in records])
        return self._all_json(records, wall)

    def _all_json(self, records: Sequence[Record], wall: float) -> bytes:
        # One loop for the batch, with nothing looked up twice: this is a twentieth of what an exchange costs. Nearly
        # all paths are plain, so they are looked at together first.
        line, make = self._line, self._line.make
        rules, hide = self._rules, self._redaction.url
        are_plain = _is_plain(b"".join([record[0].request.path for record in records]))
        stamp_pieces = self._stamp_pieces
        stamped_from, stamped_until = self._stamped_from - wall, self._stamped_until - wall
        parts: list[bytes] = []
        for exchange, kind, duration_us, head_us in records:
            request = exchange.request
            path, query = request.path, request.query
            if query:
                path += hide(query)
            if (query or not are_plain) and not _is_plain(path):
                path = _text(path)[1:-1]
            if not stamped_from <= exchange.started < stamped_until:
                self._set_time(exchange.started + wall)
                stamp_pieces = self._stamp_pieces
                stamped_from, stamped_until = self._stamped_from - wall, self._stamped_until - wall
            upstream_us = head_us
            if not head_us and exchange.upstream_started:
                # No head has come: so long it was waited for.
                upstream_us = int((exchange.ended - exchange.upstream_started) * 1e6)
            if rules is None or not rules.is_slow(exchange):
                pieces = kind.pieces
                if pieces is None:
                    pieces = kind.pieces = line.of_kind(kind)
                parts += make(exchange, request, pieces, stamp_pieces, path, duration_us, upstream_us)
            else:
                parts += self._slow(exchange, kind, path, duration_us, upstream_us)
        return b"".join(parts)

    def _slow(self, exchange: Exchange, kind: Kind, path: bytes, duration_us: int, upstream_us: int) -> _Pieces:
        line = self._slow_line
        pieces, stamp_pieces = line.of_kind(kind), line.of_time(self._stamp)
        return line.make(exchange, exchange.request, pieces, stamp_pieces, path, duration_us, upstream_us)

    def _set_time(self, at: float) -> None:
        """RFC 3339, UTC. A busy millisecond has many lines, and a second all the more."""
        millisecond = int(at * 1000)
        self._stamped_from, self._stamped_until = millisecond / 1000, (millisecond + 1) / 1000
        second = millisecond // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        self._stamp = b"%b.%03dZ" % (self._second_text, millisecond % 1000)
        self._stamp_pieces = self._line.of_time(self._stamp)

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


def _is_plain(path: bytes) -> bool:
    """Whether it stands in JSON as it is. Control characters are in no path."""
    return path.isascii() and _QUOTE not in path and _BACKSLASH not in path


def _safe(text: bytes) -> str:
    return _UNSAFE.sub(lambda found: f"\\x{ord(found.group()):02X}", text.decode("latin-1"))
