from __future__ import annotations

from fastgw.runtime.overrides import Override, Overrides, all_overridden, kept_by_reload, overridden
from fastgw.snapshot import Snapshot
from tests.fakes import snapshot_of


def snapshot() -> Snapshot:
    return snapshot_of(
        '[upstreams.a]\nendpoints = ["h:1", { address = "h:2", weight = 3 }]\n[upstreams.b]\nendpoints = ["h:1"]\n'
        '[[routes]]\nupstream = "a"\n'
    )


def seen(made: Snapshot) -> dict[tuple[str, str], tuple[bool, int]]:
    return {
        (upstream.name, endpoint.name): (endpoint.draining, endpoint.weight)
        for upstream in made.upstreams.values()
        for endpoint in upstream.endpoints
    }


def test_what_is_said_of_an_endpoint_holds_for_it_alone() -> None:
    overrides = {("a", "h:1"): Override(draining=True), ("a", "h:2"): Override(weight=7), ("b", "h:9"): Override(True)}
    assert seen(all_overridden(snapshot(), overrides)) == {
        ("a", "h:1"): (True, 1),
        ("a", "h:2"): (False, 7),
        ("b", "h:1"): (False, 1),
    }


def test_where_nothing_is_said_all_is_as_it_was() -> None:
    written = snapshot()
    assert all_overridden(written, {}) is written
    assert overridden(written.upstreams["b"], {("a", "h:1"): Override(True)}) is written.upstreams["b"]


def test_a_reload_keeps_who_drains_and_no_weights() -> None:
    overrides: Overrides = {
        ("a", "h:1"): Override(draining=True, weight=5),
        ("a", "h:2"): Override(weight=5),
        # Found by DNS, maybe, and back tomorrow.
        ("b", "h:9"): Override(draining=True),
        ("gone", "h:1"): Override(draining=True),
    }
    kept = {("a", "h:1"): Override(draining=True), ("b", "h:9"): Override(draining=True)}
    assert kept_by_reload(overrides, snapshot(), overrides) == kept
    # But for those that were set while it was tried.
    before: Overrides = {("a", "h:1"): Override(weight=5), ("a", "h:2"): Override(weight=4)}
    assert kept_by_reload(overrides, snapshot(), before) == {**kept, ("a", "h:2"): Override(weight=5)}
