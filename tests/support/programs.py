"""Programs of others: where one is missing, a test is skipped with the reason, or fails where CI is set."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, package: str | None = None) -> str:
    """The program's path; `package` is Debian's name for where it is in."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed (Debian: apt-get install {package or name})"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    return found
