"""Durations, sizes and rates as the configuration writes them: a number and its unit, never a bare number."""

from __future__ import annotations

import re

from fastgw.config.problems import Wrong, kind, toml_text

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"

DURATION_PATTERN = rf"^(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?$"
SIZE_PATTERN = rf"^{_NUMBER}(?:B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
BYTE_RATE_PATTERN = SIZE_PATTERN[:-1] + "/s$"

DURATION_HINT = 'write it like "250ms", "5s", "1m30s" or "24h"'
SIZE_HINT = 'write it like "512B", "64KiB" or "10MB"'
BYTE_RATE_HINT = 'write it like "240B/s" or "64KiB/s"'

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES = {
    "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip

_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(rf"({_NUMBER})(d|h|ms|m|s)")
_SIZE = re.compile(rf"({_NUMBER})([A-Za-z]+)")
_BARE = re.compile(_NUMBER)
# What people write for these units elsewhere; K and M mean powers of two in nginx and HAProxy.
_SIZES_MEANT = {"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB"} | {unit.lower(): unit for unit in _BYTES}
_DURATIONS_MEANT = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "min": "m", "mins": "m", "minute": "m",
    "minutes": "m", "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d",
} | {unit: unit for unit in _SECONDS}  # fmt: skip


# Ten years, and an exbibyte: more is a slip of the pen, and would overflow what reckons with it.
_SECONDS_MAX = 3650 * 86400.0
_BYTES_MAX = 1024**6


def duration(value: object) -> float:
    """Seconds, more than none."""
    seconds = duration_or_zero(value)
    if seconds == 0:
        raise Wrong("must be more than zero", DURATION_HINT, DURATION_HINT)
    return seconds


def duration_or_zero(value: object) -> float:
    """Seconds."""
    text = _text(value, "a duration", "s", DURATION_HINT)
    if not text or _DURATION.fullmatch(text) is None:
        raise Wrong("{value} is not a duration", _duration_meant(text), DURATION_HINT)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > _SECONDS_MAX:
        raise Wrong("{value} is out of range", "write 3650d at the most", DURATION_HINT)
    # 250 ms is a quarter, not 0.25000000000000006.
    return round(seconds, 6)


def size(value: object) -> int:
    """Bytes, more than none."""
    read = size_or_zero(value)
    if read == 0:
        raise Wrong("must be more than zero", SIZE_HINT, SIZE_HINT)
    return read


def size_or_zero(value: object) -> int:
    """Bytes."""
    text = _text(value, "a size", "B", SIZE_HINT)
    found = _SIZE.fullmatch(text)
    if found is None or found.group(2) not in _BYTES:
        raise Wrong("{value} is not a size", _size_meant(text) or SIZE_HINT, SIZE_HINT)
    return _bytes(found, SIZE_HINT)


def byte_rate(value: object) -> int:
    """Bytes a second."""
    text = _text(value, "a byte rate", "B/s", BYTE_RATE_HINT)
    amount, slash, period = text.partition("/")
    found = _SIZE.fullmatch(amount)
    if found is None or found.group(2) not in _BYTES or period != "s":
        meant = _size_meant(amount)
        if not meant and found is not None and found.group(2) in _BYTES and not slash:
            meant = f"write {toml_text(amount)}"
        raise Wrong("{value} is not a byte rate", meant[:-1] + '/s"' if meant else BYTE_RATE_HINT, BYTE_RATE_HINT)
    return _bytes(found, BYTE_RATE_HINT)


def duration_text(seconds: float) -> str:
    """A duration as the configuration would write it."""
    left = round(seconds * 1000, 3)
    text = ""
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, _SECONDS[unit] * 1000)
        text += f"{number:.0f}{unit}" if number else ""
    return text + (f"{left:g}ms" if left else "") or "0s"


def size_text(size: int) -> str:
    """A size as the configuration would write it."""
    unit = next((unit for unit in ("TiB", "GiB", "MiB", "KiB") if size and not size % _BYTES[unit]), "B")
    return f"{size // _BYTES[unit]}{unit}"


def _bytes(found: re.Match[str], hint: str) -> int:
    amount = float(found.group(1)) * _BYTES[found.group(2)]
    if amount > _BYTES_MAX:
        raise Wrong("{value} is out of range", "write 1048576TiB at the most", hint)
    return int(amount)


def _text(value: object, what: str, unit: str, hint: str) -> str:
    if isinstance(value, str):
        if _BARE.fullmatch(value):
            raise Wrong(f"{what} needs a unit", f'write "{value}{unit}"', hint)
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Wrong(f"{what} needs a unit", f'write "{value}{unit}"' if value >= 0 else hint, hint)
    raise Wrong(f"must be {what}, not {kind(value)}", hint, hint)


def _duration_meant(text: str) -> str:
    found = re.fullmatch(rf"({_NUMBER}) *([A-Za-z]+)", text)
    unit = _DURATIONS_MEANT.get(found.group(2).lower()) if found else None
    return f'write "{found.group(1)}{unit}"' if found and unit else DURATION_HINT


def _size_meant(text: str) -> str:
    found = re.fullmatch(rf"({_NUMBER}) *([A-Za-z]+)", text)
    unit = _SIZES_MEANT.get(found.group(2).lower()) if found else None
    return f'write "{found.group(1)}{unit}"' if found and unit else ""
