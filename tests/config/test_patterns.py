from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.config import patterns
from fastgw.config.problems import Wrong
from fastgw.http1.target import normalize_path
from fastgw.policy.router import Router, Rule


class _Facts:
    def header(self, name: bytes) -> bytes | None:
        return None

    def query_value(self, name: bytes) -> bytes | None:
        return None

    def cookie(self, name: bytes) -> bytes | None:
        return None


_PATHS = st.text("/ab.%2Fe7é~{}*-", max_size=12).map(lambda text: f"/{text}")


@given(_PATHS)
def test_a_path_that_is_taken_is_in_the_form_that_requests_come_in(text: str) -> None:
    try:
        pattern = patterns.path_pattern(text)
    except Wrong:
        return
    router = Router([Rule(path=pattern.pattern)])
    if not pattern.parameters and not pattern.pattern.endswith(b"*"):
        assert normalize_path(pattern.pattern) == pattern.pattern == pattern.literal
        assert router.match(b"h", pattern.pattern, b"GET", _Facts()) == (0, ())


@pytest.mark.parametrize(
    ("text", "pattern", "literal", "parameters"),
    [
        ("/", b"/", b"/", ()),
        ("/*", b"/*", b"/", ()),
        ("/a", b"/a", b"/a", ()),
        ("/a/", b"/a/", b"/a/", ()),
        ("/a/*", b"/a/*", b"/a/", ()),
        ("/a/{b}/c/{d*}", b"/a/{b}/c/{d*}", b"/a/", ("b", "d")),
        ("/{a}", b"/{a}", b"/", ("a",)),
        ("/%7ea/caf%c3%a9", b"/~a/caf%C3%A9", b"/~a/caf%C3%A9", ()),
        ("/café", b"/caf%C3%A9", b"/caf%C3%A9", ()),
    ],
)
def test_a_path_is_cut_into_its_parts(text: str, pattern: bytes, literal: bytes, parameters: tuple[str, ...]) -> None:
    assert patterns.path_pattern(text) == patterns.PathPattern(pattern, literal, parameters)


@given(_PATHS)
def test_a_template_is_taken_or_refused(text: str) -> None:
    try:
        template = patterns.path_template(text)
    except Wrong:
        return
    assert len(template.literals) == len(template.names) + 1
    assert bytes(template).startswith(b"/")


@pytest.mark.parametrize("method", patterns.METHODS)
def test_the_parser_takes_every_method_that_a_route_may_name(method: str) -> None:
    parser = httptools.HttpRequestParser(object())
    parser.feed_data(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert parser.get_method().decode() == method


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Shop.Example.COM", "shop.example.com"),
        ("*.Example.com", "*.example.com"),
        ("example.com.", "example.com"),
        ("[::1]", "[::1]"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_is_in_the_form_that_requests_come_in(text: str, host: str) -> None:
    assert patterns.host_pattern(text) == host


@pytest.mark.parametrize("text", ["", ".a", "a..b", "*.", "*a.example", "a b", "a/b", "::1", "é" * 300])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        patterns.host_pattern(text)


def test_a_rewritten_host_may_have_a_port() -> None:
    assert patterns.authority("B.internal:81") == "b.internal:81"
    assert patterns.authority("[::1]:81") == "[::1]:81"
