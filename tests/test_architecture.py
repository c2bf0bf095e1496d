"""Imports only go down, hot code stays free of what is slow or cold, and every source file has its test."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastgw"
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))

# Each layer, and what it may import beside itself.
BELOW: dict[str, tuple[str, ...]] = {
    "__init__": (),
    "errors": (),
    "counters": ("errors",),
    "rows": ("counters",),
    "window": (),
    "http1": ("errors",),
    "policy": ("errors", "http1", "window", "counters", "rows"),
    "snapshot": ("errors", "http1", "policy"),
    "ports": ("errors", "http1", "policy", "snapshot"),
    "tracing": ("errors", "http1", "policy", "snapshot", "ports"),
    "gateway": ("errors", "http1", "policy", "snapshot", "ports", "tracing"),
    "identification": ("errors", "http1", "policy", "snapshot", "ports", "tracing", "gateway"),
    "exchange": ("errors", "http1", "policy", "snapshot", "ports", "tracing", "gateway", "identification"),
    "hedging": ("errors", "http1", "policy", "snapshot", "ports", "tracing", "gateway", "identification", "exchange"),
    "net": (
        *("errors", "http1", "policy", "snapshot", "ports", "gateway", "identification", "exchange", "hedging"),
        *("counters", "rows", "tracing"),
    ),
    # Cold, and beside the line: what it makes is a snapshot.
    "config": ("errors", "http1", "policy", "snapshot"),
    "runtime": (
        *(
            "errors",
            "http1",
            "policy",
            "snapshot",
            "ports",
            "tracing",
            "gateway",
            "identification",
            "exchange",
            "hedging",
            "counters",
            "rows",
            "net",
            "config",
        ),
        "__init__",
    ),
    "cli": ("errors", "config", "runtime", "__init__"),
    "__main__": ("cli",),
}
HOT_WITHOUT_IO = (
    "errors",
    "window",
    "http1",
    "policy",
    "snapshot",
    "ports",
    "tracing",
    "gateway",
    "identification",
    "exchange",
    "hedging",
    "counters",
    "rows",
)

# Arrows that point up, for the type checker alone.
UP_FOR_TYPES = {
    ("fastgw/identification.py", "fastgw.exchange"): "it is a step of an exchange",
    ("fastgw/ports.py", "fastgw.exchange"): "both sides call the exchange back, and the exchange calls them",
    ("fastgw/policy/access_log.py", "fastgw.exchange"): "a line is made of an exchange",
    ("fastgw/policy/kind.py", "fastgw.exchange"): "it is exchanges that have one",
    ("fastgw/policy/log_rule.py", "fastgw.exchange"): "it is about ended ones",
    ("fastgw/policy/log_filter.py", "fastgw.exchange"): "as log_rule",
    ("fastgw/tracing.py", "fastgw.exchange"): "it is exchanges that are traced",
}

# What only some may import, by the first part of its name.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "asyncio": ("net", "runtime"),
    "socket": ("net", "runtime"),
    "select": ("net", "runtime"),
    "selectors": ("net", "runtime"),
    # config tries out what files hold, so that a wrong one is told with its place.
    "ssl": ("net", "runtime", "config"),
    "uvloop": ("net", "runtime"),
    "threading": ("net", "runtime"),
    "subprocess": ("runtime",),
    "httptools": ("http1",),
    "pydantic": ("config",),
    "pydantic_core": ("config",),
    "tree_sitter": ("config",),
    "tree_sitter_toml": ("config",),
    "tomllib": ("config",),
    "click": ("cli", "runtime"),
    # Only who uses ACME has them: runtime.acme_* is a process of its own, and config makes a stand-in.
    "aiodns": ("runtime",),
    "acme": ("runtime",),
    "josepy": ("runtime",),
    "requests": ("runtime",),
    "cryptography": ("config", "runtime"),
    "starlette": ("runtime",),
    "uvicorn": ("runtime",),
    # 7 µs a line: the access log and runtime.report are there.
    "logging": (),
}
# Code without I/O is told the time, and is given what is random.
TOLD = ("time", "datetime", "random", "secrets", "os")
MAY_ASK_ALL_THE_SAME = {
    ("fastgw/policy/access_log.py", "time"): "to write a time down, not to learn it",
}

# Files of policy that belong together; all others never import each other.
FAMILIES = (
    {"router", "router_trie", "router_compile"},
    {"balancer", "peak_ewma", "maglev"},
    {"sticky", "sticky_cookie", "arms"},
    {"access_log", "log_rule", "redaction", "kind"},
    {"metrics", "kind"},
)

# What the workers must not even load: the configuration language, and what only people use.
NEVER_IN_A_WORKER = (
    *("pydantic", "tree_sitter", "tree_sitter_toml", "tomllib", "click", "fastgw.config", "fastgw.cli"),
    *("aiodns", "acme", "josepy", "requests", "cryptography", "starlette", "uvicorn"),
)

LINES_MAX = 400
LONGER = {
    "fastgw/net/downstream.py": "one state machine: the reading half, the writing half, splices and tunnels share it",
    "fastgw/net/upstream.py": "one state machine, as downstream",
    "fastgw/exchange.py": "the straight line from top to bottom is there to be seen in one place",
}

# Source files whose tests are not where the names say; `tests/policy/test_router.py` is for policy/router.py.
_BAD_CONFIGS = "tests/config/test_load.py"
_RAW_BYTES = "tests/end_to_end/test_vectors.py"
TESTED_IN: dict[str, str] = {
    "fastgw/counters.py": "tests/runtime/test_shared_memory.py",
    "fastgw/runtime/admin.py": "tests/end_to_end/test_admin.py",
    "fastgw/runtime/admin_server.py": "tests/end_to_end/test_admin.py",
    "fastgw/runtime/overview.py": "tests/end_to_end/test_top.py",
    "fastgw/runtime/terminal.py": "tests/end_to_end/test_top.py",
    "fastgw/runtime/admin_gate.py": "tests/end_to_end/test_admin.py",
    "fastgw/runtime/metrics.py": "tests/end_to_end/test_metrics.py",
    "fastgw/runtime/canary.py": "tests/end_to_end/test_canary.py",
    # What they do is seen from outside.
    "fastgw/runtime/handover.py": "tests/end_to_end/test_program_upgrade.py",
    "fastgw/runtime/process.py": "tests/regression/test_supervisor.py",
    "fastgw/runtime/reloads.py": "tests/end_to_end/test_reload.py",
    "fastgw/runtime/status.py": "tests/end_to_end/test_commands.py",
    "fastgw/runtime/status_text.py": "tests/test_cli.py",
    "fastgw/runtime/messages.py": "tests/end_to_end/test_reload.py",
    "fastgw/runtime/traffic.py": "tests/end_to_end/test_reload.py",
    "fastgw/runtime/worker_process.py": "tests/end_to_end/test_workers.py",
    "fastgw/runtime/acme_messages.py": "tests/runtime/test_acme.py",
    "fastgw/runtime/trace_messages.py": "tests/end_to_end/test_tracing.py",
    "fastgw/runtime/trace_helper.py": "tests/end_to_end/test_tracing.py",
    "fastgw/runtime/traces.py": "tests/end_to_end/test_tracing.py",
    "fastgw/net/trace_record.py": "tests/net/test_trace_sink.py",
    "fastgw/config/trace_settings.py": "tests/config/test_tracing.py",
    "fastgw/net/idle.py": "tests/net/test_pool.py",
    "fastgw/net/origin.py": "tests/net/test_arrival.py",
    "fastgw/net/hsts.py": "tests/end_to_end/test_listener_tls.py",
    "fastgw/net/dial.py": "tests/end_to_end/test_upstream_tls.py",
    "fastgw/__main__.py": "tests/test_cli.py",
    "fastgw/errors.py": "tests/test_readme.py",
    "fastgw/snapshot.py": "tests/config/test_compile.py",
    # Only signatures, which mypy checks on both sides.
    "fastgw/ports.py": "tests/test_architecture.py",
    "fastgw/http1/parse_response.py": "tests/http1/test_parse.py",
    # What it shares out is seen at the ends of the line.
    "fastgw/gateway.py": "tests/test_exchange.py",
    "fastgw/identification.py": "tests/test_exchange.py",
    "fastgw/policy/router_compile.py": "tests/policy/test_router.py",
    "fastgw/policy/router_trie.py": "tests/policy/test_router.py",
    # Each says what is wrong, and the corpus of wrong configurations has it all.
    "fastgw/config/acme_values.py": _BAD_CONFIGS,
    "fastgw/config/addresses.py": _BAD_CONFIGS,
    "fastgw/config/checks.py": _BAD_CONFIGS,
    "fastgw/config/document.py": _BAD_CONFIGS,
    "fastgw/config/header_lines.py": _BAD_CONFIGS,
    "fastgw/config/listener_checks.py": _BAD_CONFIGS,
    "fastgw/config/route_checks.py": _BAD_CONFIGS,
    "fastgw/config/values.py": _BAD_CONFIGS,
    "fastgw/config/resilience_checks.py": _BAD_CONFIGS,
    "fastgw/config/resilience.py": "tests/config/test_json_schema.py",
    "fastgw/config/sticky.py": _BAD_CONFIGS,
    "fastgw/config/sticky_checks.py": _BAD_CONFIGS,
    "fastgw/config/compile_sticky.py": "tests/config/test_compile.py",
    "fastgw/config/access_log.py": _BAD_CONFIGS,
    "fastgw/config/access_log_checks.py": _BAD_CONFIGS,
    "fastgw/config/compile_access_log.py": "tests/config/test_compile.py",
    "fastgw/config/mirror.py": _BAD_CONFIGS,
    "fastgw/config/compile_mirror.py": "tests/config/test_compile.py",
    "fastgw/config/table.py": "tests/config/test_json_schema.py",
    "fastgw/config/compile_resilience.py": "tests/config/test_compile.py",
    "fastgw/config/schema.py": "tests/config/test_json_schema.py",
    "fastgw/config/routing_table.py": "tests/test_cli.py",
    "fastgw/runtime/report.py": "tests/runtime/test_demo.py",
    "fastgw/runtime/supervisor.py": "tests/runtime/test_demo.py",
    "fastgw/runtime/worker.py": _RAW_BYTES,
    "fastgw/runtime/demo_requests.py": "tests/runtime/test_demo.py",
}


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    for_types: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def module_path(module: str) -> Path | None:
    """The file or folder of one of our own modules."""
    path = ROOT / module.replace(".", "/")
    return path if path.is_dir() or path.with_suffix(".py").is_file() else None


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute here"
    module = node.module or ""
    # `from fastgw.http1 import encode` imports fastgw.http1.encode.
    deeper = [f"{module}.{alias.name}" for alias in node.names]
    return [name if module.startswith("fastgw") and module_path(name) else module for name in deeper]


@cache
def imports(file: str) -> tuple[Import, ...]:
    """All imports of a file, those inside of functions and those for types included."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    return tuple(
        Import(file, node.lineno, name, id(node) in typing_only)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in dict.fromkeys(_names(node))
    )


def layer(file_or_module: str) -> str:
    """The layer of `fastgw/http1/parse.py`, of `fastgw.http1.parse`, or of `fastgw` itself."""
    parts = file_or_module.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def all_imports() -> Iterator[Import]:
    for file in SOURCES:
        yield from imports(file)


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 40
    assert any(found.module == "fastgw.http1.encode" for found in imports("fastgw/exchange.py"))


def test_every_file_is_in_a_layer() -> None:
    assert [file for file in SOURCES if layer(file) not in BELOW] == []


def test_imports_only_go_down() -> None:
    wrong = []
    for found in all_imports():
        if found.top != "fastgw":
            continue
        ours, theirs = layer(found.file), layer(found.module)
        excused = found.for_types and (found.file, found.module) in UP_FOR_TYPES
        if theirs != ours and theirs not in BELOW[ours] and not excused:
            wrong.append(str(found))
    assert wrong == []


def test_the_layers_themselves_have_no_circle() -> None:
    seen: set[str] = set()
    hot = (
        "errors",
        "counters",
        "rows",
        "window",
        "http1",
        "policy",
        "snapshot",
        "ports",
        "tracing",
        "gateway",
        "identification",
        "exchange",
        "hedging",
        "net",
    )
    for name in ("__init__", *hot, "config"):
        assert set(BELOW[name]) <= seen
        seen.add(name)
    assert "cli" not in BELOW["runtime"]


def test_only_those_that_may_import_the_world_do() -> None:
    wrong = [
        str(found) for found in all_imports() if found.top in ONLY_IN and layer(found.file) not in ONLY_IN[found.top]
    ]
    assert wrong == []


def test_code_without_io_is_told_the_time_and_does_not_ask() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if layer(found.file) in HOT_WITHOUT_IO
        and found.top in TOLD
        and (found.file, found.module) not in MAY_ASK_ALL_THE_SAME
    ]
    assert wrong == []


def test_policies_do_not_know_each_other() -> None:
    wrong = []
    for found in all_imports():
        if layer(found.file) != "policy" or not found.module.startswith("fastgw.policy."):
            continue
        ours, theirs = Path(found.file).stem, found.module.split(".")[2]
        if not any({ours, theirs} <= family for family in FAMILIES):
            wrong.append(str(found))
    assert wrong == []


def test_only_compile_knows_both_the_schema_and_the_snapshot() -> None:
    config = [file for file in SOURCES if layer(file) == "config"]
    knowing = [
        file
        for file in config
        if {"fastgw.config.schema"} <= {found.module for found in imports(file)}
        and any(found.module == "fastgw.snapshot" for found in imports(file))
    ]
    # The other two hand a finished snapshot on, and look at nothing in it but names.
    assert knowing == ["fastgw/config/compile.py", "fastgw/config/load.py", "fastgw/config/self_tests.py"]


@pytest.mark.parametrize(("file", "module"), [*UP_FOR_TYPES, *MAY_ASK_ALL_THE_SAME])
def test_every_exception_is_still_needed(file: str, module: str) -> None:
    assert any(found.module == module for found in imports(file))


def test_a_worker_does_not_load_what_is_cold() -> None:
    code = "import sys, fastgw.runtime.worker; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "fastgw.exchange" in loaded
    assert [name for name in loaded if name in NEVER_IN_A_WORKER or name.startswith("fastgw.config.")] == []


def test_a_file_is_one_idea() -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in SOURCES}
    assert {file: length for file, length in lengths.items() if length > LINES_MAX and file not in LONGER} == {}
    assert [file for file in LONGER if file not in lengths] == []


@pytest.mark.parametrize("file", [file for file in SOURCES if not file.endswith("__init__.py")])
def test_every_source_file_has_its_tests(file: str) -> None:
    path = Path(file)
    mirrored = Path("tests", *path.parts[1:-1], f"test_{path.name}").as_posix()
    test = mirrored if (ROOT / mirrored).is_file() else TESTED_IN.get(file, mirrored)
    assert (ROOT / test).is_file(), f"write {mirrored}, or say in TESTED_IN where the tests of {file} are"


def test_no_table_names_a_file_that_is_gone() -> None:
    named = {*TESTED_IN, *LONGER, *(file for file, _ in UP_FOR_TYPES), *(file for file, _ in MAY_ASK_ALL_THE_SAME)}
    assert sorted(named - set(SOURCES)) == []
