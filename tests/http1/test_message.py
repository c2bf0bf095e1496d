from __future__ import annotations

import pytest

from fastgw.http1.message import RequestHead


def request(*lines: bytes, query: bytes = b"") -> RequestHead:
    made = RequestHead(b"\r\n".join((b"GET / HTTP/1.1", *lines, b"", b"")), b"GET", 1)
    made.query = query
    return made


def test_a_field_s_values_are_joined_and_one_that_is_not_there_is_none() -> None:
    asked = request(b"Accept: a ", b"X-A:", b"ACCEPT:b")
    assert asked.header(b"accept") == b"a, b"
    assert asked.header(b"x-a") == b""
    assert asked.header(b"x-b") is None


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"", None),
        (b"?", None),
        (b"?a=1&a=2", b"1"),
        (b"?b=0&%61=%31", b"1"),
        (b"?a", b""),
        (b"?a=", b""),
        (b"?a=x+y%2Bz", b"x y+z"),
        (b"?a=b=c", b"b=c"),
        (b"?aa=1&A=2", None),
        (b"?a=%zz", b"%zz"),
    ],
)
def test_a_query_parameter_is_the_first_of_its_name_decoded(query: bytes, value: bytes | None) -> None:
    assert request(query=query).query_value(b"a") == value


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([], None),
        ([b"Cookie: a=1; b=2"], b"1"),
        ([b"Cookie: b=2", b"cookie: a=1"], b"1"),
        ([b'Cookie: a="x y"'], b"x y"),
        ([b"Cookie: a=1=2;a=3"], b"1=2"),
        ([b"Cookie: a"], None),
        ([b"Cookie: aa=1;A=2"], None),
        ([b"X-Cookie: a=1"], None),
    ],
)
def test_a_cookie_is_the_first_of_its_name(lines: list[bytes], value: bytes | None) -> None:
    assert request(*lines).cookie(b"a") == value
