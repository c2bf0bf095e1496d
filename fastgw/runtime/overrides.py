"""What is changed by hand about endpoints while the gateway runs: who drains, and who has another weight.

Nobody writes that down. Draining lasts until it is undone or its upstream is gone; a weight, until the configuration is
loaded again, which says weights itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgw.snapshot import Endpoint, Snapshot, Upstream


@dataclass(frozen=True, slots=True)
class Override:
    """`weight` 0: as it is written or was found."""

    draining: bool = False
    weight: int = 0


# By upstream and endpoint.
Overrides = Mapping[tuple[str, str], Override]


def overridden(upstream: Upstream, overrides: Overrides) -> Upstream:
    """The upstream as it is with them."""
    if not any(name == upstream.name for name, _ in overrides):
        return upstream

    def as_told(endpoint: Endpoint) -> Endpoint:
        override = overrides.get((upstream.name, endpoint.name))
        if override is None:
            return endpoint
        return replace(endpoint, draining=override.draining, weight=override.weight or endpoint.weight)

    return replace(upstream, endpoints=tuple(as_told(endpoint) for endpoint in upstream.endpoints))


def all_overridden(snapshot: Snapshot, overrides: Overrides) -> Snapshot:
    """The same for all upstreams."""
    if not overrides:
        return snapshot
    upstreams = {name: overridden(upstream, overrides) for name, upstream in snapshot.upstreams.items()}
    return replace(snapshot, upstreams=upstreams)


def kept_by_reload(overrides: Overrides, snapshot: Snapshot, before: Overrides) -> Overrides:
    """What is left of them when a configuration is in force. `before` are those from when it was loaded: a weight that
    was set since, while a worker has tried it, stays."""
    kept = {}
    for key, override in overrides.items():
        is_older = override.weight == before.get(key, Override()).weight
        left = Override(override.draining, 0 if is_older else override.weight)
        if left != Override() and key[0] in snapshot.upstreams:
            kept[key] = left
    return kept
