"""Small configurations for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastgw.config.load import LoadedConfig, load_text
from fastgw.errors import ConfigError

LISTENER = '[[listeners]]\naddress = "127.0.0.1:0"\n'
UPSTREAM = '[upstreams.a]\nendpoints = ["127.0.0.1:1"]\n'
ROUTE = '[[routes]]\npath = "/only"\nupstream = "a"\n'
ENVIRONMENT = {"SECRET": "hunter2", "LINES": "hun\nter2"}


def completed(text: str) -> str:
    """The text with a listener, an upstream and a route behind it, where it has none; a lone comment stays so."""
    if text == "#\n":
        return text
    has_upstream = "[upstreams." in text or text.startswith("upstreams")
    upstream = text.split("[upstreams.")[1].split("]", maxsplit=1)[0] if "[upstreams." in text else '"a"'
    return (
        text
        + ("" if "listeners" in text else LISTENER)
        + ("" if has_upstream else UPSTREAM)
        + ("" if "routes" in text else ROUTE.replace('"a"', upstream if upstream[0] == '"' else f'"{upstream}"'))
    )


def load(text: str, environment: Mapping[str, str] = ENVIRONMENT, base: Path = Path(".")) -> LoadedConfig:
    return load_text(completed(text), "config.toml", base, environment)


def problems(text: str, environment: Mapping[str, str] = ENVIRONMENT, base: Path = Path(".")) -> list[str]:
    """What is said about a text, one line for each problem."""
    try:
        load(text, environment, base)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []
