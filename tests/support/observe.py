"""What the kernel says of a process that is not ours, and waiting for what nobody tells us."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_S = 0.01


def resident_bytes(pid: int) -> int:
    """The memory that a process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


def descriptors(pid: int) -> int:
    """How many sockets, pipes and the like a process has open. Of files it may open one at any time: its log."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(f"/proc/{pid}/fd/{name}").startswith("/")
    return count


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `condition` comes true in time; for what can only be looked at."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def ends(pidfd: int, seconds: float = 10.0) -> bool:
    """Whether a process, which need not be our child, ends in time."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def connections_of(pid: int, port: int) -> int:
    """How many connections to a local port a process has open, those that their client has closed among them."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = link.readlink().name
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Established, and closed by the peer alone: until the process has read that, the connection counts for it.
    open_here = ("01", "08")
    return sum(one[1].endswith(f":{port:04X}") and one[3] in open_here and one[9] in inodes for one in lines)
