"""What a process tree costs: CPU time from schedstat, memory from smaps_rollup, and how quiet its core was.

schedstat counts nanoseconds on a CPU per thread, system calls and the loopback's packet work included; see
Documentation/scheduler/sched-stats.rst in the kernel's sources. Everything here only reads /proc.
"""

import contextlib
import os
import resource
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# A process tree that uses less than this share of a core, looked at for as long, has done what it does at its start.
_SETTLED_SHARE = 0.05
_SETTLED_SECONDS = 0.1
_ESTABLISHED = "01"  # in /proc/net/tcp
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
    by_process: dict[int, int]  # the same, by process id
    others_share: float  # of the busier core's time that went to strangers, the hypervisor's other guests included
    ended: tuple[int, ...]  # processes of the peer that did not survive the window


class CpuWindow:
    """Opened before the load, closed after it.

    `helpers` are the servers on the load's cores; the load itself is the children that end within the window.
    """

    def __init__(
        self, pid: int, cores: Sequence[int], helpers: Sequence[int] = (), load_cores: Sequence[int] = ()
    ) -> None:
        self._pid = pid
        self._helpers = helpers
        self._cores, self._load_cores = set(cores), set(load_cores)
        self._processes = set(process_tree(pid))
        self._busy = _busy_nanoseconds(self._cores | self._load_cores)
        self._ours = self._own_and_load()
        self._threads = _thread_nanoseconds(pid)
        self._opened = time.monotonic_ns()

    def close(self) -> CpuSpent:
        threads = _thread_nanoseconds(self._pid)
        wall = time.monotonic_ns() - self._opened
        by_process: dict[int, int] = {}
        for (process, thread), now in threads.items():
            spent = now - self._threads.get((process, thread), 0)
            by_process[process] = by_process.get(process, 0) + spent
        nanoseconds = sum(by_process.values())
        strangers = self._strangers(nanoseconds, self._own_and_load() - self._ours)
        ended = tuple(sorted(self._processes.difference(process_tree(self._pid))))
        return CpuSpent(nanoseconds, by_process, max(0.0, strangers / wall), ended)

    def _strangers(self, spent: int, load: int) -> int:
        """Nanoseconds that were neither the peer's nor the load's: on the cores of one of them, or on those of both."""
        now = _busy_nanoseconds(self._cores | self._load_cores)
        busy = {core: now[core] - was for core, was in self._busy.items()}
        if self._cores & self._load_cores or not self._load_cores:
            return sum(busy.values()) - spent - load
        return max(sum(busy[core] for core in self._cores) - spent, sum(busy[core] for core in self._load_cores) - load)

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


def settled(pid: int, seconds: float) -> bool:
    """Waits for as long until the process tree hardly uses CPU time; whether it came to that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = sum(_thread_nanoseconds(pid).values())
        time.sleep(_SETTLED_SECONDS)
        if sum(_thread_nanoseconds(pid).values()) - before < _SETTLED_SHARE * _SETTLED_SECONDS * 1e9:
            return True
    return False


def named(pid: int, name: str) -> list[int]:
    """The processes of the tree that go by that name."""
    return [member for member in process_tree(pid) if _read(PROC / str(member) / "comm").strip() == name]


@dataclass(frozen=True, slots=True)
class Connection:
    """One of a process's open connections."""

    inode: str  # its name: ports alone may be the same at several addresses
    local_port: int
    remote_port: int


def connections(pid: int) -> set[Connection]:
    """The open connections of a process (TCP over IPv4).

    While connections of anybody come and go, the kernel's list may leave out some that stay: look more than once.
    """
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in _open_files(pid)}
    found = set()
    for line in _read(PROC / "net/tcp").splitlines()[1:]:
        _, local, remote, state, rest = line.split(maxsplit=4)  # most of thousands are in another state
        if state == _ESTABLISHED and (inode := rest.split(maxsplit=6)[5]) in inodes:
            found.add(Connection(inode, *(int(end.rpartition(":")[2], 16) for end in (local, remote))))
    return found


def _open_files(pid: int) -> list[str]:
    links = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for file in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while it was listed
                links.append(str(file.readlink()))
    return links


def _thread_nanoseconds(pid: int) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for member in process_tree(pid):
        for task in _tasks(member):
            text = _read(task / "schedstat")
            if text:
                found[member, int(task.name)] = int(text.split()[0])
    return found


def _busy_nanoseconds(cores: Collection[int]) -> dict[int, int]:
    """How long each of the cores has been busy."""
    busy = dict.fromkeys(cores, 0)
    for line in _read(PROC / "stat").splitlines():
        name, *fields = line.split()
        core = name.removeprefix("cpu")
        if core.isdigit() and int(core) in busy:
            user, nice, system, _idle, _iowait, irq, softirq, stolen = (int(field) for field in fields[:8])
            busy[int(core)] = (user + nice + system + irq + softirq + stolen) * _TICK_NANOSECONDS
    return busy


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
