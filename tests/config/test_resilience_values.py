from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastgw.config import resilience_values as r
from fastgw.config.problems import Wrong


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (r.share, "20%", 0.2),
        (r.share, "0%", 0.0),
        (r.share, "12.5%", 0.125),
        (r.share, "100%", 1.0),
        (r.rate, "10/s", 10.0),
        (r.rate, "600/m", 10.0),
        (r.rate, "1e6/d", 1e6 / 86400),
        (r.status_range, "200", (200, 200)),
        (r.status_range, "200-399", (200, 399)),
        (r.retry_condition, "reset", "reset"),
        (r.retry_condition, "503", "503"),
        (r.check_path, "/healthz?full=1", "/healthz?full=1"),
        (r.hash_key, "client.ip", ("client.ip", "")),
        (r.hash_key, "header:X-User", ("header", "x-user")),
        (r.hash_key, "cookie:Session", ("cookie", "Session")),
        (r.hash_key, "query:id", ("query", "id")),
    ],
)
def test_what_is_right_is_read(read: Callable[[object], Any], value: object, expected: object) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        *((r.share, value) for value in ("20", "-1%", "101%", 0.2, None, "")),
        *((r.rate, value) for value in ("10", "10/w", "/s", 10, "-1/s", "1e9/s")),
        *((r.status_range, value) for value in ("100", "600", "300-200", 200, "2xx", "")),
        *((r.retry_condition, value) for value in ("resets", "200", "600", 503, "")),
        *((r.check_path, value) for value in ("healthz", "/a b", "/a#b", "/\n", 1, "")),
        *((r.hash_key, value) for value in ("client", "header:", "header:a b", "claim:sub", 1, "")),
    ],
)
def test_what_is_wrong_is_refused(read: Callable[[object], Any], value: object) -> None:
    with pytest.raises(Wrong):
        read(value)
