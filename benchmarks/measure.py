"""What a process tree costs: CPU time from schedstat, memory from smaps_rollup, and how quiet its core was.

schedstat counts nanoseconds on a CPU per thread, system calls and the loopback's packet work included; see
Documentation/scheduler/sched-stats.rst in the kernel's sources. Everything here only reads /proc.
"""

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICK_NANOSECONDS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants, the process itself first; empty when it's gone."""
    if not is_alive(pid):
        return []
    family = [pid]
    for member in family:  # grows while it is walked
        for task in _tasks(member):
            text = _read(task / "children")
            family += [int(child) for child in text.split()]
    return family


def is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    state = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


@dataclass(frozen=True, slots=True)
class CpuSpent:
    """What happened in a measured window."""

    nanoseconds: int  # on a CPU, over all threads of all the peer's processes
    others_share: float  # of the busier core's time that went to strangers, the hypervisor's other guests included
    ended: tuple[int, ...]  # processes of the peer that did not survive the window


class CpuWindow:
    """Opened before the load, closed after it.

    `helpers` are the servers on the load's core; the load itself is the children that end within the window.
    """

    def __init__(self, pid: int, core: int, helpers: Sequence[int] = (), load_core: int | None = None) -> None:
        self._pid = pid
        self._helpers = helpers
        self._cores = (core, core if load_core is None else load_core)
        self._processes = set(process_tree(pid))
        self._busy = [_core_busy_nanoseconds(each) for each in self._cores]
        self._ours = self._own_and_load()
        self._threads = _thread_nanoseconds(pid)
        self._opened = time.monotonic_ns()

    def close(self) -> CpuSpent:
        threads = _thread_nanoseconds(self._pid)
        wall = time.monotonic_ns() - self._opened
        spent = sum(now - self._threads.get(thread, 0) for thread, now in threads.items())
        load = self._own_and_load() - self._ours
        busy = [_core_busy_nanoseconds(core) - was for core, was in zip(self._cores, self._busy, strict=True)]
        strangers = max(busy[0] - spent, busy[1] - load) if self._cores[0] != self._cores[1] else busy[0] - spent - load
        ended = tuple(sorted(self._processes.difference(process_tree(self._pid))))
        return CpuSpent(spent, max(0.0, strangers / wall), ended)

    def _own_and_load(self) -> int:
        servers = sum(sum(_thread_nanoseconds(pid).values()) for pid in self._helpers)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return servers + int((used.ru_utime + used.ru_stime) * 1e9)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process tree; the first figure counts once what several of its processes share."""

    proportional_bytes: int
    resident_bytes: int


def memory(pid: int) -> Memory:
    proportional = resident = 0
    for member in process_tree(pid):
        for line in _read(PROC / str(member) / "smaps_rollup").splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                proportional += int(value.split()[0]) * 1024
            elif name == "Rss":
                resident += int(value.split()[0]) * 1024
    return Memory(proportional, resident)


def busiest(pid: int, seconds: float) -> int:
    """The process of the tree that uses most CPU over the next `seconds`: that which carries traffic."""
    before = _thread_nanoseconds(pid)
    time.sleep(seconds)
    spent: dict[int, int] = {}
    for (process, thread), now in _thread_nanoseconds(pid).items():
        spent[process] = spent.get(process, 0) + now - before.get((process, thread), 0)
    return max(spent, key=lambda process: spent[process])


def _thread_nanoseconds(pid: int) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for member in process_tree(pid):
        for task in _tasks(member):
            text = _read(task / "schedstat")
            if text:
                found[member, int(task.name)] = int(text.split()[0])
    return found


def _core_busy_nanoseconds(core: int) -> int:
    for line in _read(PROC / "stat").splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, stolen = (int(field) for field in fields[:8])
            return (user + nice + system + irq + softirq + stolen) * _TICK_NANOSECONDS
    return 0


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
