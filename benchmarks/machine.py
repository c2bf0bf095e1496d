"""Facts about this machine and these programs, without which a figure means nothing."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import Peer


def facts(peers: Iterable[Peer], root: Path) -> dict[str, object]:
    """For the report's heading and the JSON file."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "peers": {peer.name: peer.version() for peer in peers},
        "wrk": _first_line(["wrk", "-v"]),
        "backend": _first_line(["nginx", "-v"]),
        "revision": revision(root),
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.processor() or "unknown"


def revision(root: Path) -> str:
    """The commit that was measured; with "+" when files differ from it, "unknown" outside a repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    head = subprocess.run(
        [git, "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    if head.returncode:
        return "unknown"
    status = subprocess.run(
        [git, "status", "--porcelain", "--", "fastgw", "benchmarks"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _first_line(command: list[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = (finished.stdout or finished.stderr).strip().splitlines()
    return printed[0] if printed else "unknown"
