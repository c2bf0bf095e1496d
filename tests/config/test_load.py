from __future__ import annotations

from pathlib import Path

import pytest

from fastgw.config.load import load_config, load_text
from fastgw.errors import ConfigError
from tests.config.sources import load, problems

_CASES = [
    tuple(part.partition("\n")[::2])
    for part in Path(__file__).with_name("bad_configs.txt").read_text(encoding="utf-8").split("\n=== ")[1:]
]


@pytest.mark.parametrize(("name", "case"), _CASES, ids=[name for name, _ in _CASES])
def test_what_is_wrong_is_said_with_its_place_and_what_to_write(name: str, case: str) -> None:
    text, _, expected = case.partition("---\n")
    assert "\n".join(problems(text)) == expected.strip()


def test_there_are_cases_enough() -> None:
    assert len(_CASES) >= 140


@pytest.mark.parametrize(("name", "case"), _CASES, ids=[name for name, _ in _CASES])
def test_nothing_of_a_secret_is_said(name: str, case: str) -> None:
    assert "hunter2" not in "".join(problems(case.partition("---\n")[0]))


def test_no_words_of_the_validation_library_are_said() -> None:
    said = "".join(case.partition("---\n")[2] for _, case in _CASES)
    for words in ("Input should", "Extra inputs", "Field required", "pydantic", "type=", "Value error"):
        assert words not in said


def test_the_smallest_configuration_needs_a_listener_and_a_route() -> None:
    loaded = load_text('[[listeners]]\naddress = "127.0.0.1:0"\n[[routes]]\nrespond.body = "ok"\n')
    assert [listener.name for listener in loaded.snapshot.listeners] == ["listener-1"]
    assert [route.name for route in loaded.snapshot.routes] == ["route-1"]
    assert loaded.snapshot.upstreams == {}


def test_a_file_is_read_with_its_name_in_the_problems(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[server]\nworker = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"gateway\.toml:2:1: server\.worker: unknown key"):
        load_config(file)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "no.toml")
    assert str(refused.value) == f"{tmp_path}/no.toml: there is no such file"


def test_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path)
    assert str(refused.value) == f"{tmp_path}: is a directory"


def test_a_file_that_is_not_utf8_is_said_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"[server]\n# \xc3\xa9 \xe9\n")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert str(refused.value) == f"{file}:2:5: not UTF-8; save it as UTF-8"


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'\xef\xbb\xbf[[listeners]]\r\naddress = "[::]:80"\r\n[[routes]]\r\nrespond.body = "ok"\r\n')
    assert load_config(file).snapshot.listeners[0].address.host == "::"


def test_tables_nested_without_end_are_refused() -> None:
    assert problems("a = " + "[" * 5000 + "]" * 5000 + "\n") == ["config.toml:1:1: nested too deep"]


def test_the_environment_and_files_are_brought_in(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n", encoding="utf-8")
    text = """
[[routes]]
upstream = "a"
[routes.request.headers.set]
X-Env = "Bearer ${SECRET}"
X-File = "${file:key}"
X-Literal = "$${SECRET}"
"""
    edits = load(text, base=tmp_path).snapshot.routes[0].request_edits
    assert edits is not None
    assert edits.lines == b"\r\nX-Env: Bearer hunter2\r\nX-File: from-file\r\nX-Literal: ${SECRET}"


def test_a_secret_is_read_once_and_not_looked_into() -> None:
    loaded = load('[[routes]]\nrespond.body = "${NESTED}"\n', {"NESTED": "${SECRET}", "SECRET": "hunter2"})
    reply = loaded.snapshot.routes[0].reply
    assert reply is not None
    assert reply.body == b"${SECRET}"


def test_keys_are_not_looked_into() -> None:
    assert problems('[server]\n"${SECRET}" = 1\n') == [
        'config.toml:2:1: server."${SECRET}": unknown key; '
        "known here: workers, pin_workers, hang_timeout, watch, canary, drain_timeout, trusted_proxies"
    ]


def test_keys_that_are_nested_too_deep_are_said() -> None:
    with pytest.raises(ConfigError, match=r"config\.toml:1:1: nested too deep"):
        load_text(".".join(["a"] * 5000) + " = 1\n")
