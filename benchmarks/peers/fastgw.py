"""fastgw itself, with nothing set that its users would not set; and again with what guards an upstream."""

import importlib.util
import os
import shutil
import subprocess
import sys

from benchmarks.measure import named
from benchmarks.peers.peer import Setup

_CONFIG = """\
[server]
workers = {workers}

[[listeners]]
name = "public"
address = "127.0.0.1:{port}"
{limits}{tls}
[access_log]
path = "{access_log}"
format = "json"

[upstreams.backend]
endpoints = ["127.0.0.1:{backend_port}"]
# As many as clients, which is what nginx and HAProxy open by default; with 256 the rest would queue, and be refused.
max_connections = 1024
"""

_TLS = """\
[listeners.tls]
certificates = [{ cert = "certificate.pem" }]
"""

_ROUTE = """
[[routes]]
name = "svc{number}"
path = "/svc{number}/*"
upstream = "backend"
"""

# All at once. The load is one of 64 connections, which the limit must not keep out.
_GUARDS = """\
balance = "ewma"
health = { path = "/svc0/items/1027" }
outliers = { latency_factor = 10 }
retry = { on = ["connect-failure", "reset", "empty-answer", "timeout", "503"] }
breaker = true
concurrency = { initial_limit = 1000, min_limit = 1000, max_limit = 1000 }
"""

# Whoever answers requests is offered the traces, too, and refuses them; by then they are made and sent.
_TRACING = """
[tracing]
endpoint = "http://127.0.0.1:{backend_port}"
sample = "{sample}"
"""

# What is added to the upstream, by the peer's name. Retries and hedging differ in what watching for slow requests
# costs: there is one endpoint, and so no second try.
_ADDED = {
    "fastgw": "",
    "fastgw-guarded": _GUARDS,
    "fastgw-retries": "retry = true\n",
    "fastgw-hedging": "retry = { hedge = true }\n",
    "fastgw-traced": _TRACING.replace("{sample}", "0%"),
    "fastgw-recording": _TRACING.replace("{sample}", "100%"),
    # Without its log; and with counts of each request for the metrics, and tracing by default, beside it.
    "fastgw-unobserved": "",
    "fastgw-observed": '[admin]\naddress = "unix:admin.sock"\n' + _TRACING.replace("{sample}", "1%"),
}

DEFAULT_MAX_CONNECTIONS = 10_000

# The Python that has a compiled fastgw, for the peers with that in their name.
COMPILED_PYTHON = "FASTGW_COMPILED_PYTHON"


class Fastgw:
    """Its name says with what: "fastgw-guarded" has health checks, ejection, retries, a breaker and a concurrency
    limit; "fastgw-traced" passes traces on, and "fastgw-recording" records all of them. "fastgw-compiled" is another
    Python's, and has its hot path compiled."""

    logs_to_stdout = False

    def __init__(self, name: str = "fastgw") -> None:
        self.name = name
        self._is_compiled = "-compiled" in name
        self._python = os.environ.get(COMPILED_PYTHON, "") if self._is_compiled else sys.executable
        # Not what is in the folder that the benchmarks are run from, neither here nor in the workers.
        safe_path = ["env", "PYTHONSAFEPATH=1"] if self._is_compiled else []
        self._run = [*safe_path, self._python]
        name = name.replace("-compiled", "")
        self.logs = name != "fastgw-unobserved"
        self._added = _ADDED[name]

    def missing(self) -> str | None:
        if self._is_compiled:
            told = f"{COMPILED_PYTHON} is to name a Python that has a fastgw whose hot path is compiled"
            return None if shutil.which(self._python) and self.version().endswith(" compiled") else told
        found = importlib.util.find_spec("fastgw") and importlib.util.find_spec("fastgw.__main__")
        return None if found else "fastgw can't be run: there is no fastgw.__main__"

    def version(self) -> str:
        command = [*self._run, "-m", "fastgw", "--version"]
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return printed.strip() or "unknown"

    def workers(self, pid: int) -> list[int]:
        return named(pid, "fastgw-worker")

    def command(self, setup: Setup) -> list[str]:
        # Every connection of the workload and a few of the harness's own.
        needed = setup.workload.connections + 64
        limits = f"max_connections = {needed}\n" if needed > DEFAULT_MAX_CONNECTIONS else ""
        text = _CONFIG.format(
            workers=setup.workload.workers,
            port=setup.port,
            limits=limits,
            tls=_TLS if setup.workload.tls else "",
            access_log=setup.access_log if self.logs else "off",
            backend_port=setup.backend_port,
        )
        config = setup.directory / "fastgw.toml"
        text += self._added.replace("{backend_port}", str(setup.backend_port))
        config.write_text(text + "".join(_ROUTE.format(number=number) for number in range(setup.workload.routes)))
        return [*self._run, "-m", "fastgw", "run", str(config)]
