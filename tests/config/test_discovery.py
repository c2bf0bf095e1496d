from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from fastgw.snapshot import Discovery
from tests.config.test_load import problems


def discovery(settings: str, base: Path = Path()) -> Discovery | None:
    text = f'[[listeners]]\naddress = "127.0.0.1:0"\n[upstreams.a]\ndiscover = {settings}\n[[routes]]\nupstream = "a"\n'
    return load_text(text, base=base).snapshot.upstreams["a"].discover


def test_each_kind_is_compiled() -> None:
    assert discovery('{ dns = "app.internal:8080" }') == Discovery("dns", "app.internal", 8080)
    assert discovery('{ srv = "_http._tcp.app.internal", server = "[::1]:53", max_refresh = "10s" }') == Discovery(
        "srv", "_http._tcp.app.internal", server="[::1]:53", max_refresh=10.0
    )
    assert discovery('{ file = "e.toml" }', Path("/etc/fastgw")) == Discovery(
        "file", "/etc/fastgw/e.toml", base="/etc/fastgw"
    )


def test_a_name_that_is_looked_up_is_whom_certificates_are_for() -> None:
    text = '[[listeners]]\naddress = "127.0.0.1:0"\n[upstreams.a]\ndiscover.dns = "app.internal:443"\n'
    for tls, server_name in (("true", "app.internal"), ('{ server_name = "b.test" }', "b.test")):
        loaded = load_text(f'{text}tls = {tls}\n[[routes]]\nupstream = "a"\n')
        upstream = loaded.snapshot.upstreams["a"]
        assert upstream.tls is not None
        assert upstream.tls.server_name == server_name


@pytest.mark.parametrize(("kind", "value"), [("dns", "app.internal:80"), ("srv", "_http._tcp.app.internal")])
def test_a_package_that_is_missing_is_said_with_the_command_that_installs_it(
    kind: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiodns", None)
    words = "the package aiodns is not installed; install it: pip install 'fastgw[dns]'"
    text = f'[upstreams.a]\ndiscover.{kind} = "{value}"\n'
    assert problems(text) == [f"config.toml:2:10: upstreams.a.discover.{kind}: {words}"]
    assert problems('[upstreams.a]\ndiscover.file = "e.toml"\n') == []
