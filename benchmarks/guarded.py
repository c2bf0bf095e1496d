"""A gateway of one worker in front of endpoints that get into trouble."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port, running, wait_until_answering
from benchmarks.troubled import Endpoint

_CONFIG = """\
[server]
workers = 1
drain_timeout = "1s"

[[listeners]]
address = "127.0.0.1:{port}"
limits = {{ requests_per_connection = 1000000000 }}

[access_log]
path = "{place}/access.log"

[upstreams.backend]
endpoints = [{addresses}]
{upstream}

[[routes]]
upstream = "backend"
"""
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway: its port, and the file that it complains to."""

    port: int
    output: Path


@contextlib.contextmanager
def gateway_before(
    endpoints: Sequence[Endpoint], upstream: str, cores: Sequence[int], place: Path
) -> Iterator[Running]:
    """`upstream` is what is set for them, as TOML."""
    port = free_port()
    addresses = ", ".join([f'"{endpoint.address}"' for endpoint in endpoints])
    config, output = place / "fastgw.toml", place / "output"
    config.write_text(_CONFIG.format(port=port, place=place, addresses=addresses, upstream=upstream))
    output.write_bytes(b"")
    command = [sys.executable, "-m", "fastgw", "run", str(config)]
    with running(command, cores, output, Path.cwd()) as process:
        wait_until_answering(process, port, "/0", _START_S, output)
        yield Running(port, output)
