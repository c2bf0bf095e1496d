"""What of a configuration is fixed for the life of a gateway's processes."""

from __future__ import annotations

from fastgw.snapshot import Snapshot

# They say which processes there are, and where.
_OF_PROCESSES = ("workers", "pin_workers")


def beyond_reload(before: Snapshot, after: Snapshot) -> list[str]:
    """The keys that have changed and that no reload puts in force: they take a restart or an upgrade."""
    return [f"server.{name}" for name in _OF_PROCESSES if getattr(before, name) != getattr(after, name)]
