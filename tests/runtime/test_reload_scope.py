from __future__ import annotations

from dataclasses import replace

from fastgw.runtime.reload_scope import beyond_reload
from tests.fakes import snapshot_of

SNAPSHOT = snapshot_of("[[routes]]\nrespond.status = 204\n")


def test_what_says_which_processes_there_are_takes_more_than_a_reload() -> None:
    assert beyond_reload(SNAPSHOT, replace(SNAPSHOT, drain_timeout=1.0)) == []
    other = replace(SNAPSHOT, workers=SNAPSHOT.workers + 1, pin_workers=True)
    assert beyond_reload(SNAPSHOT, other) == ["server.workers", "server.pin_workers"]
