"""Access-log lines, encoded in batches: JSON, or the combined format of Apache and nginx.

Whatever a client sent is escaped, so that it can't forge a line or a field, and credentials are hidden. The list of
fields is compiled when the configuration is loaded, as nginx compiles its log_format: into templates, one for each kind
of exchange with all that its lines have in common, and an expression of what fills them. So a line is one formatting.
To join pieces that are made before, or to look numbers up in a table of their texts, is faster in a loop, and slower
under load: all that was made before has left the caches until it is needed again.
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


def _name(name: str) -> bytes:
    """The JSON of a text of ours: the configuration's, or the program's own."""
    return encode_basestring_ascii(name).encode() if name else b"null"


# The fields that are the same in all lines of a kind: their JSON.
_OF_KIND: dict[str, Callable[[Kind], bytes]] = {
    "method": lambda kind: b'"%b"' % kind.method,
    "status": lambda kind: b"%d" % kind.status,
    "route": lambda kind: _name(kind.route),
    "endpoint": lambda kind: _name(kind.endpoint),
    "reason": lambda kind: _name(kind.reason),
    "listener": lambda kind: _name(kind.listener),
    "upstream": lambda kind: _name(kind.upstream),
    # As long as nothing authenticates or caches.
    "consumer": lambda _: b"null",
    "cache": lambda _: b"null",
}
# Each of the others: what stands in the template, and the expression of Python that fills it. `e` is the exchange, `r`
# its request, `at` its time, `path` the target, escaped; `t` and `u` are the microseconds of the whole exchange and
# until the upstream's head. `text` gives the JSON of a client's bytes. What is put between quotes as it is has been
# checked to need no escaping: addresses, hosts, ids. Functions of more than a look are below.
_FILLED: dict[str, tuple[bytes, str]] = {
    "time": (b'"%b"', "at"),
    "client": (b'"%b"', "e.client"),
    "host": (b'"%b"', "r.host_name"),
    "path": (b'"%b"', "path"),
    "bytes": (b"%d", "e.bytes_out"),
    # Whole numbers: to make a decimal of one costs as much as four other fields.
    "duration_us": (b"%d", "t"),
    "upstream_us": (b"%d", "u"),
    "request_id": (b'"%b"', "e.request_id"),
    "bytes_in": (b"%d", "e.bytes_in"),
    "protocol": (b'"HTTP/1.%d"', "r.minor"),
    "user_agent": (b"%b", "text(r.header(b'user-agent'))"),
    "referer": (b"%b", "url(r.header(b'referer'))"),
    "attempts": (b"%d", "e.tries"),
    "sampled": (b"%b", "share(e)"),
    "answered_by": (b'"%b"', "answered_by(e)"),
    "queue_us": (b"%d", "us(e.queued_s)"),
    "connect_us": (b"%d", "us(e.connect_s)"),
    "body_us": (b"%d", "us(body_s(e))"),
    "earlier_us": (b"%d", "us(before_s(e) if e.tries > 1 else 0.0)"),
    "gateway_us": (b"%d", "us(before_s(e) if e.tries <= 1 else 0.0)"),
    "trace_id": (b"%b", "b'\"%b\"' % found if (found := e.trace_id) else b'null'"),
}
FIELDS = (*_OF_KIND, *_FILLED)
# Where the time of a slow exchange has gone.
PHASES = ("queue_us", "connect_us", "upstream_us", "body_us", "earlier_us", "gateway_us")
# Fields that name what is looked up: "header:User-Agent", "response:Content-Type", "query:page".
REQUEST_HEADER = "header"
RESPONSE_HEADER = "response"
QUERY = "query"

# What would end a field or a line, or is no text, in the combined format; nginx escapes it the same way.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')
_QUOTE, _BACKSLASH = b'"\\'


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


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6) if seconds > 0 else 0


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


def _looked_up(field: str, redaction: Redaction) -> tuple[bytes, str]:
    """As in `_FILLED`, for a field that names what is looked up."""
    kind, _, written = field.partition(":")
    name = written.encode()
    if kind == QUERY:
        return b"%b", f"{'hidden' if redaction.hides_parameter(name) else 'url'}(r.query_value({name!r}))"
    name = name.lower()
    value = f"r.header({name!r})" if kind == REQUEST_HEADER else f"joined(e.answer_fields, {name!r})"
    return b"%b", f"{'hidden' if redaction.hides_header(name) else 'url'}({value})"


class _Line:
    """What makes the lines of some fields. `make` gives one, from the template of the exchange's kind, the exchange,
    its request, its time, its target, escaped, and microseconds as above."""

    def __init__(self, fields: Sequence[str], redaction: Redaction, share: Callable[[Exchange], bytes]) -> None:
        # What a template is made of, and for which fields of a kind.
        self._parts: list[bytes | Callable[[Kind], bytes]] = []
        filled: list[str] = []
        for number, field in enumerate(fields):
            label = b"%b%b:" % (b"," if number else b"{", encode_basestring_ascii(field).encode())
            self._parts.append(_literal(label))
            if field in _OF_KIND:
                self._parts.append(_OF_KIND[field])
            else:
                value, expression = _FILLED[field] if field in _FILLED else _looked_up(field, redaction)
                self._parts.append(value)
                filled.append(expression)
        self._parts.append(b"}\n")
        names = {
            "text": _text,
            "url": partial(_url, redaction),
            "hidden": _hidden,
            "joined": _joined,
            "share": share,
            "answered_by": _answered_by,
            "us": _microseconds,
            "body_s": _body_s,
            "before_s": _before_s,
        }
        self.make: Callable[[bytes, Exchange, RequestHead, bytes, bytes, int, int], bytes]
        # The source is made of the constants above alone, and of names as Python writes them.
        values = "".join([f"{expression}," for expression in filled])
        self.make = eval(f"lambda template, e, r, at, path, t, u: template % ({values})", names)

    def template(self, kind: Kind) -> bytes:
        return b"".join([part if isinstance(part, bytes) else _literal(part(kind)) for part in self._parts])


def _literal(text: bytes) -> bytes:
    """It in a template."""
    return text.replace(b"%", b"%%")


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
        # The stamp, and its millisecond.
        self._stamp = b""
        self._stamped_from = self._stamped_until = 0.0

    def _share(self, exchange: Exchange) -> bytes:
        """The number for `sampled`; there are as many as rules."""
        share = 1.0 if self._rules is None else self._rules.share(exchange)
        text = self._shares.get(share)
        if text is None:
            text = self._shares[share] = f"{share:.10g}".encode()
        return text

    def encode(self, records: Sequence[Record], wall: float) -> bytes:
        """All the lines, each ended by a newline. `wall`: what the wall clock shows when the exchanges' shows 0.

        An encoder has kinds of its own, which keep templates of its lines.
        """
        if self._is_combined:
            return b"".join([self._combined(record[0], record[0].started + wall) for record in records])
        return self._all_json(records, wall)

    def _all_json(self, records: Sequence[Record], wall: float) -> bytes:
        # One loop for the batch, with nothing looked up twice: this is a twentieth of what an exchange costs.
        line, make = self._line, self._line.make
        rules, hide = self._rules, self._redaction.url
        stamp = self._stamp
        stamped_from, stamped_until = self._stamped_from - wall, self._stamped_until - wall
        lines: list[bytes] = []
        for exchange, kind, duration_us, head_us in records:
            request = exchange.request
            path, query = request.path, request.query
            if query:
                path += hide(query)
                if not _is_plain(path):
                    path = _text(path)[1:-1]
            elif _QUOTE in path:
                # Nothing else that JSON escapes is in a path.
                path = _text(path)[1:-1]
            if not stamped_from <= exchange.started < stamped_until:
                self._set_time(exchange.started + wall)
                stamp = self._stamp
                stamped_from, stamped_until = self._stamped_from - wall, self._stamped_until - wall
            upstream_us = head_us
            if not head_us and exchange.upstream_started:
                # No head has come: so long it was waited for.
                upstream_us = int((exchange.ended - exchange.upstream_started) * 1e6)
            if rules is None or not rules.is_slow(exchange):
                template = kind.template
                if template is None:
                    template = kind.template = line.template(kind)
                lines.append(make(template, exchange, request, stamp, path, duration_us, upstream_us))
            else:
                slow = self._slow_line
                lines.append(slow.make(slow.template(kind), exchange, request, stamp, path, duration_us, upstream_us))
        return b"".join(lines)

    def _set_time(self, at: float) -> None:
        """RFC 3339, UTC. A busy millisecond has many lines, and a second all the more."""
        millisecond = int(at * 1000)
        self._stamped_from, self._stamped_until = millisecond / 1000, (millisecond + 1) / 1000
        second = millisecond // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        self._stamp = b"%b.%03dZ" % (self._second_text, millisecond % 1000)

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
    """Whether it stands in JSON as it is. Control characters are in no target."""
    return path.isascii() and _QUOTE not in path and _BACKSLASH not in path


def _safe(text: bytes) -> str:
    return _UNSAFE.sub(lambda found: f"\\x{ord(found.group()):02X}", text.decode("latin-1"))
