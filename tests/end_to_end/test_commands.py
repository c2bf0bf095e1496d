"""`fastgw reload` and `fastgw status`, asked of a running gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.observe import eventually
from tests.support.tls import Authority
from tests.test_cli import fastgw


def config(body: str) -> str:
    return f"""
        [server]
        workers = 2

        [[listeners]]
        name = "public"
        address = "{LISTEN}"

        [[routes]]
        path = "/here"
        respond = {{ body = "{body}" }}
    """


def test_reload_says_how_it_ended(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        gateway.rewrite(config("two"))
        done = fastgw("reload", str(gateway.config_path))
        assert (done.exit_code, done.stdout) == (0, f"reload done: {gateway.config_path} is in force\n")
        with Client(gateway.address) as client:
            assert client.ask(get(b"/here")).body == b"two"
        gateway.rewrite(config("three") + "colour = 1\n")
        refused = fastgw("reload", str(gateway.config_path))
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "colour: unknown key" in refused.stderr
        assert refused.stderr.endswith("the configuration from before goes on\n")
        answer = json.loads(fastgw("reload", str(gateway.config_path), "--json").stdout)
        assert (answer["outcome"], answer["number"]) == ("refused", 3)


def test_status_tells_of_workers_traffic_and_events(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(get(b"/here")).status == 200
        assert client.ask(get(b"/nowhere")).status == 404
        gateway.command("reload")
        state = json.loads(fastgw("status", str(gateway.config_path), "--json").stdout)
        assert state["is_serving"]
        assert (state["pid"], state["config"]) == (gateway.pid, str(gateway.config_path))
        assert state["listeners"] == [{"name": "public", "address": f"127.0.0.1:{gateway.port}"}]
        assert sorted(worker["pid"] for worker in state["workers"]) == sorted(gateway.worker_pids())
        (busy,) = [worker for worker in state["workers"] if worker["accepted"]]
        assert (busy["accepted"], busy["connections"]) == (1, 1)
        assert busy["exchanges"] == {"none": 0, "1xx": 0, "2xx": 1, "3xx": 0, "4xx": 1, "5xx": 0}
        assert [event["kind"] for event in state["events"]] == ["reload"]
        text = fastgw("status", str(gateway.config_path)).stdout
        assert f"public on 127.0.0.1:{gateway.port}" in text
        assert "1 of 1 connection open; 1 2xx, 1 4xx" in text
        assert "0 of 0 connections open; no exchanges" in text
        assert "event 1: reload done at" in text


def test_status_counts_failed_handshakes(tmp_path: Path) -> None:
    Authority(tmp_path).issue("a", "a.test")
    tls = f'''address = "{LISTEN}"
        tls.certificates = [{{ cert = "a.pem", key = "a.key" }}]'''
    with GatewayProcess(config("one").replace(f'address = "{LISTEN}"', tls), tmp_path) as gateway:
        with Client(gateway.address) as client:
            client.send(b"\x16\x03\x01\x00\x05hello")
            client.read_to_end()
        state = json.loads(fastgw("status", str(gateway.config_path), "--json").stdout)
        assert sum(worker["failed_handshakes"] for worker in state["workers"]) == 1
        assert "; 1 failed handshake\n" in fastgw("status", str(gateway.config_path)).stdout


def test_status_fails_while_a_worker_is_missing(tmp_path: Path) -> None:
    with GatewayProcess(config("one"), tmp_path) as gateway:
        assert eventually(lambda: len(gateway.children("fastgw-standby")) == 1)
        assert fastgw("status", str(gateway.config_path)).exit_code == 0
        for pid in gateway.children("fastgw-standby"):
            os.kill(pid, signal.SIGSTOP)
        for pid in gateway.worker_pids()[:1]:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: fastgw("status", str(gateway.config_path)).exit_code == 1)
        for pid in gateway.children("fastgw-standby"):
            os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: fastgw("status", str(gateway.config_path)).exit_code == 0)


def test_where_no_gateway_runs_the_commands_say_so(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config("one"))
    for command in ("reload", "upgrade", "status"):
        result = fastgw(command, str(path))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"no gateway runs with {path}; start it: fastgw run {path}\n"


def test_a_second_gateway_with_the_same_configuration_says_that_it_can_t_be_asked(tmp_path: Path) -> None:
    text = config("one").replace(LISTEN, "127.0.0.1:0")
    with GatewayProcess(text, tmp_path) as gateway:
        command = [sys.executable, "-m", "fastgw", "run", str(gateway.config_path)]
        with subprocess.Popen(command, env=gateway.environment, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert "another gateway runs with" in second.stderr.readline()
            assert "serving" in second.stderr.readline()
            second.terminate()
            assert second.wait(20) == 0
        assert json.loads(gateway.command("status").stdout)["pid"] == gateway.pid
