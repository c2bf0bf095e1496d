from __future__ import annotations

from pathlib import Path

import pytest

from fastgw.config.endpoint_file import read_endpoints
from fastgw.errors import ConfigError
from fastgw.snapshot import Address, Endpoint

LISTED = (
    Endpoint("10.0.0.1:80", Address("10.0.0.1", 80)),
    Endpoint("b.test:81", Address("b.test", 81), weight=3, backup=True),
)


def problems(text: str | bytes, tmp_path: Path, name: str = "e.toml") -> list[str]:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        read_endpoints(file, tmp_path)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.toml", 'endpoints = ["10.0.0.1:80", { address = "b.test:81", weight = 3, backup = true }]'),
        (
            "e.toml",
            '[[endpoints]]\naddress = "10.0.0.1:80"\n[[endpoints]]\naddress = "b.test:81"\nweight = 3\nbackup = true',
        ),
        ("e.json", '["10.0.0.1:80", {"address": "b.test:81", "weight": 3, "backup": true}]'),
        ("e.json", '{"endpoints": ["10.0.0.1:80", {"address": "b.test:81", "weight": 3, "backup": true}]}'),
    ],
)
def test_a_list_may_be_written_in_toml_and_json(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_endpoints(tmp_path / name, tmp_path) == LISTED


@pytest.mark.parametrize(("name", "text"), [("e.toml", "endpoints = []"), ("e.json", " [ ] ")])
def test_it_may_be_empty(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_endpoints(tmp_path / name, tmp_path) == ()


def test_unix_sockets_start_where_the_configuration_is(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('["unix:app.sock"]')
    (endpoint,) = read_endpoints(tmp_path / "e.json", Path("/run"))
    assert endpoint.address == Address(path="/run/app.sock")


TWICE = "the endpoint is there twice; give one of them the weight of both"
KNOWN = "unknown key; known here: address, weight, backup"
RANGE = "0 is out of range; write a whole number from 1 to 1000"
LIST = 'must be a list, not a string; write endpoints = ["10.0.0.1:80"]'
MISSING = 'address is missing; write address = "10.0.0.1:80"'
HINT = 'write it like "10.0.0.1:80", "[::1]:80", "products.internal:80" or "unix:/run/app.sock"'
NO_ADDRESS = f"is not an address with a port; {HINT}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("endpoints = [", "e.toml:1:14: not valid TOML: invalid value"),
        ("", "e.toml: endpoints is missing; write endpoints = [\"10.0.0.1:80\"]"),
        ('endpoint = ["a:1"]', 'e.toml:1:12: endpoint: unknown key; did you mean "endpoints"?'),
        ('endpoints = "a:1"', f"e.toml:1:13: endpoints: {LIST}"),
        ('endpoints = [\n"a:1",\n"b"]', f'e.toml:3:1: endpoints[2]: "b" {NO_ADDRESS}'),
        ("endpoints = [5]", f"e.toml:1:14: endpoints[1]: must be an address or a table, not a number; {HINT}"),
        ('endpoints = ["a:1", "a:1"]', f"e.toml:1:21: endpoints[2]: {TWICE}"),
        ("endpoints = [{ weight = 1 }]", f"e.toml:1:14: endpoints[1]: {MISSING}"),
        ('endpoints = [{ address = "a:1", port = 1 }]', f"e.toml:1:40: endpoints[1].port: {KNOWN}"),
        ('endpoints = [{ address = "a:1", weight = 0 }]', f"e.toml:1:42: endpoints[1].weight: {RANGE}"),
        (b"endpoints = [\n'\xff']", "e.toml:2:2: not UTF-8; save it as UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a:1"', "e.json:1:7: not valid JSON: expecting ',' delimiter"),
        ("", "e.json:1:1: not valid JSON: expecting value"),
        ("5", 'e.json:1:1: must be a list of endpoints, not a number; write ["10.0.0.1:80"]'),
        ('[\n "a:1",\n {"address": "b:2"},\n "c"\n]', f'e.json:4:2: endpoints[3]: "c" {NO_ADDRESS}'),
        ("[" * 100_000, "e.json:1:1: nested too deep"),
    ],
    ids=range(5),
)  # fmt: skip
def test_so_it_is_in_json(text: str, expected: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path, "e.json") == [expected]


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file"):
        read_endpoints(tmp_path / "nowhere.toml", tmp_path)
