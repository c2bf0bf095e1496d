from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgw.http1.target import normalize_path, parse_host, split_absolute

_PIECES = [
    b"/",
    b"/",
    b"/",
    b"a",
    b".",
    b"..",
    b"%2e",
    b"%2E%2e",
    b"%2f",
    b"%41",
    b"%c3%A9",
    b";x",
    b"\\",
    b"%5c",
    b"%",
]
PATHS = st.lists(st.one_of(st.sampled_from([*_PIECES, b"%00", b"#", b"%zz", b"~"]), st.binary(max_size=2)), max_size=12)
UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def _decoded(path: bytes) -> bytes | None:
    """Byte by byte: what needs no escape is decoded, the other escapes are in upper case."""
    out, position = b"", 0
    while position < len(path):
        if path[position] != ord("%"):
            out += path[position : position + 1]
            position += 1
            continue
        digits = path[position + 1 : position + 3]
        if len(digits) < 2 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            return None
        byte = bytes.fromhex(digits.decode())
        if byte in (b"\0", b"\\"):
            return None
        out += byte if byte in UNRESERVED else b"%" + digits.upper()
        position += 3
    return out


def model(path: bytes) -> bytes | None:
    """What `normalize_path` should say, step by step (RFC 3986 §6.2.2, §5.2.4)."""
    decoded = None if b"\\" in path or b"#" in path else _decoded(path)
    if decoded is None:
        return None
    while b"//" in decoded:
        decoded = decoded.replace(b"//", b"/")
    kept: list[bytes] = []
    segments = decoded.split(b"/")[1:]
    for segment in segments:
        if segment.startswith((b".;", b"..;")):
            return None
        if segment == b"..":
            if not kept:
                return None
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


@settings(max_examples=200, deadline=None)
@given(PATHS.map(lambda parts: b"/" + b"".join(parts)))
@example(b"/a//../b")
@example(b"/a/..//")
@example(b"/a/b/..")
@example(b"/%2e%2e/a")
@example(b"//")
def test_a_path_has_one_form_and_the_model_agrees(path: bytes) -> None:
    normalized = normalize_path(path)
    assert normalized == model(path)
    if normalized is not None:
        assert normalize_path(normalized) == normalized


@pytest.mark.parametrize(
    ("path", "normalized"),
    [
        (b"/", b"/"),
        (b"/a/b/", b"/a/b/"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/a//b///c", b"/a/b/c"),
        (b"/a/..", b"/"),
        (b"/%7Euser/%41%2dz", b"/~user/A-z"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/%e2%82%ac", b"/%E2%82%AC"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a%252e", b"/a%252e"),
        (b"/...", b"/..."),
    ],
)
def test_what_is_equivalent_becomes_equal(path: bytes, normalized: bytes) -> None:
    assert normalize_path(path) == normalized


@pytest.mark.parametrize(
    "path", [b"/..", b"/a/../..", b"/%2e%2e", b"/a\\b", b"/%5c", b"/%00", b"/%", b"/%4", b"/%g0", b"/a#b", b"/..;/a"]
)
def test_what_backends_take_for_something_else_is_refused(path: bytes) -> None:
    assert normalize_path(path) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"a.test", b"a.test"),
        (b"A.Test:80", b"a.test"),
        (b"a.test.", b"a.test"),
        (b"a.test:", b"a.test"),
        (b"[::1]:8080", b"[::1]"),
        (b"[2001:DB8::1]", b"[2001:db8::1]"),
        (b"a_b.test", b"a_b.test"),
        (b"1.2.3.4", b"1.2.3.4"),
    ],
)
def test_a_host_is_known_by_its_name(value: bytes, name: bytes) -> None:
    assert parse_host(value) == name


_NO_HOSTS = b"a.test:65536 a:b a@b a/b [::1 [1.2.3.4] [::g] a,b \xff :80 . a..b a.. .a".split(b" ")


@pytest.mark.parametrize("value", [*_NO_HOSTS, b"", b"a b", b"a\n", b"a" * 300])
def test_what_is_no_host_is_refused(value: bytes) -> None:
    assert parse_host(value) is None


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=12), st.text("aA.-_~:[]10@", max_size=12).map(str.encode)))
def test_a_host_s_name_is_a_host_of_the_same_name(value: bytes) -> None:
    name = parse_host(value)
    if name is not None:
        assert parse_host(name) == name
        assert name == name.lower()


def test_an_absolute_target_is_split_into_authority_and_origin_form() -> None:
    assert split_absolute(b"http://a.test:80/x?y") == (b"a.test:80", b"/x?y")
    assert split_absolute(b"HTTPS://a.test") == (b"a.test", b"/")
    assert split_absolute(b"http://a.test?y") == (b"a.test", b"/?y")
    for other in (b"ftp://a.test/", b"/x", b"a.test:80", b""):
        assert split_absolute(other) is None
