"""A route's mirror made into what the snapshot has."""

from __future__ import annotations

from fastgw.config.mirror import Compare, Mirror
from fastgw.policy.mirror import MirrorSettings
from fastgw.snapshot import Mirror as CompiledMirror


def mirror_settings(mirror: Mirror) -> CompiledMirror:
    compare = mirror.compare
    return CompiledMirror(
        mirror.upstream,
        mirror.sample,
        mirror.max_body,
        mirror.max_in_flight,
        mirror.timeout,
        _comparison(compare) if compare else None,
        compare.sample if compare else 1.0,
    )


def _comparison(compare: Compare) -> MirrorSettings:
    headers = tuple(dict.fromkeys(name.lower().encode() for name in compare.headers))
    return MirrorSettings(headers=headers, ignored_paths=frozenset(compare.ignore))
