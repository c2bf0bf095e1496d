"""Traces: which exchanges are recorded, what their upstreams are told, and what is noted of those that are.

Whether a trace is recorded is decided first. For nearly all exchanges the answer is no, and all that is left is a line
for the upstream: a new trace's, or the client's as it came. Of the others, times and names are noted here as they
come; spans are made of them in another process (`runtime.trace_helper`), in the conventions of OpenTelemetry.

Who may say that a trace is recorded: a client that is trusted (`parents`). What a stranger says is not followed, or
anybody could have everything recorded, here and in all services behind; not even its trace's id is, since from that
follows whether it is sampled. So a new trace begins, as the W3C suggests for front gateways ("Restarting a trace"), and
what is recorded of it links to the stranger's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastgw.policy.trace_context import (
    ALL,
    ID_DIGITS,
    NOT_RECORDED,
    RANDOM_BITS,
    RANDOM_DIGITS,
    TRUSTED,
    W3C,
    Context,
    TracingSettings,
    make_lines,
    new_context,
    random_digits,
    read_context,
    threshold,
)
from fastgw.snapshot import Snapshot

if TYPE_CHECKING:
    from fastgw.exchange import Exchange

# Of a span's id. That one is all zeros, which is none, happens once in 2 ** 64.
_ID_BITS = 64
# What all new traces' ids of one worker begin with, in digits.
_PREFIX_DIGITS = ID_DIGITS - RANDOM_DIGITS
# As many are drawn at once, and cut out where they are needed. To make the lines in advance, too, is faster in a loop,
# and slower under load, where each has left the caches until it is needed.
_DRAWN_DIGITS = RANDOM_DIGITS * 64
# As `policy.trace_context.make_lines`, for a trace that nobody records.
_LINE_BEGIN = b"\r\ntraceparent: 00-"
_LINE_END = b"-02"
_TRACE_AT = len(_LINE_BEGIN)

# Why a try was given up, where it has not failed.
OUTPACED = "outpaced"


class Attempt:
    """One time that a request was sent. Times are of the gateway's clock; 0: not yet."""

    __slots__ = ("answered", "ended", "endpoint", "error", "is_hedge", "span_id", "started", "status")

    def __init__(self, span_id: bytes, endpoint: str, started: float, is_hedge: bool = False) -> None:
        self.span_id = span_id
        self.endpoint = endpoint
        self.started = started
        self.is_hedge = is_hedge
        self.answered = 0.0
        self.ended = 0.0
        self.status = 0
        self.error = ""


class Trace:
    """What is noted of an exchange that is recorded. `context` is what its first try was sent with; `parent` is the
    client's that it continues, `link` the one that it does not."""

    __slots__ = (
        "_asked",
        "_bits",
        "_sent_as",
        "attempts",
        "context",
        "current",
        "hedge",
        "link",
        "parent",
        "route_path",
        "span_id",
    )

    def __init__(
        self,
        context: Context,
        bits: Callable[[int], int],
        parent: Context | None,
        link: Context | None,
        route_path: bytes,
    ) -> None:
        self._bits = bits
        self.context = context
        self.parent = parent
        self.link = link
        self.route_path = route_path
        self.span_id = self._new_span_id()
        # The span that the exchange's fields name.
        self._sent_as = context.span_id
        self._asked = 0.0
        self.attempts: list[Attempt] = []
        # That of the exchange's connection, and the second one of `hedging`.
        self.current: Attempt | None = None
        self.hedge: Attempt | None = None

    def _new_span_id(self) -> bytes:
        return b"%016x" % self._bits(_ID_BITS)

    def asks(self, now: float) -> None:
        """A connection is asked for."""
        self._asked = now

    def sends(self, exchange: Exchange) -> None:
        """There is one: each try is told to the upstream as a span of its own."""
        span_id = self._sent_as
        if self.attempts:
            span_id = self._new_span_id()
            exchange.fields = exchange.fields.replace(self._sent_as, span_id)
            self._sent_as = span_id
        self._close_current(exchange.upstream_started)
        self.current = Attempt(span_id, exchange.endpoint, exchange.upstream_started)
        self.attempts.append(self.current)

    def not_connected(self, exchange: Exchange, endpoint_index: int, reason: str) -> None:
        """None could be had at that endpoint."""
        self._close_current(self._asked)
        self._add_failed(exchange, endpoint_index, reason, False)

    def _add_failed(self, exchange: Exchange, endpoint_index: int, reason: str, is_hedge: bool) -> None:
        now = exchange.gateway.now()
        # Of a second try it is not known since when it was waited for.
        started = now if is_hedge else self._asked
        attempt = Attempt(self._new_span_id(), _endpoint_name(exchange, endpoint_index), started, is_hedge)
        attempt.ended, attempt.error = now, reason
        self.attempts.append(attempt)

    def answered(self, status: int, at: float) -> None:
        """The head of an answer is there."""
        if self.current is not None:
            self.current.status, self.current.answered = status, at

    def failed(self, reason: str, now: float) -> None:
        if self.current is not None:
            self.current.error, self.current.ended = reason, now

    def _close_current(self, now: float) -> None:
        """It is followed by another, so an answer was thrown away with its head."""
        if self.current is not None and not self.current.ended:
            self.current.ended = self.current.answered or now

    # A second try while the first is awaited.

    def hedges(self, fields: bytes, endpoint: str, now: float) -> bytes:
        """The fields that it is sent with."""
        self.hedge = Attempt(self._new_span_id(), endpoint, now, True)
        self.attempts.append(self.hedge)
        return fields.replace(self._sent_as, self.hedge.span_id)

    def hedge_not_connected(self, exchange: Exchange, endpoint_index: int, reason: str) -> None:
        self._add_failed(exchange, endpoint_index, reason, True)

    def hedge_ended(self, status: int, reason: str, now: float) -> None:
        if self.hedge is not None:
            self.hedge.status, self.hedge.error, self.hedge.ended = status, reason, now
            self.hedge = None

    def hedge_stays(self, now: float) -> None:
        """It is the exchange's only one from here on."""
        before, self.current, self.hedge = self.current, self.hedge, None
        if before is not None and not before.ended:
            before.ended = before.answered or now
            before.error = "" if before.status else OUTPACED

    # Ends.

    def for_copy(self, fields: bytes) -> bytes:
        """What a mirror's copy is sent with: it is no try, so what comes of it is below the exchange itself."""
        return fields.replace(self._sent_as, self.span_id)

    def close(self, exchange: Exchange) -> None:
        """The exchange has ended, and so have all tries."""
        for attempt in self.attempts:
            if not attempt.ended:
                attempt.ended = exchange.ended
                if attempt is self.current:
                    attempt.error = exchange.reason


def _endpoint_name(exchange: Exchange, index: int) -> str:
    upstream = exchange.gateway.snapshot.upstreams.get(exchange.pool.name) if exchange.pool is not None else None
    if upstream is None or upstream.discover is not None or index >= len(upstream.endpoints):
        return ""
    return upstream.endpoints[index].name


class Tracer:
    """Decides on each exchange of a snapshot. `bits` gives that many random bits."""

    __slots__ = (
        "_bits",
        "_digits",
        "_is_plain",
        "_line_begin",
        "_line_end",
        "_parents",
        "_route_paths",
        "_threshold",
        "_thresholds",
        "_used",
        "formats",
    )

    def __init__(self, settings: TracingSettings, snapshot: Snapshot, bits: Callable[[int], int]) -> None:
        self._bits = bits
        self.formats = settings.formats
        self._is_plain = settings.formats == (W3C,)
        # Random ones, and how many are used up.
        self._digits = b""
        self._used = _DRAWN_DIGITS
        # What is around them in a line that tells of a new trace that nobody records. No span has the id in it; it only
        # has to be one.
        self._line_begin = _LINE_BEGIN + b"%0*x" % (_PREFIX_DIGITS, bits(4 * _PREFIX_DIGITS))
        self._line_end = b"-%016x" % bits(_ID_BITS) + _LINE_END
        self._parents = settings.parents
        self._threshold = threshold(settings.sample)
        # None: the route takes no part.
        self._thresholds = [
            None
            if not route.is_traced
            else self._threshold
            if route.trace_sample is None
            else threshold(route.trace_sample)
            for route in snapshot.routes
        ]
        self._route_paths = [rule.path for rule in snapshot.router.rules]

    def begin(self, exchange: Exchange, index: int) -> None:
        """Sets `trace_lines`, `trace_at` and, if it is recorded, `trace` of an exchange with a request for the route
        `index`; negative: for none. Till then its lines are the client's."""
        limit = self._thresholds[index] if index >= 0 else self._threshold
        if limit is None:
            return
        said = exchange.trace_lines
        if said and (self._parents == ALL or (self._parents == TRUSTED and exchange.downstream.trusted)):
            self._continue_trace(exchange, index, limit, said)
            return
        used = self._used
        if used == _DRAWN_DIGITS:
            used = self._draw()
        self._used = used + RANDOM_DIGITS
        digits = self._digits[used : used + RANDOM_DIGITS]
        if digits < limit or not self._is_plain:
            link = read_context(said, self.formats) if said and digits < limit else None
            self._begin_trace(exchange, index, limit, digits, link)
            return
        exchange.trace_lines = self._line_begin + digits + self._line_end
        exchange.trace_at = _TRACE_AT

    def _draw(self) -> int:
        self._digits = b"%0*x" % (_DRAWN_DIGITS, self._bits(4 * _DRAWN_DIGITS))
        return 0

    def _begin_trace(self, exchange: Exchange, index: int, limit: bytes, digits: bytes, link: Context | None) -> None:
        """A new one, with these at the end of its id. `link` is one that is not continued."""
        trace_id, span_id = self._line_begin[_TRACE_AT:] + digits, b"%016x" % self._bits(_ID_BITS)
        context = new_context(trace_id, span_id, digits < limit)
        if context.is_sampled:
            exchange.trace = Trace(context, self._bits, None, link, self._route_path(index))
        self._pass_on(exchange, context)

    def _continue_trace(self, exchange: Exchange, index: int, limit: bytes, said: bytes) -> None:
        """The client has said something of a trace, and is believed."""
        found = NOT_RECORDED.fullmatch(said) if self._is_plain else None
        if found is not None:
            # Nothing else is said of it, so the line may stay without a closer look.
            exchange.trace_at = found.start(1)
            return
        parent = read_context(said, self.formats)
        if parent is None:
            self._begin_trace(exchange, index, limit, b"%0*x" % (RANDOM_DIGITS, self._bits(RANDOM_BITS)), None)
            return
        if parent.is_sampled is None:
            parent.is_sampled = random_digits(parent.trace_id) < limit
        if parent.is_sampled:
            span_id = b"%016x" % self._bits(_ID_BITS)
            context = Context(parent.trace_id, span_id, True, parent.flags, parent.state, parent.is_debug)
            exchange.trace = Trace(context, self._bits, parent, None, self._route_path(index))
            self._pass_on(exchange, context)
        elif self._is_plain:
            # No span of ours comes in between, so the lines are right as they are (§2.2 of the W3C's).
            exchange.trace_at = said.index(parent.trace_id)
        else:
            self._pass_on(exchange, parent)

    def _pass_on(self, exchange: Exchange, context: Context) -> None:
        exchange.trace_lines = make_lines(self.formats, context)
        exchange.trace_at = exchange.trace_lines.index(context.trace_id)

    def _route_path(self, index: int) -> bytes:
        # What answers an ACME authority comes behind all others, and has no rule of its own in the file.
        return self._route_paths[index] if 0 <= index < len(self._route_paths) else b""


class NoTraces:
    """Where nobody takes them."""

    __slots__ = ()

    def record(self, exchange: Exchange) -> None: ...
