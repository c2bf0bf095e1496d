"""What of a configuration is nobody's business though the file writes it out, by its key or the header that it is for.

What `${...}` brings in is a secret wherever it stands, which a `Document` knows; the reference to it is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastgw.policy.redaction import HEADER_NAMES, QUERY_NAMES, plain_name

HIDDEN = "(hidden)"

_KEYS = frozenset(("secret", "hmac_key", "token"))
# Tables of headers, whose names are told apart without regard to case.
HEADER_TABLES = frozenset(("headers", "set", "add"))
_HEADERS = frozenset(HEADER_NAMES)
# Tables of other conditions, in which what no log shows is hidden.
_PARAMETER_TABLES = frozenset(("query", "cookies"))
_PARAMETERS = frozenset(name.encode() for name in QUERY_NAMES)
_REFERENCE = re.compile(r"\$\{[^{}]*\}")


def shown(value: object, key: str = "", table: str = "") -> object:
    """Plain data as the file writes it, but for secrets. `key` and `table` are what it is under."""
    if isinstance(value, dict):
        return {name: shown(item, name, key) for name, item in value.items()}
    if isinstance(value, list):
        return [shown(item, key, table) for item in value]
    return HIDDEN if isinstance(value, str) and _is_secret(value, key, table) else value


def written_out(value: object, key: str = "", table: str = "") -> Iterator[str]:
    """What `shown` hides; of a condition's regular expression without the mark before it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from written_out(item, name, key)
    elif isinstance(value, list):
        for item in value:
            yield from written_out(item, key, table)
    elif isinstance(value, str) and _is_secret(value, key, table):
        yield value.removeprefix("~")


def _is_secret(value: str, key: str, table: str) -> bool:
    if _REFERENCE.fullmatch(value) is not None:
        return False
    return (
        key in _KEYS
        or (table in HEADER_TABLES and key.lower() in _HEADERS)
        or (table in _PARAMETER_TABLES and plain_name(key.encode()) in _PARAMETERS)
    )
