"""Header names and values that the configuration puts into messages (RFC 9110 §5)."""

from __future__ import annotations

import re

from fastgw.config.problems import Wrong, kind, toml_text

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110 §5.5: no control character but the tab.
_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL_NAMES = {"\r": "CR", "\n": "LF", "\0": "NUL"}

# They say how a message is framed or belong to one connection, so only the gateway can write them.
OWNED = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}
)


def header_name(value: object) -> str:
    """The name of a header that a route may edit."""
    if not isinstance(value, str):
        raise Wrong(f"must be a header's name, not {kind(value)}", 'write it like "X-Api"', 'write it like "X-Api"')
    if _TOKEN.fullmatch(value) is None:
        hint = "use letters, digits and any of !#$%&'*+-.^_`|~"
        raise Wrong("{value} is not a header's name", hint, hint)
    if value.lower() == "host":
        raise Wrong("{value} is not edited here", "use rewrite.host", "use rewrite.host")
    if value.lower() in OWNED:
        raise Wrong("{value} is written by the gateway alone", "remove it", "remove it")
    return value


def header_value(value: object) -> str:
    """A header's value."""
    if not isinstance(value, str):
        meant = (
            f'write "{value}"' if isinstance(value, int | float) and not isinstance(value, bool) else "write a string"
        )
        raise Wrong(f"must be a string, not {kind(value)}", meant, meant)
    bad = _BAD_IN_VALUE.search(value)
    if bad:
        name = _CONTROL_NAMES.get(bad.group(), f"U+{ord(bad.group()):04X}")
        raise Wrong(f"a header's value can't hold {name}", "write it on one line", "write it on one line")
    if value != value.strip(" \t"):
        raise Wrong("a header's value can't begin or end with white space", f"write {toml_text(value.strip())}")
    return value
