"""Load by wrk: the Lua script that sends a workload's requests and prints what came back, and the run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import pinned

MARK = "benchmark-result:"
_ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 10  # of one request; wrk counts a slower one as an error
# wrk counts a status above 399 as an error, and the harness checks the answer itself before each run.
_SCRIPT = """\
local requests = {{
{requests}
}}
local last = 0
local count = #requests

function request()
  last = last + 1
  if last > count then last = 1 end
  return requests[last]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\\n{mark}{{"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"errors":' ..
    '{{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}}}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


class LoadError(Exception):
    """wrk could not run or printed nothing to read."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What wrk saw in one run."""

    requests: int
    bytes_read: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: dict[str, int] = field(default_factory=dict)  # only the kinds that happened


def missing() -> str | None:
    """Why there can't be any load, or None."""
    return None if shutil.which("wrk") else "wrk is not installed: the load comes from it"


def script(requests: Sequence[bytes]) -> str:
    """The Lua script that sends these requests in turn."""
    return _SCRIPT.format(requests=",\n".join(lua_string(request) for request in requests), mark=MARK)


def lua_string(text: bytes) -> str:
    """A Lua literal for the bytes."""
    plain = {ord("\r"): "\\r", ord("\n"): "\\n", ord('"'): '\\"', ord("\\"): "\\\\"}
    parts = (plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}") for byte in text)
    return '"' + "".join(parts) + '"'


def run(lua: Path, port: int, connections: int, seconds: int, cores: Sequence[int], tls: bool) -> LoadResult:
    """Keeps `connections` busy for `seconds`, with a thread for each core; raises LoadError when wrk itself fails."""
    return _run(wrk(lua, port, connections, seconds, cores, tls), seconds, cores)


def wrk(lua: Path, port: int, connections: int, seconds: int, cores: Sequence[int], tls: bool) -> list[str]:
    """The command for this load; `parse` reads what it prints."""
    return [
        shutil.which("wrk") or "wrk",
        f"--threads={len(cores)}",
        f"--connections={connections}",
        f"--duration={seconds}s",
        f"--timeout={TIMEOUT_SECONDS}s",
        f"--script={lua}",
        f"{'https' if tls else 'http'}://127.0.0.1:{port}/",
    ]


def connect_anew(
    request: Path, port: int, connections: int, seconds: int, cores: Sequence[int], tls: bool
) -> LoadResult:
    """As `run`, with a new connection for each request, each read to its end; no TLS session is resumed."""
    numbers = (str(port), str(connections), str(seconds))
    kind = "tls" if tls else "plain"
    command = [sys.executable, "-m", "benchmarks.new_connections", str(request), *numbers, kind]
    return _run(command, seconds, cores)


def _run(command: Sequence[str], seconds: int, cores: Sequence[int]) -> LoadResult:
    try:
        # check is off: what it printed says more than its exit code.
        finished = subprocess.run(
            pinned(cores, command), capture_output=True, text=True, timeout=seconds + 30, check=False, cwd=_ROOT
        )
    except subprocess.TimeoutExpired as expired:
        raise LoadError(f"the load did not end within {expired.timeout:g} s") from None
    return parse(finished.stdout, finished.stderr)


def parse(printed: str, complained: str = "") -> LoadResult:
    """Reads the line that the script's `done` printed; LoadError when it is not there."""
    for line in printed.splitlines():
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return LoadResult(
                requests=int(found["requests"]),
                bytes_read=int(found["bytes"]),
                seconds=found["duration_us"] / 1e6,
                p50_us=float(found["p50_us"]),
                p99_us=float(found["p99_us"]),
                errors={kind: int(count) for kind, count in found["errors"].items() if count},
            )
    raise LoadError(f"wrk printed no result: {(complained or printed).strip()[-400:] or 'it printed nothing'}")
