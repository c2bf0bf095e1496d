from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from fastgw import cli
from fastgw.config.load import LoadedConfig

ROOT = Path(__file__).parents[1]
GOOD = """
[[listeners]]
address = "127.0.0.1:0"
[upstreams.a]
endpoints = ["127.0.0.1:1"]
[[routes]]
name = "item"
host = "shop.example"
path = "/items/{id}"
methods = ["GET"]
match.headers = { X-Beta = "1" }
upstream = "a"
request.headers.set = { X-Key = "${SECRET}" }
[[routes]]
path = "/status"
respond.body = "ok"
"""
PASSING = '[[tests]]\nrequest = "GET http://h/status"\nexpect = { route = "route-2", status = 200 }\n'
FAILING = '[[tests]]\nrequest = "GET http://h/nothing"\nexpect = { status = 200 }\n'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.toml"
    file.write_text(GOOD, encoding="utf-8")
    return file


def fastgw(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, arguments)


def test_check_says_what_there_is(config: Path) -> None:
    result = fastgw("check", str(config))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{config} is right: 1 listener, 1 upstream, 2 routes, 0 tests\n"


def test_check_finds_the_configuration_in_the_current_directory(config: Path) -> None:
    assert fastgw("check").stdout.startswith("config.toml is right")


def test_check_runs_the_tests(config: Path) -> None:
    config.write_text(GOOD + PASSING, encoding="utf-8")
    assert fastgw("check").stdout == "config.toml is right: 1 listener, 1 upstream, 2 routes, 1 test passed\n"


def test_check_fails_with_its_tests(config: Path) -> None:
    config.write_text(GOOD + FAILING, encoding="utf-8")
    result = fastgw("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("config.toml:19:21: tests[1].expect.status: expected status 200, got 404; ")
    assert result.stderr.endswith("\n1 problem in config.toml\n")


def test_check_prints_all_problems_and_their_number(config: Path) -> None:
    config.write_text(GOOD + "[server]\nworkers = 0\nx = 1\n", encoding="utf-8")
    result = fastgw("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        'config.toml:18:11: server.workers: 0 is not a number of processes; write "auto" or a whole number, 1 or more',
        "config.toml:19:1: server.x: unknown key; "
        "known here: workers, pin_workers, hang_timeout, watch, canary, drain_timeout, trusted_proxies",
        "2 problems in config.toml",
    ]


def test_check_gives_problems_to_programs(config: Path) -> None:
    config.write_text(GOOD + "[server]\nworker = 1\n", encoding="utf-8")
    (problem,) = json.loads(fastgw("check", "--json").stdout)["problems"]
    assert problem == {
        "file": "config.toml",
        "line": 18,
        "column": 1,
        "path": "server.worker",
        "message": "unknown key",
        "suggestion": 'did you mean "workers"?',
    }


@pytest.mark.parametrize("command", ["run", "check", "routes"])
def test_without_a_configuration_the_places_are_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "DEFAULT_CONFIGS", (tmp_path / "a.toml", tmp_path / "b.toml"))
    result = fastgw(command)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"there is no {tmp_path}/a.toml and no {tmp_path}/b.toml; ")


@pytest.mark.parametrize("command", ["run", "check", "routes"])
def test_no_mistake_with_files_gives_a_traceback(command: str, tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none.toml", binary, binary / "below"):
        result = fastgw(command, str(path))
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"1 problem in {path}")


def test_wrong_usage_exits_with_2(config: Path) -> None:
    for arguments in (
        ["chek"],
        ["check", "--jsn"],
        ["explain", "GET"],
        ["explain", "GET", "http:///"],
        ["schema", "x"],
    ):
        assert fastgw(*arguments).exit_code == 2
    assert fastgw("explain", "GET", "http://h/", "-H", "no colon").exit_code == 2


def test_routes_are_printed_in_the_order_of_matching(config: Path) -> None:
    assert fastgw("routes").stdout == (
        "HOST          PATH         METHODS  CONDITIONS           GOES TO      NAME\n"
        'shop.example  /items/{id}  GET      header X-Beta = "1"  a            item\n'
        "*             /status      any      -                    respond 200  route-2\n"
    )


def test_routes_are_given_to_programs(config: Path) -> None:
    assert json.loads(fastgw("routes", "--json").stdout)[0] == {
        "host": "shop.example",
        "path": "/items/{id}",
        "methods": ["GET"],
        "conditions": ['header X-Beta = "1"'],
        "goes_to": "a",
        "name": "item",
    }


def test_routes_tell_all_kinds_of_goals_and_conditions(config: Path) -> None:
    config.write_text(
        GOOD
        + '[upstreams.b]\nendpoints = ["h:1"]\n'
        + '[[routes]]\npath = "/s"\nupstream = [{ upstream = "a", weight = 95 }, { upstream = "b", weight = 5 }]\n'
        + 'match.query = { v = "~[0-9]+" }\nmatch.cookies = { s = "absent" }\n'
        + '[[routes]]\npath = "/r/{id}"\nredirect = { to = "/q/{id}", status = 302 }\n',
        encoding="utf-8",
    )
    rows = {row["name"]: row for row in json.loads(fastgw("routes", "--json").stdout)}
    assert rows["route-3"]["goes_to"] == "a 95%, b 5%"
    assert rows["route-3"]["conditions"] == ['query v ~ "[0-9]+"', "cookie s absent"]
    assert rows["route-4"]["goes_to"] == "redirect 302 to /q/{id}"


def test_explain_tells_the_steps_and_what_comes_out(config: Path) -> None:
    result = fastgw("explain", str(config), "GET", "http://shop.example/items/7", "-H", "X-Beta: 1")
    assert result.exit_code == 0
    assert result.stdout.startswith("GET http://shop.example/items/7\n  ")
    assert "\n=> route item, upstream a, path /items/7\n" in result.stdout


def test_explain_prints_no_secret(config: Path) -> None:
    arguments = ("explain", "GET", "http://shop.example/items/7", "-H", "X-Beta: 1")
    for output in (fastgw(*arguments).stdout, fastgw(*arguments, "--json").stdout):
        assert "X-Key: ${SECRET}" in output
        assert "hunter2" not in output


def test_explain_is_given_to_programs(config: Path) -> None:
    explained = json.loads(fastgw("explain", "GET", "http://h/status", "--json").stdout)
    assert (explained["route"], explained["status"], explained["upstream"]) == ("route-2", 200, None)
    assert set(explained["steps"][0]) == {"name", "verdict", "code", "reason", "considered", "holds"}


def test_the_schema_is_json_with_descriptions_and_no_class_names() -> None:
    schema = json.loads(fastgw("schema").stdout)
    assert schema["additionalProperties"] is False
    upstream = schema["$defs"]["Upstream"]["properties"]["connect_timeout"]
    assert upstream["default"] == "2s"
    assert upstream["description"] == "For a connection to be made."
    assert '"title"' not in json.dumps(schema["$defs"])
    assert "null" not in json.dumps(schema)


def test_run_hands_the_loaded_configuration_to_the_supervisor(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, str]] = []

    def run(path: Path, loaded: LoadedConfig) -> int:
        seen.append((path, loaded.snapshot.routes[0].name))
        return 3

    supervisor = ModuleType("fastgw.runtime.supervisor")
    supervisor.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastgw.runtime.supervisor", supervisor)
    monkeypatch.setattr("fastgw.runtime.supervisor", supervisor, raising=False)
    assert fastgw("run", str(config)).exit_code == 3
    assert seen == [(config, "item")]


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECRET": "hunter2"}
    command = [sys.executable, "-m", "fastgw", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


def test_the_version_names_what_a_bug_report_needs() -> None:
    result = in_a_process("--version")
    assert result.returncode == 0
    assert result.stdout.startswith(f"fastgw 0.1.0, Python {sys.version.split()[0]} (uvloop ")
    assert result.stdout.rstrip().endswith(("hot path: interpreted", "hot path: compiled"))


def test_the_version_needs_neither_the_configuration_nor_the_network() -> None:
    code = "import sys\nfrom fastgw.cli import version_line\nversion_line()\n"
    code += "print([name for name in ('pydantic', 'asyncio', 'uvloop', 'tree_sitter') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"


def test_bad_configurations_exit_with_1_and_say_so_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("a = \n", encoding="utf-8")
    result = in_a_process("run", str(file))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{file}:1:5: not valid TOML: invalid value\n1 problem in {file}\n"


@pytest.mark.parametrize("command", ["schema", f"routes {ROOT / 'config.toml'}"])
def test_a_reader_that_leaves_early_gives_no_traceback(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "fastgw", *command.split()]
    result = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, env=environment, check=False, timeout=60)
    os.close(write)
    assert result.stderr == b""


# diff.


def lines_of(*paths: str) -> str:
    return "".join(json.dumps({"method": "GET", "host": "shop.example", "path": path}) + "\n" for path in paths)


@pytest.fixture
def other(config: Path) -> Path:
    file = config.with_name("other.toml")
    file.write_text(GOOD.replace('path = "/status"', 'path = "/state"'), encoding="utf-8")
    return file


def test_diff_has_the_statuses_of_diff(config: Path, other: Path) -> None:
    same = fastgw("diff", str(config), str(config))
    assert (same.exit_code, same.stdout, same.stderr) == (0, "no differences\n", "")
    different = fastgw("diff", str(config), str(other))
    assert (different.exit_code, different.stdout) == (1, '~ routes route-2\n~     path = "/status" -> "/state"\n')
    assert fastgw("diff", str(config)).exit_code == 2


def test_diff_says_which_file_is_wrong(config: Path, other: Path) -> None:
    other.write_text(GOOD + "[server]\nworkers = 0\n", encoding="utf-8")
    result = fastgw("diff", str(config), str(other))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{other}:18:11: server.workers: 0 is not a number of processes; ")
    assert result.stderr.endswith(f"\n1 problem in {other}\n")
    result = fastgw("diff", "none.toml", str(other), "--json")
    assert [problem["file"] for problem in json.loads(result.stdout)["problems"]] == ["none.toml", str(other)]
    assert result.exit_code == 2


def test_diff_walks_a_log_through_both(config: Path, other: Path) -> None:
    log = config.with_name("access.jsonl")
    log.write_text(lines_of("/status", "/items/7") + "broken\n", encoding="utf-8")
    result = fastgw("diff", str(config), str(other), "--log", str(log))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2:] == [
        "log: 2 requests, 1 of them treated differently",
        "  1 request: route route-2 -> none, status 200 -> 404 no-route",
        '      line 1: {"method": "GET", "host": "shop.example", "path": "/status"}',
        "log: 1 lines could not be read: they are no JSON lines of requests",
        "log: it does not hold the headers or cookies that these routes look at: item",
    ]
    found = json.loads(fastgw("diff", str(config), str(other), "--log", str(log), "--json").stdout)["log"]
    assert (found["lines"], found["walked"], found["differing"], found["unreadable"]) == (3, 2, 1, 1)


def test_diff_says_when_a_log_is_of_no_use(config: Path) -> None:
    log = config.with_name("access.log")
    log.write_text('192.0.2.1 - - [x] "GET / HTTP/1.1" 200 1 "-" "-"\n', encoding="utf-8")
    result = fastgw("diff", str(config), str(config), "--log", str(log))
    assert result.exit_code == 2
    assert result.stderr == f"no line of {log} is one of a request, as the access log has them in JSON\n"
    gone = fastgw("diff", str(config), str(config), "--log", "none.jsonl")
    assert (gone.exit_code, gone.stderr) == (2, "none.jsonl: can't be read: No such file or directory\n")


def test_diff_prints_no_secret(config: Path, other: Path) -> None:
    other.write_text(GOOD.replace("${SECRET}", "x${SECRET}").replace("X-Key", "Authorization"), encoding="utf-8")
    for options in ([], ["--json"]):
        printed = fastgw("diff", str(config), str(other), *options).stdout
        assert "${SECRET}" in printed
        assert "hunter2" not in printed


def test_the_real_command_takes_a_log_from_its_standard_input(config: Path, other: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECRET": "hunter2"}
    command = [sys.executable, "-m", "fastgw", "diff", str(config), str(other), "--log", "-"]
    log = lines_of(*["/status"] * 500)
    done = subprocess.run(command, input=log, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert "  500 requests: route route-2 -> none, status 200 -> 404 no-route\n" in done.stdout
