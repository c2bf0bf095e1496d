from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.config import units
from fastgw.config.problems import Wrong


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("24h", 86400.0),
        ("1d12h", 129600.0),
        ("1.5s", 1.5),
        ("1s500ms", 1.5),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("512B", 512), ("64KiB", 65536), ("10MB", 10_000_000), ("1.5MiB", 1_572_864), ("16GiB", 16 * 1024**3)],
)
def test_a_size_is_read_as_bytes(text: str, size: int) -> None:
    assert units.size(text) == size


def test_a_byte_rate_is_read_as_bytes_a_second() -> None:
    assert units.byte_rate("240B/s") == 240
    assert units.byte_rate("64KiB/s") == 65536


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        (30, 'write "30s"'),
        (1.5, 'write "1.5s"'),
        ("30", 'write "30s"'),
        ("30 s", 'write "30s"'),
        ("30S", 'write "30s"'),
        ("5min", 'write "5m"'),
        ("2 hours", 'write "2h"'),
        (-1, units.DURATION_HINT),
        ("", units.DURATION_HINT),
        ("s", units.DURATION_HINT),
        ("30s1m", units.DURATION_HINT),
        ("-5s", units.DURATION_HINT),
        ("1e3s", units.DURATION_HINT),
        (True, units.DURATION_HINT),
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(written: object, suggestion: str) -> None:
    with pytest.raises(Wrong) as refused:
        units.duration(written)
    assert refused.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        (65536, 'write "65536B"'),
        ("64k", 'write "64KiB"'),
        ("64 kib", 'write "64KiB"'),
        ("10M", 'write "10MiB"'),
        ("10mb", 'write "10MB"'),
        ("many", units.SIZE_HINT),
        ("-1B", units.SIZE_HINT),
    ],
)
def test_what_is_no_size_is_refused_with_what_to_write(written: object, suggestion: str) -> None:
    with pytest.raises(Wrong) as refused:
        units.size(written)
    assert refused.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [(240, 'write "240B/s"'), ("240B", 'write "240B/s"'), ("64k/s", 'write "64KiB/s"'), ("fast", units.BYTE_RATE_HINT)],
)
def test_what_is_no_byte_rate_is_refused_with_what_to_write(written: object, suggestion: str) -> None:
    with pytest.raises(Wrong) as refused:
        units.byte_rate(written)
    assert refused.value.suggestion == suggestion


def test_a_duration_of_nothing_is_only_taken_where_it_makes_sense() -> None:
    assert units.duration_or_zero("0s") == 0
    with pytest.raises(Wrong, match="more than zero"):
        units.duration("0ms")


def test_a_size_of_nothing_is_only_taken_where_it_makes_sense() -> None:
    assert units.size_or_zero("0B") == 0
    with pytest.raises(Wrong, match="more than zero"):
        units.size("0KiB")


@given(st.text())
def test_the_pattern_of_the_json_schema_takes_what_is_read_as_a_duration(text: str) -> None:
    try:
        units.duration_or_zero(text)
    except Wrong:
        return
    assert re.search(units.DURATION_PATTERN, text)


@given(st.integers(0, 999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    read = units.duration_or_zero(f"{hours}h{minutes}m{seconds}s{milliseconds}ms")
    assert read == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


@given(st.integers(1, 10**10))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    assert units.duration(units.duration_text(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "250ms"), (60.0, "1m"), (90.0, "1m30s"), (86400.0, "1d"), (0.0005, "0.5ms")],
)
def test_a_duration_is_written_in_the_largest_units(seconds: float, text: str) -> None:
    assert units.duration_text(seconds) == text


@given(st.integers(0, 10**15))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert units.size_or_zero(units.size_text(size)) == size


def test_a_size_is_written_in_the_largest_unit_that_divides_it() -> None:
    assert [units.size_text(size) for size in (0, 1, 1025, 65536, 16 * 1024**3)] == [
        "0B",
        "1B",
        "1025B",
        "64KiB",
        "16GiB",
    ]
