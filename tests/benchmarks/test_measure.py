"""Reading /proc, on this very process and a child of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks import measure

pytestmark = pytest.mark.skipif(not measure.PROC.joinpath("self/schedstat").exists(), reason="needs Linux's /proc")


@pytest.fixture
def child() -> Iterator[int]:
    """A process that does nothing until its input ends."""
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # now it is up
        yield process.pid
        process.communicate()


def test_the_tree_holds_a_process_and_its_descendants(child: int) -> None:
    tree = measure.process_tree(os.getpid())
    assert tree[0] == os.getpid()
    assert child in tree


def test_a_process_that_is_gone_has_no_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert measure.process_tree(process.pid) == []
    assert measure.memory(process.pid) == measure.Memory(0, 0)


def test_memory_is_shared_out_among_those_who_use_it(child: int) -> None:
    used = measure.memory(child)
    assert 0 < used.proportional_bytes <= used.resident_bytes


def test_an_idle_process_spends_next_to_nothing(child: int) -> None:
    spent = measure.CpuWindow(child, [0]).close()
    assert spent.ended == ()
    assert 0 <= spent.nanoseconds < 1_000_000_000


def test_cpu_time_is_told_by_process(child: int) -> None:
    window = measure.CpuWindow(os.getpid(), [0])
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    spent = window.close()
    assert spent.by_process[os.getpid()] > 15_000_000
    assert spent.by_process[child] < spent.by_process[os.getpid()]
    assert sum(spent.by_process.values()) == spent.nanoseconds


def test_a_process_with_nothing_to_do_has_settled(child: int) -> None:
    assert measure.settled(child, 10.0)


def test_a_process_that_is_busy_has_not_settled() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            assert not measure.settled(process.pid, 0.3)
        finally:
            process.kill()


def test_processes_are_found_by_their_name(child: int) -> None:
    name = measure.PROC.joinpath(str(child), "comm").read_text().strip()
    assert child in measure.named(os.getpid(), name)
    assert measure.named(os.getpid(), "no such name") == []
