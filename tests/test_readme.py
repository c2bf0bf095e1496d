"""The README says what the code does: quick start, configuration, failures, log fields, and a life of a request."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import tomllib
import typing
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fastgw import errors
from fastgw.cli import cli
from fastgw.config import access_log, admin, discovery, mirror, resilience, schema, sticky, tracing
from fastgw.config.load import load_text
from fastgw.config.patterns import METHODS
from fastgw.config.problems import toml_text
from fastgw.config.table_diff import Change
from fastgw.errors import Failure
from fastgw.policy.access_log import FIELDS
from fastgw.runtime.explanation import Explanation, Step
from fastgw.runtime.log_replay import Group, Replayed
from fastgw.snapshot import Limits

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Where each table of the configuration is described: the text before its table in the README.
DESCRIBED: dict[type[BaseModel], str] = {
    schema.Server: "### `[server]`",
    schema.Listener: "### `[[listeners]]`",
    schema.ListenerTls: "### `[listeners.tls]`",
    schema.CertificatePair: "The certificates' tables:",
    schema.Hsts: "\n`hsts` as a table:",
    schema.Limits: "### `[listeners.limits]`",
    schema.Acme: "### `[acme]`",
    schema.ExternalAccount: "\n`external_account` as a table:",
    admin.Admin: "### `[admin]`",
    tracing.Tracing: "### `[tracing]`",
    tracing.RouteTracing: "A route's `tracing` as a table:",
    access_log.AccessLog: "### `[access_log]`",
    access_log.Redact: "\n`redact` as a table:",
    access_log.Syslog: "\n`syslog` as a table:",
    access_log.RouteLog: "A route's `log` as a table:",
    schema.Upstream: "### `[upstreams.NAME]`",
    discovery.Discover: "#### Discovery",
    sticky.Sticky: "#### Sticky sessions",
    schema.Endpoint: "Endpoints as tables:",
    schema.UpstreamTls: "\n`tls` as a table:",
    resilience.Health: "`health` checks each endpoint",
    resilience.Outliers: "`outliers` looks at the answers",
    resilience.Retry: "#### Retries",
    resilience.Hedge: "`hedge` is a second try",
    resilience.RouteRetry: "A route's `retry` as a table:",
    resilience.Breaker: "`breaker` refuses requests",
    resilience.Concurrency: "`concurrency` refuses with 503",
    schema.Route: "### `[[routes]]`",
    schema.Match: "`match`: for each name",
    schema.Split: "The parts of a split:",
    sticky.SplitChoice: "\n`split`: a part",
    mirror.Mirror: "#### Mirroring",
    mirror.Compare: "`compare` looks at status",
    schema.Respond: "\n`respond`:",
    schema.Redirect: "\n`redirect`:",
    schema.Rewrite: "\n`rewrite`:",
    schema.HeaderEdits: "`request.headers` and `response.headers`; names",
    schema.Defaults: "### `[defaults]`",
    schema.Test: "### `[[tests]]`",
    schema.TestRequest: "The request as a table:",
    schema.Expect: "\n`expect`:",
}
# Tables of a single key, which are described where they are used.
INSIDE = (schema.MessageEdits, schema.DefaultEdits, schema.DefaultRewrite)
# Too long for a cell.
DEFAULT_DESCRIBED = {(access_log.AccessLog, "fields")}


def table_after(mark: str) -> list[list[str]]:
    """The cells of the first table after a text, without its two head lines."""
    assert README.count(mark) == 1, f"{mark!r} is there {README.count(mark)} times"
    lines = README.split(mark)[1].split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows[2:]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def quick_start() -> list[str]:
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", section, re.S) for line in block.splitlines() if line]


# The quick start.


def test_the_quick_start_has_two_command_lines() -> None:
    demo, checks = quick_start()
    assert demo.endswith("fastgw demo")
    assert checks.endswith("python -m tests")
    for line in (demo, checks):
        # Each sets everything up by itself.
        assert line.startswith("python3 -m venv .venv && ")
        assert "pip install" in line


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    found = re.search(r"command=\$\((awk .*)\)\n", script)
    assert found is not None
    done = subprocess.run(["sh", "-c", found.group(1)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == quick_start()[1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)


def test_the_smallest_configuration_works() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        assert load_text(block).snapshot.routes


def test_links_inside_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.M)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert [link for link in re.findall(r"\]\(#([^)]*)\)", README) if link not in anchors] == []
    files = [link for link in re.findall(r"\]\(([^)#]*)\)", README) if "://" not in link]
    assert [link for link in files if not (ROOT / link).is_file()] == []


# The configuration.


def described_tables() -> set[type[BaseModel]]:
    """All tables of the language, by walking it from its top."""
    found: set[type[BaseModel]] = set()

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found.add(annotation)
                for field in annotation.model_fields.values():
                    walk(field.annotation)
            return
        for part in typing.get_args(annotation):
            walk(part)

    walk(schema.Config)
    return found - {schema.Config, *INSIDE}


def inner_table(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if annotation in INSIDE else None
    return next((found for part in typing.get_args(annotation) if (found := inner_table(part))), None)


def keys_with_defaults(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a table, and what the README gives as their defaults."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = inner_table(field.annotation)
        if inner is not None:
            keys |= {f"{name}.{key}": default for key, default in keys_with_defaults(inner).items()}
        elif field.default_factory is not None:
            keys[field.alias or name] = "below"
        elif field.default is PydanticUndefined:
            keys[field.alias or name] = "required"
        else:
            keys[field.alias or name] = "none" if field.default is None else f"`{toml_text(field.default)}`"
    return keys


def test_every_table_of_the_language_is_described() -> None:
    assert described_tables() == set(DESCRIBED)
    for key in schema.Config.model_fields:
        assert re.search(rf"`\[+{key}[.\]]", README), f"{key} is nowhere in the README"


@pytest.mark.parametrize("model", list(DESCRIBED), ids=lambda model: model.__name__)
def test_every_key_is_described_with_its_default(model: type[BaseModel]) -> None:
    written = {code(row[0])[0]: row[1] for row in table_after(DESCRIBED[model])}
    expected = keys_with_defaults(model)
    for _, key in filter(lambda pair: pair[0] is model, DEFAULT_DESCRIBED):
        expected[key] = written[key]
    assert written == expected


def test_the_defaults_of_the_snapshot_are_those_of_the_language() -> None:
    text = '[[listeners]]\naddress = "127.0.0.1:8080"\n[upstreams.a]\nendpoints = ["127.0.0.1:1"]\n'
    snapshot = load_text(text + '[[routes]]\nupstream = "a"\n').snapshot
    assert snapshot.listeners[0].limits == Limits()
    upstream = snapshot.upstreams["a"]
    assert upstream == type(upstream)(upstream.name, upstream.endpoints)
    listener = snapshot.listeners[0]
    assert listener == type(listener)(listener.name, listener.address)


def test_the_example_names_every_setting() -> None:
    example = (ROOT / "config.toml").read_text(encoding="utf-8")
    tomllib.loads(example)
    for model in (schema.Server, schema.Limits, access_log.AccessLog, schema.Upstream):
        assert [key for key in model.model_fields if not re.search(rf"^(# )?{key} = ", example, re.M)] == []


# Methods, failures, log fields, commands.


def test_the_methods_are_those_of_the_parser() -> None:
    section = README.split("\n## Methods\n")[1].split("\n## ")[0]
    known = section.split("It knows:")[1].split("Not supported")[0]
    assert code(known) == list(METHODS)


def test_the_failures_are_those_of_the_code() -> None:
    in_code = {(one.reason, str(one.status)) for one in vars(errors).values() if isinstance(one, Failure)}
    in_readme = [(code(row[0])[0], row[1]) for row in table_after("\n## Failures\n")]
    assert len(in_readme) == len(set(in_readme))
    unused = {("draining", "503")}
    assert set(in_readme) == in_code - unused


def test_the_log_fields_are_those_of_the_code() -> None:
    in_readme = [code(row[0])[0] for row in table_after("\n## Access log\n")]
    named = [f"{kind}:NAME" for kind in access_log.KINDS]
    assert in_readme == [*access_log.FIELDS, *named]
    assert sorted(access_log.FIELDS) == sorted(FIELDS)
    assert in_readme[:15] == access_log.DEFAULT_FIELDS


def test_the_commands_and_their_options_are_those_of_the_program() -> None:
    in_readme = {code(row[0])[0].split()[1]: code(row[0])[0] for row in table_after("\n## Commands\n")}
    assert set(in_readme) - {"--version"} == set(cli.commands)
    for name, command in cli.commands.items():
        options = [option for option in command.params if isinstance(option, click.Option)]
        for option in options:
            assert any(form in in_readme[name] for form in option.opts), f"{name} {option.opts}"


# A life of a request.


@cache
def functions(file: str) -> frozenset[str]:
    """The functions of a file, methods as Class.method."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in tree.body if isinstance(node, kinds)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, kinds)}
    return frozenset(found)


@pytest.mark.parametrize("row", table_after("\n## A life of a request\n"), ids=lambda row: row[0][:40])
def test_every_step_of_a_request_is_where_the_readme_says(row: list[str]) -> None:
    _, file, names = row
    assert [name for name in code(names) if name not in functions(code(file)[0])] == []


def test_what_else_the_page_names_is_there() -> None:
    section = README.split("\n## A life of a request\n")[1].split("\n## ")[0]
    prose = section.split("Ways off the line:")[1]
    known = set().union(*(functions(file.relative_to(ROOT).as_posix()) for file in ROOT.glob("fastgw/**/*.py")))
    for name in code(prose):
        if "/" in name:
            assert (ROOT / name).is_file()
        elif "." in name or name == "canned":
            assert name in known


def test_every_layer_is_in_the_picture() -> None:
    picture = README.split("\n## Architecture\n")[1].split("```")[1]
    for path in (ROOT / "fastgw").iterdir():
        # `demo` and `deploy` are data.
        if path.name.startswith("_") or path.name in ("demo", "deploy", "py.typed") or path.suffix not in ("", ".py"):
            continue
        assert (path.name + "/" if path.is_dir() else path.name) in picture


def test_there_is_a_place_for_the_benchmarks() -> None:
    assert README.count("<!-- benchmarks -->") == 1


# Commands.


def test_the_json_of_explain_and_diff_is_described() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "fastgw/runtime").glob("explain*.py"))
    )
    steps = next(row[1] for row in table_after("### Explain") if row[0] == "`steps`")
    assert set(code(steps)) == set(re.findall(r'Step\(\s*"([a-z ]+)"', sources))
    described = {name for row in table_after("### Explain") for name in code(row[0])}
    assert {field.name for field in dataclasses.fields(Explanation)} <= described
    assert {f"steps[].{field.name}" for field in dataclasses.fields(Step)} >= {
        name.removesuffix("[]") for name in described if name.startswith("steps[].")
    }
    diff = " ".join(cell for row in table_after("The JSON of `--json`:") for cell in row)
    for part in (Replayed, Group, Change):
        assert [field.name for field in dataclasses.fields(part) if f"`{field.name}`" not in diff] == []
