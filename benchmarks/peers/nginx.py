"""nginx as a reverse proxy, tuned as those who run it at the edge do."""

import os
import shutil
import subprocess

from benchmarks.measure import process_tree
from benchmarks.peers.peer import IDLE_SECONDS, REQUESTS_PER_CONNECTION, Setup
from benchmarks.workloads import Kind

UPSTREAM_KEEPALIVE = 128

# The fields of fastgw's default access log, by nginx's variables. Durations are seconds: nginx has no others.
_LOG_FIELDS = (
    '"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri",'
    '"status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_response_time",'
    '"route":"$route","endpoint":"$upstream_addr","consumer":"-","cache":"-","reason":"-","request_id":"$request_id"'
)

_CONFIG = """\
daemon off;
{user}
worker_processes {workers};                         # as many as cores to run on
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{
    # Of both sides. Each costs memory; with less than a sixteenth free, idle clients are closed.
    worker_connections {worker_connections};
}}
http {{
    # escape=json makes the line JSON whatever a client sends; the buffer makes it one write per 64 KiB.
    log_format json escape=json '{{{log_fields}}}';
    access_log {access_log};

    keepalive_requests {requests_per_connection};   # the default closes a client's connection after 1000
    keepalive_timeout {idle_seconds}s;
    # sendfile and tcp_nopush are for files: proxied bytes go through writev. tcp_nodelay is on by default.
    client_body_temp_path {directory}/client-body;
    proxy_temp_path {directory}/proxy;
    client_max_body_size 64m;

    upstream backend {{
        server 127.0.0.1:{backend_port};
        keepalive {upstream_keepalive};             # idle ones kept; fewer than clients, and they churn
        keepalive_requests {requests_per_connection};
        keepalive_timeout {idle_seconds}s;
    }}

    proxy_http_version 1.1;                 # this and the empty Connection keep upstream connections open
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    # An edge proxy does not believe what the client says about itself: set, not appended.
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header Forwarded "for=$remote_addr;host=$http_host;proto=$scheme";
    proxy_set_header Via "1.1 nginx";
    proxy_set_header X-Request-Id $request_id;
    add_header Via "1.1 nginx" always;
    add_header X-Request-Id $request_id always;

    # With the default 8 buffers of 4 KiB a large answer costs three times as much: many reads and writes.
    proxy_buffer_size {head_buffer};                  # the head, and as much of the body as comes with it
    proxy_buffers 16 64k;
    proxy_busy_buffers_size 512k;
    proxy_max_temp_file_size 0;             # never to disk: the client's pace is passed on instead
    proxy_request_buffering off;            # request bodies pass as they arrive, as fastgw passes them
    client_body_buffer_size 16k;            # the 10 KiB request body in one piece

    server {{
        # 4096 is the system's own bound of waiting connections; nginx's default is 511.
        listen 127.0.0.1:{port} {tls}{reuseport}backlog=4096;
{certificate}        location / {{ set $route "-"; return 404; }}
{locations}
    }}
}}
"""

# The versions and suites that fastgw speaks by default; sessions are in tickets, as there.
_TLS = """\
        ssl_certificate {file};
        ssl_certificate_key {file};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
"""


class Nginx:
    """Its name says with what: "nginx-reuseport" has a listening socket for each worker, as fastgw has them, where
    nginx's own way is one for all; "nginx-unobserved" has no log."""

    logs_to_stdout = False

    def __init__(self, name: str = "nginx") -> None:
        self.name = name
        self.logs = name != "nginx-unobserved"

    def missing(self) -> str | None:
        return None if shutil.which("nginx") else "nginx is not installed"

    def version(self) -> str:
        printed = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
        return printed.strip().removeprefix("nginx version: ")

    def workers(self, pid: int) -> list[int]:
        return process_tree(pid)[1:]

    def command(self, setup: Setup) -> list[str]:
        config = setup.directory / "nginx.conf"
        config.write_text(_render(setup, self.logs, self.name == "nginx-reuseport"))
        error_log = setup.directory / "error.log"
        return [
            shutil.which("nginx") or "nginx",
            "-p",
            str(setup.directory),
            "-e",
            str(error_log),
            "-c",
            str(config),
        ]


def _render(setup: Setup, logs: bool, reuseport: bool) -> str:
    connections = setup.workload.connections
    # Idle clients use no upstream connection; busy ones may use one each at the same time.
    upstream = UPSTREAM_KEEPALIVE if setup.workload.kind is Kind.IDLE else max(connections, UPSTREAM_KEEPALIVE)
    return _CONFIG.format(
        user="user root;" if os.geteuid() == 0 else "",  # or its worker could not open files in a private directory
        files=setup.files,
        worker_connections=min(setup.files, (connections + upstream) * 5 // 4 + 512),
        directory=setup.directory,
        log_fields=_LOG_FIELDS,
        access_log=f"{setup.directory}/access.log json buffer=64k flush=1s" if logs else "off",
        requests_per_connection=REQUESTS_PER_CONNECTION,
        idle_seconds=IDLE_SECONDS,
        backend_port=setup.backend_port,
        upstream_keepalive=upstream,
        port=setup.port,
        workers=setup.workload.workers,
        reuseport="reuseport " if reuseport else "",
        tls="ssl " if setup.workload.tls else "",
        certificate=_TLS.format(file=setup.certificate) if setup.workload.tls else "",
        head_buffer="64k" if setup.workload.response_body_bytes >= 64 * 1024 else "16k",
        locations=_locations(setup.workload.routes),
    )


def _locations(routes: int) -> str:
    # In nginx's own order ("/" before any other character): it sorts by insertion, which takes minutes for
    # 100,000 locations in another order.
    names = sorted((f"svc{number}" for number in range(routes)), key=lambda name: name + "\0")
    return "\n".join(
        f'        location /{name}/ {{ set $route "{name}"; proxy_pass http://backend; }}' for name in names
    )
