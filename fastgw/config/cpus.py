"""How many processors this process may use: its affinity, cut to its control group's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> int:
    """At least 1. A quota of one and a half is two: one loop alone would leave half a processor unused."""
    by_affinity = len(os.sched_getaffinity(0))
    quotas = [quota for quota in (_quota(place) for place in _places(root, membership)) if quota]
    return max(1, min([by_affinity, *(math.ceil(quota) for quota in quotas)]))


def _places(root: Path, membership: Path) -> list[Path]:
    """Where quotas may stand: the directories of the group and those above it, in version 2, then 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return [root]
    places: list[Path] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Inside a container the group's path may be the host's, which is not there: the root then stands for it.
        top = root / "cpu" if controllers else root
        place = top / group.lstrip("/")
        places += [place, *(parent for parent in place.parents if parent.is_relative_to(top))]
    return places


def _quota(place: Path) -> float:
    """Processors, or 0 where there is no quota."""
    try:
        quota, _, period = (place / "cpu.max").read_text().partition(" ")
    except OSError:
        try:
            quota = (place / "cpu.cfs_quota_us").read_text()
            period = (place / "cpu.cfs_period_us").read_text()
        except OSError:
            return 0.0
    try:
        return max(0.0, int(quota) / int(period))
    except (ValueError, ZeroDivisionError):
        # "max", which is none.
        return 0.0
