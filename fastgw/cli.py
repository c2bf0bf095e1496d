"""The command line. What a command needs is imported where it is used, so that none waits for another's.

Exit status: 0 when all is well, 1 when the configuration (or what it asks for) can't be used, 2 for wrong usage. `diff`
has those of diff(1).
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import click

from fastgw import __version__
from fastgw.errors import ConfigError, Problem
from fastgw.runtime.status_text import counted, status_text

if TYPE_CHECKING:
    from fastgw.config.load import LoadedConfig
    from fastgw.runtime.log_replay import Replayed

DEFAULT_CONFIGS = (Path("config.toml"), Path("/etc/fastgw/config.toml"))

# How often `top` looks, and how much it prints where there is no terminal.
_LOOK_S = 1.0
# Workers write what they have counted twice a second, so that rates of one second would jump.
_LOOKS_BACK = 4
_WIDE, _LONG = 200, 1000

# diff(1)'s status when there is no answer.
_TROUBLE = 2

_config_argument = click.argument("config", required=False, type=click.Path(path_type=Path, readable=False))
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main() -> None:
    cli(prog_name="fastgw")


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(version_line())
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """An API gateway: routes, forwards, limits, logs and watches HTTP traffic, tuned in one TOML file.

    CONFIG is config.toml in the current directory, or else /etc/fastgw/config.toml, unless it is named.
    """


@cli.command()
@_config_argument
def run(config: Path | None) -> None:
    """Run the gateway."""
    from fastgw.runtime.process import ensure_standard_files, hold_signals_back  # noqa: PLC0415

    ensure_standard_files()
    hold_signals_back()
    path = _config_path(config)
    loaded = _load(path)
    from fastgw.runtime import supervisor  # noqa: PLC0415

    sys.exit(supervisor.run(path, loaded))


@cli.command()
@_config_argument
@_json_option
def reload(config: Path | None, as_json: bool) -> None:
    """Let the running gateway read its configuration again, and say how that ended."""
    _command(config, "reload", as_json)


@cli.command()
@_config_argument
@_json_option
def upgrade(config: Path | None, as_json: bool) -> None:
    """Let a new process, with the code that is installed now, take the running gateway's place.

    It gets the listening sockets and reads the configuration; then the old one ends what is in flight. When the new
    one does not come up, the old one goes on.
    """
    _command(config, "upgrade", as_json)


@cli.command()
@_config_argument
@_json_option
def status(config: Path | None, as_json: bool) -> None:
    """Tell how the running gateway is; exit with 0 when all its workers serve."""
    state = _ask(config, "status")
    click.echo(json.dumps(state, indent=2) if as_json else status_text(state))
    sys.exit(0 if state["is_serving"] else 1)


@cli.command()
@_config_argument
@click.option("--once", is_flag=True, help="Print what there is, since the gateway's start, and end.")
@_json_option
def top(config: Path | None, once: bool, as_json: bool) -> None:
    """Show the running gateway at a glance, again each second: routes, endpoints, workers. q ends it.

    Routes are counted where the configuration has an [admin] table.
    """
    before = _ask(config, "summary")
    if as_json:
        click.echo(json.dumps(before, indent=2))
        return
    from fastgw.runtime.top import screen  # noqa: PLC0415

    if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo(screen(before, before, _WIDE, _LONG))
        return
    from fastgw.runtime.control import NotRunning, ask  # noqa: PLC0415
    from fastgw.runtime.terminal import show  # noqa: PLC0415

    looks, path = [before], _config_path(config)

    def draw(width: int, height: int) -> str:
        now = ask(path, "summary")
        earlier = looks[0] if now["at"] - looks[0]["at"] > _LOOK_S / 2 else now
        looks.append(now)
        del looks[:-_LOOKS_BACK]
        return screen(earlier, now, width, height)

    try:
        show(draw, _LOOK_S)
    except NotRunning as error:
        # Only now: what is said before is on a screen that goes.
        click.echo(str(error), err=True)
        sys.exit(1)


@cli.command(options_metavar="[--upstream NAME] [--undo] [--weight N] [--json]")
@click.argument("endpoint", nargs=-1, metavar="[CONFIG] ENDPOINT")
@click.option("--upstream", default="", metavar="NAME", help="Whose endpoint it is, where several have it.")
@click.option("--undo", is_flag=True, help="Let it have requests again.")
@click.option("--weight", type=click.IntRange(0, 1000), help="Give it this weight instead; 0: its own again.")
@_json_option
def drain(endpoint: tuple[str, ...], upstream: str, undo: bool, weight: int | None, as_json: bool) -> None:
    """Let an endpoint of the running gateway end what it is busy with, and get nothing new.

    That lasts over reloads and upgrades, until it is undone; a weight, until the configuration is loaded again.
    """
    if len(endpoint) not in (1, 2):
        raise click.UsageError("name an endpoint as the configuration does, like: fastgw drain 10.0.0.1:80")
    config = Path(endpoint[0]) if len(endpoint) == 2 else None
    changes = ["undrain"] if undo else ["drain"] if weight is None else []
    changes += [str(weight)] if weight is not None else []
    words = ("endpoint", *(quote(word, safe=":/[]") for word in (upstream, endpoint[-1])), *changes)
    _command(config, "drain", as_json, " ".join(words))


@cli.command()
@_config_argument
@_json_option
def check(config: Path | None, as_json: bool) -> None:
    """Validate a configuration, and run its [[tests]]."""
    path = _config_path(config)
    loaded = _load(path, as_json)
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    problems: list[Problem] = []
    if loaded.tests:
        from fastgw.config.self_tests import run_self_tests  # noqa: PLC0415
        from fastgw.runtime.explain import outcome  # noqa: PLC0415

        problems = run_self_tests(loaded, outcome)
    if problems:
        _fail(path, problems, as_json)
    if as_json:
        click.echo(json.dumps({"problems": []}))
    else:
        click.echo(f"{path} is right: {_inventory(loaded)}")


@cli.command(options_metavar="[-H 'NAME: VALUE'] [--json]")
@click.argument("request", nargs=-1, metavar="[CONFIG] METHOD URL")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request.")
@_json_option
def explain(request: tuple[str, ...], headers: tuple[str, ...], as_json: bool) -> None:
    """Tell what would happen to a request, step by step, and why."""
    if len(request) not in (2, 3):
        raise click.UsageError("give a method and a URL, like: fastgw explain GET http://localhost/products/1")
    method, url = request[-2:]
    pairs = [_header_pair(header) for header in headers]
    loaded = _load(_config_path(Path(request[0]) if len(request) == 3 else None), as_json)
    from fastgw.runtime.explain import explain as explain_request  # noqa: PLC0415
    from fastgw.runtime.explanation import explanation_text  # noqa: PLC0415

    try:
        found = explain_request(loaded.snapshot, method, url, pairs)
    except (ConfigError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    result = loaded.document.masked(dataclasses.asdict(found))
    click.echo(json.dumps(result, indent=2) if as_json else explanation_text(method, url, result))


@cli.command()
@_config_argument
@_json_option
def routes(config: Path | None, as_json: bool) -> None:
    """Print the routing table, in the order of matching."""
    from fastgw.config.routing_table import routing_table, table_text  # noqa: PLC0415

    rows = routing_table(_load(_config_path(config), as_json))
    click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) if as_json else table_text(rows))


@cli.command()
@click.argument("old", type=click.Path(path_type=Path, readable=False))
@click.argument("new", type=click.Path(path_type=Path, readable=False))
@click.option("--log", metavar="FILE", help="An access log in JSON whose requests are walked through both; -: stdin.")
@_json_option
def diff(old: Path, new: Path, log: str | None, as_json: bool) -> None:
    """Tell what changes from one configuration to another, and for which requests of a log.

    Exit with 0 when nothing does, 1 when something does, and 2 for trouble.
    """
    before, after = _load_both(old, new, as_json)
    from fastgw.runtime.config_diff import config_diff, diff_json, diff_text, is_different  # noqa: PLC0415

    found = config_diff(before, after)
    replayed = _replayed(log, before, after, found.renamed) if log is not None else None
    if as_json:
        click.echo(json.dumps(diff_json(found, replayed), indent=2))
    else:
        click.echo(diff_text(found, replayed))
    if replayed is not None and replayed.lines and not replayed.walked:
        click.echo(f"no line of {log} is one of a request, as the access log has them in JSON", err=True)
        sys.exit(_TROUBLE)
    sys.exit(1 if is_different(found, replayed) else 0)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from fastgw.config.json_schema import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), help="The gateway's port; 8080 if absent.")
@click.option(
    "--backends-port", type=click.IntRange(1, 65533), help="The first of the backends' three ports; 9001 if absent."
)
@click.option("--check", "makes_requests", is_flag=True, help="Make the printed requests, say PASS or FAIL, and end.")
def demo(port: int | None, backends_port: int | None, makes_requests: bool) -> None:
    """Run a small shop: three backends, and the gateway in front of them.

    The gateway's configuration is written to fastgw-demo.toml in the current directory; one that is there already
    is used as it is.
    """
    from fastgw.runtime import demo as shop  # noqa: PLC0415

    sys.exit(shop.run(port, backends_port, makes_requests))


def version_line() -> str:
    """What bug reports need to say."""
    import importlib.util  # noqa: PLC0415
    import platform  # noqa: PLC0415
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "missing"

    hot = importlib.util.find_spec("fastgw.exchange")
    is_compiled = hot is not None and (hot.origin or "").endswith(".so")
    libraries = f"uvloop {installed('uvloop')}, httptools {installed('httptools')}"
    return (
        f"fastgw {__version__}, Python {platform.python_version()} ({libraries}), "
        f"hot path: {'compiled' if is_compiled else 'interpreted'}"
    )


def _load_both(old: Path, new: Path, as_json: bool) -> tuple[LoadedConfig, LoadedConfig]:
    """Both, or the problems of both."""
    from fastgw.config.load import load_config  # noqa: PLC0415

    loaded: list[LoadedConfig] = []
    wrong: dict[Path, list[Problem]] = {}
    for path in (old, new):
        try:
            loaded.append(load_config(path))
        except ConfigError as error:
            wrong[path] = error.problems
    if wrong:
        if as_json:
            _print_json_problems([problem for problems in wrong.values() for problem in problems])
        for path, problems in wrong.items():
            _print_problems(path, problems)
        sys.exit(_TROUBLE)
    return loaded[0], loaded[1]


def _replayed(log: str, old: LoadedConfig, new: LoadedConfig, renamed: dict[str, str]) -> Replayed:
    from fastgw.runtime.log_replay import LogReplay  # noqa: PLC0415

    try:
        with click.open_file(log, "rb") as opened:
            return LogReplay(old.snapshot, new.snapshot, renamed).read(opened)
    except OSError as error:
        click.echo(f"{log}: can't be read: {error.strerror}", err=True)
        sys.exit(_TROUBLE)


def _command(config: Path | None, command: str, as_json: bool, asked: str = "") -> None:
    """Has a running gateway do something; ends with 1 when it did not. `asked` is how the gateway is told."""
    answer = _ask(config, asked or command)
    is_done = answer["outcome"] == "done"
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"{command} {answer['outcome']}: {answer['detail']}", err=not is_done)
    sys.exit(0 if is_done else 1)


def _ask(config: Path | None, command: str) -> dict[str, Any]:
    from fastgw.runtime.control import NotRunning, ask  # noqa: PLC0415

    try:
        return ask(_config_path(config), command)
    except NotRunning as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _config_path(named: Path | None) -> Path:
    if named is not None:
        return named
    # Path.exists raises for a directory that one may not enter.
    found = next((path for path in DEFAULT_CONFIGS if os.path.exists(path)), None)
    if found is None:
        places = " and no ".join(map(str, DEFAULT_CONFIGS))
        click.echo(f"there is no {places}; name the configuration, or see one run: fastgw demo", err=True)
        sys.exit(1)
    return found


def _load(path: Path, as_json: bool = False) -> LoadedConfig:
    from fastgw.config.load import load_config  # noqa: PLC0415

    try:
        return load_config(path)
    except ConfigError as error:
        _fail(path, error.problems, as_json)


def _fail(path: Path, problems: list[Problem], as_json: bool) -> NoReturn:
    if as_json:
        _print_json_problems(problems)
    _print_problems(path, problems)
    sys.exit(1)


def _print_json_problems(problems: list[Problem]) -> None:
    click.echo(json.dumps({"problems": [dataclasses.asdict(problem) for problem in problems]}, indent=2))


def _print_problems(path: Path, problems: list[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)
    click.echo(f"{counted(len(problems), 'problem')} in {path}", err=True)


def _header_pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"{header!r} is not a header; write it like -H 'X-Beta: 1'")
    return name.strip(), value.strip()


def _inventory(loaded: LoadedConfig) -> str:
    snapshot = loaded.snapshot
    parts = [
        counted(len(snapshot.listeners), "listener"),
        counted(len(snapshot.upstreams), "upstream"),
        counted(len(snapshot.routes), "route"),
        counted(len(loaded.tests), "test"),
    ]
    return ", ".join(parts) + (" passed" if loaded.tests else "")
