from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastgw.config.cpus import usable_cpus

ALL = len(os.sched_getaffinity(0))


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A file system of control groups, and what /proc/self/cgroup says."""
    root = tmp_path / "cgroup"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    said = tmp_path / "membership"
    said.write_text(membership)
    return root, said


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        # In a container the path may be the host's.
        ("0::/system.slice/x\n", {"cpu.max": "100000 100000\n"}, 1),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, ALL),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "90000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 1),
        ("4:memory:/a\n", {"cpu/a/cpu.cfs_quota_us": "90000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "nonsense\n"}, ALL),
        ("0::/\n", {}, ALL),
    ],
)
def test_the_quota_of_the_control_group_cuts_the_affinity(
    membership: str, files: dict[str, str], cpus: int, tmp_path: Path
) -> None:
    assert usable_cpus(*group(tmp_path, membership, files)) == cpus


def test_a_part_of_a_processor_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cpus(*group(tmp_path, "0::/\n", {"cpu.max": "150000 100000\n"})) == 2
    assert usable_cpus(*group(tmp_path, "0::/\n", {"cpu.max": "5000 100000\n"})) == 1


def test_where_nobody_says_anything_the_affinity_holds(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none", tmp_path / "none") == ALL
