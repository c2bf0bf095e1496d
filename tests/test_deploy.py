"""The examples in fastgw/deploy fit the program, and their figures each other."""

from __future__ import annotations

import configparser
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fastgw.cli import cli
from fastgw.config.load import load_text
from fastgw.runtime.explain import explain
from fastgw.snapshot import Snapshot
from tests.support.programs import program

DEPLOY = Path(__file__).parents[1] / "fastgw" / "deploy"
# Past drain_timeout, for the last words of workers.
LAST_WORDS_S = 5.0
(DRAIN_TIMEOUT_S,) = [field.default for field in dataclasses.fields(Snapshot) if field.name == "drain_timeout"]


def is_a_command(words: list[str]) -> bool:
    """Whether the program knows the command and its arguments."""
    name = Path(words[0]).name
    usage = CliRunner().invoke(cli, [*words[1:], "--help"])
    return name == "fastgw" and words[1] in cli.commands and usage.exit_code == 0


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / name).read_text())
    return parser


def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    for name in ("fastgw.service", "fastgw.socket"):
        # It wants the programs to be there.
        text = re.sub(r"/opt/fastgw/bin/fastgw", sys.executable, (DEPLOY / name).read_text())
        (tmp_path / name).write_text(text)
    for name in ("fastgw.service", "fastgw.socket"):
        verified = subprocess.run(
            [analyze, "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert [line for line in verified.stderr.splitlines() if line.startswith(("fastgw", str(tmp_path)))] == []


def test_the_unit_calls_commands_that_exist_and_gives_them_time() -> None:
    service = unit("fastgw.service")["Service"]
    assert service["Type"] == "notify"
    for key in ("ExecStartPre", "ExecStart", "ExecReload"):
        assert is_a_command(shlex.split(service[key])), key
    assert float(service["TimeoutStopSec"].removesuffix("s")) >= DRAIN_TIMEOUT_S + LAST_WORDS_S


def documents() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture
def pod() -> Any:
    return documents()["Deployment"]["spec"]["template"]


@pytest.fixture
def container(pod: Any) -> Any:
    (only,) = pod["spec"]["containers"]
    return only


@pytest.fixture
def snapshot() -> Snapshot:
    loaded = load_text(documents()["ConfigMap"]["data"]["config.toml"])
    assert not loaded.warnings
    return loaded.snapshot


def test_a_pod_has_time_to_leave(pod: Any, container: Any, snapshot: Snapshot) -> None:
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert grace >= float(seconds) + snapshot.drain_timeout + LAST_WORDS_S


def test_the_probes_ask_what_is_there(container: Any, snapshot: Snapshot) -> None:
    (port,) = container["ports"]
    (listener,) = snapshot.listeners
    assert (listener.address.host, listener.address.port) == ("0.0.0.0", port["containerPort"])
    for probe in ("startupProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert explain(snapshot, "GET", f"http://10.0.0.1:8080{asked['path']}", []).status == 200
    assert is_a_command(container["livenessProbe"]["exec"]["command"])


def test_the_names_in_the_manifests_fit(pod: Any, container: Any) -> None:
    found = documents()
    labels = pod["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert [port["targetPort"] for port in found["Service"]["spec"]["ports"]] == [container["ports"][0]["name"]]
    (volume,) = pod["spec"]["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    path = container["livenessProbe"]["exec"]["command"][-1]
    assert path == f"{mount['mountPath']}/{next(iter(found['ConfigMap']['data']))}"


def test_the_image_copies_what_is_there_and_runs_what_exists() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    for word, rest in instructions:
        if word == "COPY" and not rest.startswith("--from"):
            assert all((DEPLOY.parents[1] / source).exists() for source in rest.split()[:-1]), rest
    told = dict(instructions)
    assert is_a_command(json.loads(told["ENTRYPOINT"]) + json.loads(told["CMD"]))
    assert is_a_command(json.loads(told["HEALTHCHECK"].split("CMD ")[1]))
    assert told["STOPSIGNAL"] == "SIGTERM"


def test_the_image_has_all_that_a_configuration_may_ask_for() -> None:
    extras = set(tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    (installed,) = re.findall(r"'/src\[(.*)\]'", (DEPLOY / "Dockerfile").read_text())
    assert set(installed.split(",")) == extras - {"test"}
