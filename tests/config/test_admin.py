from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from tests.config.test_load import problems

ROUTE = '[[listeners]]\naddress = "127.0.0.1:0"\n[[routes]]\nrespond = {}\n'


def test_what_is_written_is_there_and_what_is_not_has_its_default() -> None:
    assert load_text(ROUTE).admin is None
    plain = load_text('[admin]\naddress = "127.0.0.1:9901"\n' + ROUTE)
    assert plain.admin is not None
    assert (plain.admin.token, plain.admin.metrics) == ("", True)
    assert (plain.snapshot.is_observed, plain.snapshot.counts_requests) == (True, True)
    text = '[admin]\naddress = "unix:admin.sock"\ntoken = "${TOKEN}"\nmetrics = false\n' + ROUTE
    full = load_text(text, base=Path("/run"), environment={"TOKEN": "x" * 16})
    assert full.admin is not None
    assert (full.admin.address.unix_path, full.admin.base, full.admin.token) == ("admin.sock", Path("/run"), "x" * 16)
    assert (full.snapshot.is_observed, full.snapshot.counts_requests) == (True, False)
    assert "x" * 16 not in repr(full.admin)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "unix:a.sock"])
def test_on_this_machine_alone_it_needs_no_token(address: str) -> None:
    assert problems(f'[admin]\naddress = "{address}"\n') == []


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_package_that_is_missing_is_said_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    words = f"the package {package} is not installed; install it: pip install 'fastgw[admin]'"
    assert problems('[admin]\naddress = "127.0.0.1:1"\n') == [f"config.toml:1:1: admin: {words}"]
