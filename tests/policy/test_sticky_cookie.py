from __future__ import annotations

import pytest

from fastgw.policy.sticky_cookie import StickyCookie, StickySettings, for_one_client

SECRET = b"0123456789abcdef"
OLD_SECRET = b"fedcba9876543210"
NAMES = ("10.0.0.1:80", "10.0.0.2:80")


def cookie(*secrets: bytes) -> StickyCookie:
    return StickyCookie(StickySettings(b"s", secrets or (SECRET,), b"; Path=/"), NAMES, "upstream a")


def token(line: bytes) -> bytes:
    return line.removeprefix(b"\r\nSet-Cookie: s=").removesuffix(b"; Path=/")


def test_the_cookie_of_an_endpoint_leads_there_and_tells_no_address() -> None:
    sticky = cookie()
    line = sticky.line(1, None)
    assert line.startswith(b"\r\nSet-Cookie: s=")
    assert line.endswith(b"; Path=/")
    assert b"10.0" not in line
    assert sticky.place(token(line)) == 1


def test_it_is_set_only_for_whom_it_leads_elsewhere() -> None:
    sticky = cookie()
    first, second = (token(sticky.line(place, None)) for place in (0, 1))
    assert sticky.line(0, first) == b""
    assert token(sticky.line(1, first)) == second
    assert token(sticky.line(1, b"forged")) == second


def test_one_of_an_old_secret_leads_there_still_and_is_replaced() -> None:
    old = token(cookie(OLD_SECRET).line(1, None))
    sticky = cookie(SECRET, OLD_SECRET)
    assert sticky.place(old) == 1
    assert token(sticky.line(1, old)) == token(cookie(SECRET).line(1, None))


@pytest.mark.parametrize("value", [None, b"", b"forged"])
def test_without_a_good_one_it_leads_nowhere(value: bytes | None) -> None:
    assert cookie().place(value) == -1


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (b"\r\nA: 1\r\nCookie: s=x\r\nB: 2", b"\r\nA: 1\r\nB: 2"),
        (b"\r\ncookie: a=1; s=x; b=2", b"\r\nCookie: a=1; b=2"),
        (b"\r\nCookie: s=x; b=2", b"\r\nCookie: b=2"),
        (b"\r\nCookie: a=1; s=x", b"\r\nCookie: a=1"),
        (b"\r\nCookie: s=x;s=y\r\nCookie: s=z; c=3", b"\r\nCookie: c=3"),
        (b"\r\nCookie: ss=x;  S=y", b"\r\nCookie: ss=x;  S=y"),
        (b"\r\nX: s=x; y", b"\r\nX: s=x; y"),
    ],
)
def test_nothing_but_the_cookie_is_taken_out(lines: bytes, left: bytes) -> None:
    assert cookie().taken(lines)[1] == left


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"\r\nA: 1\r\nCookie: a=1; s=x\r\nB: 2", b"x"),
        (b"\r\nCookie: s=x;s=y\r\nCookie: s=z", b"x"),
        (b"\r\nCookie: ss=x;  S=y", None),
        (b"", None),
    ],
)
def test_its_value_is_taken_with_it(lines: bytes, value: bytes | None) -> None:
    assert cookie().taken(lines)[0] == value


def test_what_was_in_header_lines_is_remembered_within_bounds() -> None:
    sticky = cookie()
    for number in range(2000):
        lines = b"\r\nX-Number: %d\r\nCookie: s=%d; b=2" % (number, number)
        for _ in range(2):
            assert sticky.taken(lines) == (b"%d" % number, b"\r\nX-Number: %d\r\nCookie: b=2" % number)
        assert len(sticky._remembered) <= 512
    before = len(sticky._remembered)
    long = b"\r\nX-Long: %b\r\nCookie: s=1" % bytes(5000)
    assert sticky.taken(long) == (b"1", long[: -len(b"\r\nCookie: s=1")])
    assert len(sticky._remembered) == before


@pytest.mark.parametrize(
    ("lines", "added"),
    [
        (b"", True),
        (b"\r\nCache-Control: public, max-age=60", True),
        (b"\r\nCache-Control: max-age=60, Private", False),
        (b"\r\nCache-Control: max-age=0\r\ncache-control: no-store", False),
    ],
)
def test_no_shared_cache_keeps_what_sets_it(lines: bytes, added: bool) -> None:
    assert for_one_client(lines) == lines + (b"\r\nCache-Control: private" if added else b"")
