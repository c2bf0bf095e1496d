"""`fastgw demo`: the real command, on free ports, in a directory of its own."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fastgw.config.load import load_config
from fastgw.config.self_tests import run_self_tests
from fastgw.runtime import demo
from fastgw.runtime.demo_requests import SAMPLES
from fastgw.runtime.explain import explain

ROOT = Path(__file__).parents[2]


def free_ports() -> tuple[int, int]:
    """A port for the gateway, and the first of three in a row for the backends."""
    while True:
        with ExitStack() as stack:
            gateway, first = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
            port: int = first.getsockname()[1]
            try:
                for number in (1, 2):
                    stack.enter_context(socket.create_server(("127.0.0.1", port + number)))
            except (OSError, OverflowError):
                continue
            return gateway.getsockname()[1], port


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastgw", "demo", *arguments]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command(*arguments), cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*arguments), cwd=directory, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ports(gateway: int, backends: int) -> tuple[str, ...]:
    return "--port", str(gateway), "--backends-port", str(backends)


def test_the_check_makes_all_requests_and_writes_a_configuration_that_passes_its_own_tests(tmp_path: Path) -> None:
    gateway, backends = free_ports()
    done = run(tmp_path, "--check", *ports(gateway, backends))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS  ") == len(SAMPLES)
    assert f"{len(SAMPLES)} of {len(SAMPLES)} requests passed" in done.stdout
    config = tmp_path / "fastgw-demo.toml"
    assert f'address = "127.0.0.1:{gateway}"' in config.read_text()
    assert all(f"127.0.0.1:{backends + number}" in config.read_text() for number in range(3))
    loaded = load_config(config)
    assert loaded.tests
    assert run_self_tests(loaded, explain) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_curl_commands_work_and_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    gateway, backends = free_ports()
    with running(tmp_path, *ports(gateway, backends)) as process:
        assert process.stdout is not None
        commands: list[str] = []
        while not (line := process.stdout.readline()).startswith("Each request"):
            if line.strip().startswith("curl "):
                commands.append(line.strip())
        assert len(commands) == len(SAMPLES)
        for number, sample in enumerate(SAMPLES):
            # An endless answer is cut off by curl, with its exit status 28.
            bound = " --max-time 1" if sample.endless else ""
            done = subprocess.run(
                ["sh", "-c", commands[number] + bound + " -s"], capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == (28 if sample.endless else 0), (commands[number], done.stderr)
            if sample.size >= 0:
                assert f"{sample.size} bytes" in done.stdout
            else:
                assert all(part in done.stdout for part in sample.holds), (commands[number], done.stdout)
        process.send_signal(signal.SIGINT)
        log, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""
    lines = [json.loads(line) for line in log.splitlines() if line]
    assert [line["status"] for line in lines] == [sample.status for sample in SAMPLES]


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with running(tmp_path, *ports(*free_ports())) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_told_in_a_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    gateway, backends = free_ports()
    for taken in (gateway, backends + 2):
        with socket.create_server(("127.0.0.1", taken)):
            done = run(tmp_path, *ports(gateway, backends))
        assert done.returncode == 1
        assert f"127.0.0.1:{taken}: the port is taken; choose another with --port" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    edited = demo.config_text(18080, 19001).replace('drain_timeout = "2s"', 'drain_timeout = "3s"')
    demo.CONFIG.write_text(edited)
    plan = demo.make_plan()
    assert plan.text is None
    assert plan.snapshot.drain_timeout == 3.0
    assert plan.snapshot.listeners[0].address.port == 18080


def test_an_edited_file_is_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo.CONFIG.write_text("# mine\n" + demo.config_text(8080, 9001))
    with pytest.raises(demo.CannotRun, match="is there already"):
        demo.make_plan(port=8081)


def test_a_file_that_only_differs_in_its_ports_gets_the_ports_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    demo.CONFIG.write_text(demo.config_text(18080, 19001))
    plan = demo.make_plan(port=18081)
    assert plan.text == demo.config_text(18081, 9001)
    assert plan.snapshot.listeners[0].address.port == 18081


def test_a_broken_file_is_refused_with_its_problems(tmp_path: Path) -> None:
    (tmp_path / "fastgw-demo.toml").write_text("[[listeners]]\nadress = 1\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "fastgw-demo.toml:2:1: listeners[1].adress: unknown key" in done.stderr
    assert "move fastgw-demo.toml away" in done.stderr
