"""Which trace a request belongs to, as the W3C's Trace Context (level 2) and Zipkin's B3 write it.

Read here are the lines that a client sends, and made are those that the upstream gets; whether a client's are believed
is for others (`tracing`). What is not right in every point counts as not there, as the W3C asks: a new trace begins.
https://www.w3.org/TR/trace-context-2/ and https://github.com/openzipkin/b3-propagation
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastgw.http1 import fields

# How contexts are written.
W3C = "w3c"
B3 = "b3"  # in one line
B3_MULTI = "b3multi"
FORMATS = (W3C, B3, B3_MULTI)

# Whose contexts are continued.
TRUSTED = "trusted"
ALL = "all"
NONE = "none"
PARENTS = (TRUSTED, ALL, NONE)

# Level 2, §3.2.2.5: the flags, of which others must be sent as 0. RANDOM says how the id's last 7 bytes were made.
SAMPLED_FLAG = 1
_RANDOM_FLAG = 2

# Of a trace's id.
ID_DIGITS = 32
# The last 7 bytes of it are random (level 2, §3.2.2.3.1), so these decide whether it is sampled.
RANDOM_BITS = 56
RANDOM_DIGITS = RANDOM_BITS // 4
# Behind "f" in the alphabet.
_ABOVE_ALL = b"g"

# §3.2.2: lower-case digits; a version above 00 may have more behind another dash, and ff is none.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16

# §3.3.1: what a vendor says of the trace.
_MEMBER = re.compile(
    rb"[a-z0-9][_0-9a-z\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBERS_MAX = 32
# §3.3.1.5: as much must be passed on at the least; who sends more loses the long members first, then the last.
_STATE_SIZE = 512
_LONG_MEMBER = 128

_B3 = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_B3_TRACE = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{16}")
_B3_SPAN = re.compile(rb"[0-9a-f]{16}")
_B3_DECISIONS = {b"1": b"1", b"0": b"0", b"true": b"1", b"false": b"0"}

# The fields of each format.
_NAMES = {
    W3C: (b"traceparent", b"tracestate"),
    B3: (b"b3",),
    B3_MULTI: (b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"),
}
# A trace that is not recorded, in a line as nearly all are written; then nothing else needs a look.
NOT_RECORDED = re.compile(rb"\r\n[tT]raceparent: 00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-0[02]")


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """`sample` is the share of the requests that begin a trace which is recorded; `formats` are of FORMATS, the first
    being the first that is looked for; `parents` is one of PARENTS."""

    sample: float = 0.01
    formats: tuple[str, ...] = (W3C,)
    parents: str = TRUSTED


class Context:
    """Where in which trace a request was made. Ids are hexadecimal digits, 32 and 16. `is_sampled` None: whoever comes
    next decides. `state` is tracestate's value."""

    __slots__ = ("flags", "is_debug", "is_sampled", "span_id", "state", "trace_id")

    def __init__(
        self,
        trace_id: bytes,
        span_id: bytes,
        is_sampled: bool | None,
        flags: int = 0,
        state: bytes = b"",
        is_debug: bool = False,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.is_sampled = is_sampled
        # Those of W3C that are known here.
        self.flags = flags
        self.state = state
        # B3's, which is more than sampled.
        self.is_debug = is_debug


def threshold(sample: float) -> bytes:
    """Traces are sampled whose random digits are below it. Digits compare as the numbers do that they stand for."""
    bound = round(sample * (1 << RANDOM_BITS))
    return b"%0*x" % (RANDOM_DIGITS, bound) if bound >> RANDOM_BITS == 0 else _ABOVE_ALL


def random_digits(trace_id: bytes) -> bytes:
    """All who look at a trace's id alone decide alike."""
    return trace_id[-RANDOM_DIGITS:]


# What came.


def read_context(lines: bytes, formats: tuple[str, ...]) -> Context | None:
    """What header lines say, each begun by CRLF, in the first of the formats that says something right."""
    for name in formats:
        context = _READERS[name](lines)
        if context is not None:
            return context
    return None


def _read_w3c(head: bytes) -> Context | None:
    found = fields.values(head, b"traceparent")
    # §4.3: two are none.
    context = parse_traceparent(found[0]) if len(found) == 1 else None
    if context is not None:
        context.state = parse_tracestate(fields.values(head, b"tracestate"))
    return context


def parse_traceparent(value: bytes) -> Context | None:
    """None: it is not right."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (more is not None and version == b"00"):
        return None
    known = int(flags, 16) & (SAMPLED_FLAG | _RANDOM_FLAG)
    return Context(trace_id, span_id, bool(known & SAMPLED_FLAG), known)


def parse_tracestate(lines: list[bytes]) -> bytes:
    """What is passed on of it; nothing where anything is wrong, as §3.3.1 asks."""
    if not lines:
        return b""
    members = [member for member in (part.strip(b" \t") for line in lines for part in line.split(b",")) if member]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _MEMBERS_MAX or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return b""
    value = b",".join(members)
    if len(value) > _STATE_SIZE:
        members = [member for member in members if len(member) <= _LONG_MEMBER]
        value = b",".join(members)
    while len(value) > _STATE_SIZE:
        members.pop()
        value = b",".join(members)
    return value


def _read_b3(head: bytes) -> Context | None:
    found = fields.values(head, b"b3")
    return parse_b3(found[0]) if len(found) == 1 else None


def parse_b3(value: bytes) -> Context | None:
    """None: it is not right, or no more than a decision, which says nothing of a trace."""
    found = _B3.fullmatch(value)
    return _b3_context(found[1], found[2], found[3]) if found is not None else None


def _read_b3_multi(head: bytes) -> Context | None:
    names = (b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-flags")
    lines = [fields.values(head, name) for name in names]
    if not lines[0] or any(len(found) > 1 for found in lines):
        return None
    trace_id, span_id, sampled, flags = (found[0] if found else b"" for found in lines)
    if _B3_TRACE.fullmatch(trace_id) is None or _B3_SPAN.fullmatch(span_id) is None:
        return None
    if sampled and sampled not in _B3_DECISIONS:
        return None
    return _b3_context(trace_id, span_id, b"d" if flags == b"1" else _B3_DECISIONS.get(sampled))


def _b3_context(trace_id: bytes, span_id: bytes, decision: bytes | None) -> Context | None:
    # Ids of 64 bits are the right half of longer ones.
    trace_id = trace_id.rjust(32, b"0")
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    is_sampled = None if decision is None else decision != b"0"
    return Context(trace_id, span_id, is_sampled, is_debug=decision == b"d")


_READERS = {W3C: _read_w3c, B3: _read_b3, B3_MULTI: _read_b3_multi}


# What goes on.


def names_of(formats: tuple[str, ...]) -> tuple[bytes, ...]:
    """The fields by which these formats speak of a trace, lower-case."""
    return tuple(name for one in formats for name in _NAMES[one])


def make_lines(formats: tuple[str, ...], context: Context) -> bytes:
    """The lines that say it; each begun by CRLF."""
    lines = b""
    is_sampled = bool(context.is_sampled)
    for name in formats:
        if name == W3C:
            flags = context.flags & _RANDOM_FLAG | (SAMPLED_FLAG if is_sampled else 0)
            lines += b"\r\ntraceparent: 00-%b-%b-%02x" % (context.trace_id, context.span_id, flags)
            if context.state:
                lines += b"\r\ntracestate: " + context.state
        elif name == B3:
            decision = b"d" if context.is_debug else b"%d" % is_sampled
            lines += b"\r\nb3: %b-%b-%b" % (context.trace_id, context.span_id, decision)
        else:
            decision = b"X-B3-Flags: 1" if context.is_debug else b"X-B3-Sampled: %d" % is_sampled
            ids = context.trace_id, context.span_id, decision
            lines += b"\r\nX-B3-TraceId: %b\r\nX-B3-SpanId: %b\r\n%b" % ids
    return lines


def new_context(trace_id: bytes, span_id: bytes, is_sampled: bool) -> Context:
    """The beginning of a trace; its id's last 7 bytes are random."""
    return Context(trace_id, span_id, is_sampled, _RANDOM_FLAG)
