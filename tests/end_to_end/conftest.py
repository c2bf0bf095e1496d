from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backend import RecordingBackend


@pytest.fixture(scope="session")
def backend() -> Iterator[RecordingBackend]:
    """One for all the tests that look at bytes; `expect` makes it forget."""
    running = RecordingBackend()
    yield running
    running.close()
