"""Programs of others: where one is missing, a test is skipped with the reason, or fails where CI is set."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.client import Client
from tests.support.observe import eventually


def program(name: str, package: str | None = None) -> str:
    """The program's path; `package` is Debian's name for where it is in."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed (Debian: apt-get install {package or name})"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    return found


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """The program runs, and listens on the port."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def listens() -> bool:
            try:
                Client(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return False
            return True

        assert eventually(listens)
        yield
    finally:
        process.terminate()
        process.wait()
