"""The wire format, against the library that everybody else has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from fastgw.runtime.protobuf import data, fixed_32, fixed_64, number, parse

KIND, START, NAME, FLAGS, DROPPED_ATTRIBUTES = 6, 7, 5, 16, 10


@given(st.integers(0, 2**32 - 1), st.text(max_size=400), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_by_the_library(dropped: int, name: str, start: int, flags: int) -> None:
    encoded = b"".join(
        (
            data(NAME, name.encode()),
            fixed_64(START, start),
            number(DROPPED_ATTRIBUTES, dropped),
            fixed_32(FLAGS, flags),
        )
    )
    span = Span.FromString(encoded)
    assert (span.name, span.start_time_unix_nano) == (name, start)
    assert (span.dropped_attributes_count, span.flags) == (dropped, flags)


@given(st.integers(1, 2**32 - 1), st.text(min_size=1, max_size=400), st.integers(1, 2**64 - 1))
def test_what_the_library_has_written_is_read(dropped: int, name: str, start: int) -> None:
    span = Span(name=name, start_time_unix_nano=start, dropped_attributes_count=dropped, flags=1)
    assert parse(span.SerializeToString()) == {
        NAME: name.encode(),
        START: start.to_bytes(8, "little"),
        DROPPED_ATTRIBUTES: dropped,
        FLAGS: b"\1\0\0\0",
    }


def test_of_a_field_that_is_there_twice_the_last_counts() -> None:
    assert parse(number(KIND, 2) + number(KIND, 3)) == {KIND: 3}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x0a", "a number has no end"),
        (b"\x08\x80", "a number has no end"),
        (b"\x08" + b"\xff" * 10, "a number has no end"),
        (b"\x0a\x05four", "ends within a field"),
        (b"\x09" + bytes(7), "ends within a field"),
        (b"\x0b", "there is no type 3 of fields"),
        (b"\x0f", "there is no type 7 of fields"),
    ],
)
def test_what_is_no_message_is_said(message: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(message)
