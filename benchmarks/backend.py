"""The backend behind every peer: nginx, because it must keep up on the core that it shares with the load."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.processes import NotStartedError, free_port, running, wait_until_answering
from benchmarks.workloads import COUNTED_PATH, ECHO_PATH, FILE_10M, FILE_100K, JSON_BODY

# What every peer must tell the backend, by the names that nginx gives request headers.
FORWARDING_HEADERS = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "via",
    "x-request-id",
)

# A line for each request of COUNTED_PATH: the port of the peer's end of the connection.
PORTS_FILE = "ports"

_CONFIG = """\
daemon off;
master_process off;                     # one process: nothing to supervise, and less to count
{user}
worker_rlimit_nofile {files};
pid {directory}/backend.pid;
error_log {directory}/backend-error.log warn;
events {{ worker_connections {connections}; }}
http {{
    log_format port $remote_port;
    access_log off;                     # the backend's own cost is nobody's business
    default_type application/json;
    keepalive_requests 1000000000;      # a peer's pooled connection must never end by itself
    keepalive_timeout 600s;
    sendfile on;                        # the cheapest way out for the large bodies
    sendfile_max_chunk 512k;            # one 10 MiB answer must not hold up the other connections
    tcp_nopush on;
    open_file_cache max=16 inactive=600s;
    client_max_body_size 64m;
    client_body_temp_path {directory}/backend-body;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 '{json}'; }}    # reads and drops a request body
        location = /svc0/{file_100k} {{ alias {directory}/{file_100k}; }}
        location = /svc0/{file_10m} {{ alias {directory}/{file_10m}; }}
        location = /svc0/{counted} {{ access_log {directory}/{ports} port; return 200 '{json}'; }}
        location = /svc0/{echo} {{ return 200 '{echoed}'; }}
    }}
}}
"""


def missing() -> str | None:
    """Why there can't be a backend, or None."""
    return None if shutil.which("nginx") else "nginx is not installed: the backend needs it"


@contextlib.contextmanager
def started(directory: Path, cores: Sequence[int], files: int) -> Iterator[tuple[int, int]]:
    """Runs the backend in `directory`; gives its port and process id."""
    program = shutil.which("nginx")
    if program is None:
        raise NotStartedError("nginx is not installed")
    for name, size in (FILE_100K, FILE_10M):
        (directory / name).write_bytes(os.urandom(1024) * (size // 1024))
    port = free_port()
    echoed = "\\n".join(f"{name}: $http_{name.replace('-', '_')}" for name in FORWARDING_HEADERS)
    config = directory / "backend.conf"
    config.write_text(
        _CONFIG.format(
            user="user root;" if os.geteuid() == 0 else "",
            files=files,
            connections=min(files, 8192),
            directory=directory,
            port=port,
            json=JSON_BODY.decode(),
            file_100k=FILE_100K[0],
            file_10m=FILE_10M[0],
            counted=COUNTED_PATH,
            ports=PORTS_FILE,
            echo=ECHO_PATH,
            echoed=echoed,
        )
    )
    output = directory / "backend.out"
    command = [program, "-p", str(directory), "-e", str(directory / "backend-error.log"), "-c", str(config)]
    with running(command, cores, output, directory) as process:
        wait_until_answering(process, port, "/", 10.0, output)
        yield port, process.pid
