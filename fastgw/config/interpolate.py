"""`${NAME}` and `${file:PATH}` in the strings of a configuration; `$${` stands for a literal `${`.

Only values are looked at, never keys. What is brought in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from fastgw.config.positions import Path

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A certificate chain is a few KiB; more than this is the wrong file.
_FILE_SIZE_MAX = 1024 * 1024


class Interpolation:
    """One pass over a document. `secrets` has what each string became, `missing` what could not be brought in."""

    def __init__(self, environment: Mapping[str, str], base: FilePath) -> None:
        self._environment = environment
        self._base = base
        self.secrets: dict[Path, str] = {}
        self.missing: list[tuple[Path, str, str]] = []

    def replace(self, value: Any, path: Path = ()) -> Any:
        """The value with all its references replaced, as a copy."""
        if isinstance(value, dict):
            return {key: self.replace(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replace(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self._replace_text(value, path)
        return value

    def _replace_text(self, text: str, path: Path) -> str:
        brought_in = False

        def substitute(found: re.Match[str]) -> str:
            nonlocal brought_in
            if found.group() == "$${":
                return "${"
            brought_in = True
            return self._lookup(found.group(1), path)

        result = _REFERENCE.sub(substitute, text)
        if brought_in:
            self.secrets[path] = result
        return result

    def _lookup(self, name: str | None, path: Path) -> str:
        if name is None:
            self._miss(path, '"${" is not closed', 'write "${NAME}", or "$${" for the two characters themselves')
        elif name.startswith("file:"):
            return self._read(name.removeprefix("file:"), path)
        elif _NAME.fullmatch(name) is None:
            self._miss(
                path,
                f'"${{{name}}}" names no environment variable',
                'write "${NAME}", "${file:PATH}" or "$${" for itself',
            )
        elif name in self._environment:
            return self._environment[name]
        else:
            self._miss(path, f"the environment variable {name} is not set", f"set it: export {name}=…")
        return ""

    def _read(self, name: str, path: Path) -> str:
        if "\0" in name:
            self._miss(path, "a file's name holds no NUL", "name the file as it is")
            return ""
        file = self._base / name
        try:
            with file.open("rb") as opened:
                content = opened.read(_FILE_SIZE_MAX + 1)
            text = content.decode()
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
            self._miss(path, f"the file {file} can't be read: {reason}", "paths are relative to the configuration file")
            return ""
        if len(content) > _FILE_SIZE_MAX:
            self._miss(path, f"the file {file} is larger than 1 MiB", "name a file that holds one value")
            return ""
        return text.removesuffix("\n").removesuffix("\r")

    def _miss(self, path: Path, message: str, suggestion: str) -> None:
        self.missing.append((path, message, suggestion))
