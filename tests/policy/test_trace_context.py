"""Trace contexts: the examples of their specifications, and whatever else a client may send."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.policy.trace_context import (
    B3,
    B3_MULTI,
    FORMATS,
    NOT_RECORDED,
    RANDOM_DIGITS,
    W3C,
    Context,
    make_lines,
    names_of,
    new_context,
    parse_b3,
    parse_traceparent,
    parse_tracestate,
    random_digits,
    read_context,
    threshold,
)

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
B3_TRACE, B3_SPAN = b"80f198ee56343ba864fe8b2a57d3eff7", b"e457b5a2e4d86bd1"
HEX = st.text("0123456789abcdef")


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a.test", *lines))


# W3C: traceparent.


@pytest.mark.parametrize(("flags", "is_sampled"), [(b"01", True), (b"00", False), (b"03", True), (b"fe", False)])
def test_the_examples_of_the_specification_are_read(flags: bytes, is_sampled: bool) -> None:
    context = parse_traceparent(b"00-" + TRACE + b"-" + SPAN + b"-" + flags)
    assert context is not None
    assert (context.trace_id, context.span_id, context.is_sampled) == (TRACE, SPAN, is_sampled)
    # Flags that are not known here must not be passed on.
    assert context.flags == int(flags, 16) & 3


@pytest.mark.parametrize(
    "value",
    [
        b"",
        TRACE,
        b"00-" + TRACE + b"-" + SPAN,
        b"00-" + TRACE + b"-" + SPAN + b"-1",
        b"00-" + TRACE + b"-" + SPAN + b"-01-",
        b"00-" + TRACE + b"-" + SPAN + b"-01-what-the-future-brings",
        b"00-" + TRACE.upper() + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + SPAN.upper() + b"-01",
        b"00-" + TRACE + b"-" + SPAN + b"-0A",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"ff-" + TRACE + b"-" + SPAN + b"-01",
        b"0-" + TRACE + b"-" + SPAN + b"-01",
        b"00-" + TRACE + SPAN + b"-01",
        b"00-" + TRACE[:-1] + b"-" + SPAN + b"-01",
        b"cc-" + TRACE + b"-" + SPAN + b"-01.what",
        b"00-" + TRACE + b"-" + SPAN + b"-01\n",
    ],
)
def test_what_is_not_right_is_none(value: bytes) -> None:
    assert parse_traceparent(value) is None


@pytest.mark.parametrize("value", [b"-01", b"-01-what-the-future-will-be-like", b"-01-"])
def test_a_higher_version_is_read_as_far_as_it_is_known_and_passed_on_as_this_one(value: bytes) -> None:
    context = parse_traceparent(b"cc-" + TRACE + b"-" + SPAN + value)
    assert context is not None
    assert make_lines((W3C,), context) == b"\r\ntraceparent: 00-" + TRACE + b"-" + SPAN + b"-01"


@given(HEX, HEX, HEX, HEX)
def test_what_is_read_is_what_the_grammar_says(version: str, trace: str, span: str, flags: str) -> None:
    value = f"{version}-{trace}-{span}-{flags}"
    is_right = re.fullmatch(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", value)
    assert (parse_traceparent(value.encode()) is not None) == (is_right is not None)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.sampled_from(FORMATS))
def test_what_is_written_is_read_again(trace: int, span: int, is_sampled: bool, name: str) -> None:
    written = new_context(b"%032x" % trace, b"%016x" % span, is_sampled)
    found = read_context(head() + make_lines((name,), written), (name,))
    assert found is not None
    assert (found.trace_id, found.span_id, found.is_sampled) == (written.trace_id, written.span_id, is_sampled)


@given(st.lists(st.binary(max_size=80), max_size=3), st.sampled_from(FORMATS))
def test_nothing_that_a_client_sends_is_taken_for_what_it_is_not(values: list[bytes], name: str) -> None:
    names = (b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"X-B3-Flags")
    lines = [names[index % len(names)] + b": " + re.sub(rb"[\r\n\0]", b"", one) for index, one in enumerate(values)]
    found = read_context(head(*lines), (name,))
    if found is not None:
        assert re.fullmatch(rb"[0-9a-f]{32}", found.trace_id)
        assert re.fullmatch(rb"[0-9a-f]{16}", found.span_id)


@given(HEX, HEX, st.sampled_from(("00", "01", "02", "03", "10", "0")), st.sampled_from(("", "-", " ", "\r\nA: b")))
def test_the_short_way_takes_nothing_that_the_long_one_would_not(trace: str, span: str, flags: str, more: str) -> None:
    value = f"00-{trace.rjust(32, 'a')}-{span.rjust(16, '0')}-{flags}"
    text = f"\r\ntraceparent: {value}{more}".encode()
    if (short := NOT_RECORDED.fullmatch(text)) is not None:
        found = read_context(text, (W3C,))
        assert found is not None
        assert (found.trace_id, found.is_sampled) == (short[1], False)


def test_two_lines_are_none() -> None:
    line = b"traceparent: 00-" + TRACE + b"-" + SPAN + b"-01"
    assert read_context(head(line), (W3C,)) is not None
    assert read_context(head(line, line), (W3C,)) is None
    b3 = b"b3: " + B3_TRACE + b"-" + B3_SPAN + b"-1"
    assert read_context(head(b3, b3), (B3,)) is None


# W3C: tracestate.


def test_lines_of_tracestate_are_one_list() -> None:
    assert parse_tracestate([b"rojo=00f067aa0ba902b7, congo=t61rcWkgMzE", b"", b" , az@b/c=1"]) == (
        b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,az@b/c=1"
    )


@pytest.mark.parametrize(
    "lines",
    [[b"foo"], [b"foo=1,foo=2"], [b"Foo=1"], [b"foo=a=b"], [b"foo=\xe4"], [b"foo=1,,bar"], [b"=1"], [b"foo="]],
)
def test_a_list_that_is_wrong_anywhere_is_thrown_away(lines: list[bytes]) -> None:
    assert parse_tracestate(lines) == b""


def test_a_list_has_32_members_at_the_most() -> None:
    members = [b"k%d=1" % number for number in range(33)]
    assert parse_tracestate([b",".join(members[:32])]) == b",".join(members[:32])
    assert parse_tracestate([b",".join(members)]) == b""


def test_of_a_list_that_is_too_long_the_long_members_go_first_and_then_the_last() -> None:
    long, short = b"long=" + b"x" * 200, [b"s%d=" % number + b"y" * 90 for number in range(6)]
    assert parse_tracestate([b",".join((long, *short[:3]))]) == b",".join((long, *short[:3]))
    assert parse_tracestate([b",".join((long, *short[:5]))]) == b",".join(short[:5])
    assert parse_tracestate([b",".join(short)]) == b",".join(short[:5])


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_what_is_passed_on_is_never_longer_than_allowed(lines: list[bytes]) -> None:
    assert len(parse_tracestate(lines)) <= 512


def test_tracestate_alone_says_nothing() -> None:
    assert read_context(head(b"tracestate: a=1"), (W3C,)) is None


# B3.


@pytest.mark.parametrize(
    ("value", "is_sampled", "is_debug"),
    [
        (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", True, False),
        (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d", True, True),
        (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0", False, False),
        (b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1", None, False),
    ],
)
def test_b3_in_one_line_is_read(value: bytes, is_sampled: bool | None, is_debug: bool) -> None:
    context = parse_b3(value)
    assert context is not None
    assert (context.trace_id, context.span_id) == (B3_TRACE, B3_SPAN)
    assert (context.is_sampled, context.is_debug) == (is_sampled, is_debug)


def test_a_short_id_of_b3_is_the_right_half_of_a_long_one() -> None:
    context = parse_b3(b"64fe8b2a57d3eff7-e457b5a2e4d86bd1-1")
    assert context is not None
    assert context.trace_id == b"0" * 16 + b"64fe8b2a57d3eff7"


@pytest.mark.parametrize("value", [b"0", b"1", b"d", b"", B3_TRACE, B3_TRACE + b"-" + b"0" * 16 + b"-1", b"x-y-1"])
def test_b3_without_a_trace_says_nothing_of_one(value: bytes) -> None:
    assert parse_b3(value) is None


@pytest.mark.parametrize(
    ("more", "is_sampled", "is_debug"),
    [
        ((b"X-B3-Sampled: 1", b"X-B3-ParentSpanId: 05e3ac9a4f6e3b90"), True, False),
        ((b"X-B3-Sampled: 0",), False, False),
        ((b"X-B3-Sampled: true",), True, False),
        ((b"X-B3-Flags: 1",), True, True),
        ((), None, False),
    ],
)
def test_b3_in_many_lines_is_read(more: tuple[bytes, ...], is_sampled: bool | None, is_debug: bool) -> None:
    context = read_context(head(b"X-B3-TraceId: " + B3_TRACE, b"x-b3-spanid: " + B3_SPAN, *more), (B3_MULTI,))
    assert context is not None
    assert (context.trace_id, context.span_id) == (B3_TRACE, B3_SPAN)
    assert (context.is_sampled, context.is_debug) == (is_sampled, is_debug)


@pytest.mark.parametrize(
    "lines",
    [
        (b"X-B3-TraceId: " + B3_TRACE,),
        (b"X-B3-SpanId: " + B3_SPAN,),
        (b"X-B3-TraceId: " + B3_TRACE.upper(), b"X-B3-SpanId: " + B3_SPAN),
        (b"X-B3-TraceId: " + B3_TRACE, b"X-B3-SpanId: " + B3_SPAN, b"X-B3-Sampled: maybe"),
        (b"X-B3-TraceId: " + B3_TRACE, b"X-B3-SpanId: " + B3_SPAN, b"X-B3-SpanId: " + B3_SPAN),
    ],
)
def test_many_lines_that_are_not_right_are_none(lines: tuple[bytes, ...]) -> None:
    assert read_context(head(*lines), (B3_MULTI,)) is None


def test_debug_is_passed_on() -> None:
    context = parse_b3(B3_TRACE + b"-" + B3_SPAN + b"-d")
    assert context is not None
    assert make_lines((B3,), context) == b"\r\nb3: " + B3_TRACE + b"-" + B3_SPAN + b"-d"
    assert make_lines((B3_MULTI,), context).endswith(b"\r\nX-B3-Flags: 1")


# All of them.


def test_the_first_format_that_says_something_right_counts() -> None:
    w3c = b"traceparent: 00-" + TRACE + b"-" + SPAN + b"-01"
    b3 = b"b3: " + B3_TRACE + b"-" + B3_SPAN + b"-0"
    for formats, lines, trace in (
        ((W3C, B3), (w3c, b3), TRACE),
        ((B3, W3C), (w3c, b3), B3_TRACE),
        ((W3C, B3), (b"traceparent: x", b3), B3_TRACE),
    ):
        found = read_context(head(*lines), formats)
        assert found is not None
        assert found.trace_id == trace


def test_every_format_is_written() -> None:
    context = Context(TRACE, SPAN, True, 1, b"a=1")
    assert make_lines(FORMATS, context) == (
        b"\r\ntraceparent: 00-%b-%b-01\r\ntracestate: a=1\r\nb3: %b-%b-1"
        b"\r\nX-B3-TraceId: %b\r\nX-B3-SpanId: %b\r\nX-B3-Sampled: 1" % ((TRACE, SPAN) * 3)
    )


def test_the_fields_of_formats_are_those_that_are_read_and_written() -> None:
    written = make_lines(FORMATS, Context(TRACE, SPAN, True, state=b"a=1"))
    names = {line.partition(b":")[0].lower() for line in written.split(b"\r\n")[1:]}
    assert names | {b"x-b3-parentspanid", b"x-b3-flags"} == set(names_of(FORMATS))
    assert names_of((B3,)) == (b"b3",)


# Sampling.


def test_a_share_is_a_threshold_of_the_id_s_random_part() -> None:
    assert threshold(0.0) == b"0" * RANDOM_DIGITS
    assert threshold(1.0) > b"f" * RANDOM_DIGITS
    assert threshold(0.25) == b"4" + b"0" * (RANDOM_DIGITS - 1)
    assert b"0" * (RANDOM_DIGITS - 1) + b"7" < threshold(1e-15) < b"0" * (RANDOM_DIGITS - 3) + b"fff"
    assert random_digits(b"f" * 18 + b"0" * 13 + b"7") == b"0" * 13 + b"7"
