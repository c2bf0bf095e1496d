from __future__ import annotations

import pytest

from fastgw.config.positions import Path
from fastgw.config.problems import near, path_text, quoted, toml_text


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("upstrem", "upstream"),
        ("upsteram", "upstream"),
        ("Upstream", "upstream"),
        ("hots", "host"),
        ("stripPrefix", "strip_prefix"),
        ("auth", None),
        ("cache", None),
        ("tls", None),
        ("x", None),
    ],
)
def test_only_near_names_are_offered(name: str, meant: str | None) -> None:
    assert near(name, ["upstream", "host", "path", "match", "strip_prefix", "to"]) == meant


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("routes", 0, "rewrite", "path"), "routes[1].rewrite.path"),
        (("upstreams", "a b", "endpoints", 1), 'upstreams."a b".endpoints[2]'),
    ],
)
def test_paths_count_elements_from_1_and_quote_odd_keys(path: Path, text: str) -> None:
    assert path_text(path) == text


def test_values_are_shown_as_toml_on_one_line() -> None:
    assert toml_text({"a": [1, "b\n", True], "c d": {}}) == '{ a = [1, "b\\u000A", true], "c d" = {} }'
    assert toml_text("x" * 100) == '"' + "x" * 78 + "…"


def test_names_are_listed_with_or() -> None:
    assert quoted(["a"]) == '"a"'
    assert quoted(["a", "b", "c"]) == '"a", "b" or "c"'
