"""`fastgw demo`: a shop of three backends, the gateway in front of them, and what to try with it.

The gateway is the real one, with a configuration that is written into the current directory, so that it can be read,
changed and tried out. A file of that name that is there already is used as it is; only when nothing but its ports
would change, and the user asks for others, it is written anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click

from fastgw.config.load import LoadedConfig, load_config, load_text
from fastgw.errors import ConfigError
from fastgw.runtime import shop, supervisor
from fastgw.runtime.demo_requests import SAMPLES
from fastgw.runtime.report import report
from fastgw.snapshot import Address, Snapshot

CONFIG = Path("fastgw-demo.toml")
# As in the packaged configuration.
PORT = 8080
BACKENDS_PORT = 9001

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOCAL_PORT = re.compile(r"(?<=127\.0\.0\.1:)[0-9]+")
# How long --check waits for the gateway to listen.
_START_S = 20.0


class CannotRun(Exception):
    """The demo can't run; the message is for the user."""


@dataclass(frozen=True)
class Plan:
    """What the demo runs with: the configuration, and its text when it still has to be written."""

    loaded: LoadedConfig
    text: str | None
    ports_hint: str

    @property
    def snapshot(self) -> Snapshot:
        return self.loaded.snapshot


def run(port: int | None = None, backends_port: int | None = None, check: bool = False) -> int:
    """Serves until SIGTERM or SIGINT; the exit status. `backends_port` is the first of three.

    `check`: instead makes the printed requests itself, and ends; 1 when one of them fails.
    """
    try:
        plan = make_plan(port, backends_port)
        if check and _address_to_try(plan.snapshot) is None:
            raise CannotRun(f"{CONFIG} has no listener with a TCP port to check")
        _probe_listeners(plan)
        backends = _start_backends(plan)
        if plan.text is not None:
            CONFIG.write_text(plan.text, encoding="utf-8")
    except CannotRun as error:
        report(str(error))
        return 1
    except ConfigError as error:
        report(f"{error}\nmove {CONFIG} away to get the demo's own")
        return 1
    except OSError as error:
        report(f"can't write {CONFIG}: {(error.strerror or str(error)).lower()}")
        return 1
    try:
        address = _address_to_try(plan.snapshot)
        if check and address is not None:
            return _check(plan, address)
        click.echo(_introduction(plan, backends, address))
        return supervisor.run(CONFIG, plan.loaded, keeps_others=True)
    except KeyboardInterrupt:
        # Before the supervisor had a handler for it.
        return 0
    finally:
        for backend in backends:
            backend.server_close()


# The configuration.


def make_plan(port: int | None = None, backends_port: int | None = None) -> Plan:
    """Decides which configuration to run with. Raises CannotRun, and ConfigError when the file there is wrong."""
    text = config_text(port or PORT, backends_port or BACKENDS_PORT)
    first_port = backends_port or BACKENDS_PORT
    if first_port + 2 > 65535:
        raise CannotRun(f"the backends need three ports, and {first_port} is too high for the first")
    hint = "choose another with --port for the gateway, --backends-port for the first of the three backends"
    try:
        there = CONFIG.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Plan(load_text(text, str(CONFIG)), text, hint)
    except (OSError, ValueError) as error:
        raise CannotRun(f"can't read {CONFIG}: {error}") from None
    if port is None and backends_port is None:
        return Plan(load_config(CONFIG), None, hint if _but_for_ports(there) == _but_for_ports(text) else _edit_hint())
    if _but_for_ports(there) != _but_for_ports(text):
        raise CannotRun(f"{CONFIG} is there already, and is not the demo's own: {_edit_hint()}, or move it away")
    return Plan(load_text(text, str(CONFIG)), text, hint)


def config_text(port: int, backends_port: int) -> str:
    """The demo's configuration, with these ports."""
    text = resources.files("fastgw").joinpath("demo/shop.toml").read_text(encoding="utf-8")
    ports = {str(PORT): str(port)} | {str(BACKENDS_PORT + n): str(backends_port + n) for n in range(3)}
    return _LOCAL_PORT.sub(lambda found: ports.get(found.group(), found.group()), text)


def _but_for_ports(text: str) -> str:
    return _LOCAL_PORT.sub("", text)


def _edit_hint() -> str:
    return f"change its ports in {CONFIG}"


# The backends and the gateway's port.


def _start_backends(plan: Plan) -> list[shop.Server]:
    """Starts the shop's backends wherever its upstreams point to on this machine; the others are left to the user."""
    servers: list[shop.Server] = []
    for name in shop.BACKENDS:
        upstream = plan.snapshot.upstreams.get(name)
        for endpoint in upstream.endpoints if upstream is not None else ():
            address = endpoint.address
            if address.path or address.host not in _LOOPBACK:
                continue
            try:
                servers.append(shop.start(name, address.host, address.port))
            except OSError as error:
                raise CannotRun(_no_port(f"the backend '{name}'", address, error, plan)) from None
    return servers


def _probe_listeners(plan: Plan) -> None:
    """Tells of a taken port while nothing has been written or started."""
    for listener in plan.snapshot.listeners:
        address = listener.address
        if address.path:
            continue
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
                probe.listen(1)
            except OSError as error:
                raise CannotRun(_no_port("the gateway", address, error, plan)) from None


def _no_port(who: str, address: Address, error: OSError, plan: Plan) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{who} can't listen on {address}: the port is taken; {plan.ports_hint}"
    return f"{who} can't listen on {address}: {(error.strerror or str(error)).lower()}; {plan.ports_hint}"


# What is printed.


def _introduction(plan: Plan, backends: list[shop.Server], address: Address | None) -> str:
    origin = "was here, and is used as it is" if plan.text is None else "was written into this directory"
    lines = ["A shop of three small backends, and the gateway in front of them.", ""]
    lines += [f"  gateway         http://{address}   ({CONFIG} {origin})"] if address is not None else []
    for backend in backends:
        host, port = backend.server_address[:2]
        lines.append(f"  {backend.kind.ljust(14)}  http://{Address(str(host), int(port))}")
    if address is None:
        lines += ["", f"The gateway of {CONFIG} has no TCP listener, so there is nothing to try with curl."]
    else:
        lines += ["", "Try in another terminal:", ""]
        for sample in SAMPLES:
            lines += [f"  # {sample.shows}", f"  {sample.command(f'http://{address}')}"]
    program = _program()
    lines += ["", "Look inside:", "", f"  {program} routes {CONFIG}", f"  {program} check {CONFIG}"]
    lines += [f"  {program} explain {CONFIG} GET http://{address}/v1/items/7"] if address is not None else []
    lines += ["", "Each request leaves a line of the access log below. Ctrl-C ends it all.", ""]
    return "\n".join(lines)


def _address_to_try(snapshot: Snapshot) -> Address | None:
    """Where a client on this machine reaches the gateway."""
    for listener in snapshot.listeners:
        address = listener.address
        if not address.path and address.port:
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
            return Address(host, address.port)
    return None


def _program() -> str:
    """How this program was called."""
    called = sys.argv[0]
    return called if Path(called).name == "fastgw" else "python -m fastgw"


# --check.


def _check(plan: Plan, address: Address) -> int:
    """Serves while the printed requests are made; 1 when one of them failed, or was never made."""
    troubles: list[str] = []
    checker = threading.Thread(target=_make_requests, args=(address, troubles), daemon=True)
    checker.start()
    status = supervisor.run(CONFIG, plan.loaded, keeps_others=True)
    failed = sum(1 for trouble in troubles if trouble)
    for sample, trouble in zip(SAMPLES, troubles, strict=False):
        click.echo(f"{'FAIL' if trouble else 'PASS'}  {sample.shows}" + (f"\n      {trouble}" if trouble else ""))
    click.echo(f"{len(troubles) - failed} of {len(SAMPLES)} requests passed")
    return status or (0 if len(troubles) == len(SAMPLES) and not failed else 1)


def _make_requests(address: Address, troubles: list[str]) -> None:
    """Makes all requests in turn, and then ends the gateway."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), 1.0):
            break
        time.sleep(0.05)
    for sample in SAMPLES:
        troubles.append(sample.trouble(address.host, address.port))
    os.kill(os.getpid(), signal.SIGTERM)
