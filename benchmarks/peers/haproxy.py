"""HAProxy as a reverse proxy, tuned as those who run it at the edge do."""

import shutil
import subprocess

from benchmarks.peers.peer import IDLE_SECONDS, Setup

# The fields of fastgw's default access log. +E escapes quotes and backslashes, the nearest to a JSON string.
_LOG_FIELDS = (
    '"time":"%tr","client":"%ci","method":"%HM","host":"%{+E}[capture.req.hdr(0)]","path":"%{+E}HPO",'
    '"status":%ST,"bytes":%B,"duration_ms":%Ta,"upstream_ms":%Tr,"route":"%[var(txn.route)]",'
    '"endpoint":"%si:%sp","consumer":"-","cache":"-","reason":"-","request_id":"%ID"'
)

LEAST_MAX_CONNECTIONS = 9000
# The default is better up to answers of 100 KiB; for 10 MiB the larger takes a third off, splicing or not.
BUFFER_BYTES = 16 * 1024
LARGE_BUFFER_BYTES = 64 * 1024

_CONFIG = """\
global
    nbthread {threads}                          # as many as cores to run on
    # Far above the workload's connections: HAProxy closes idle upstream connections once a quarter of the
    # descriptors that maxconn allows for are in use, and would then open one for every request.
    maxconn {max_connections}
    no strict-limits                    # and don't refuse to start where the system allows fewer descriptors
    # To a file in memory, where the others write theirs. Measured: as cheap as a ring that streams over TCP,
    # cheaper than datagrams to a unix socket or over UDP, and the only one that never drops a line.
    log stdout len 2048 format raw local0
    hard-stop-after 2s
    tune.bufsize {buffer_bytes}

defaults
    mode http
    log global
    timeout connect 5s
    timeout client {idle_seconds}s
    timeout server 60s
    timeout http-keep-alive {idle_seconds}s
    option splice-auto                  # large bodies go from socket to socket through a kernel pipe
    http-reuse always                   # any idle upstream connection serves any client

frontend public
    bind 127.0.0.1:{port} backlog 4096{tls}
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    http-request capture req.hdr(Host) len 128
    # The map is a prefix tree: its cost hardly grows with the routes, unlike that of an acl per route.
    http-request set-var(txn.route) path,map_beg({directory}/routes.map)
    http-request return status 404 unless {{ var(txn.route) -m found }}
    # An edge proxy does not believe what the client says about itself: set, not added.
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header Forwarded for=%[src];host=%[req.hdr(Host)];proto=http
    http-request add-header Via "1.1 haproxy"
    http-response add-header Via "1.1 haproxy"
    http-response set-header X-Request-Id %[unique-id]
    log-format '{{{log_fields}}}'
    default_backend backend

backend backend
    server endpoint 127.0.0.1:{backend_port}
"""


class Haproxy:
    name = "haproxy"
    logs_to_stdout = True
    logs = True

    def missing(self) -> str | None:
        return None if shutil.which("haproxy") else "haproxy is not installed"

    def version(self) -> str:
        printed = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=False).stdout
        return " ".join(printed.split()[:3]).replace("HAProxy version ", "haproxy/")

    def workers(self, pid: int) -> list[int]:
        return [pid]

    def command(self, setup: Setup) -> list[str]:
        routes = "".join(f"/svc{number}/ svc{number}\n" for number in range(setup.workload.routes))
        (setup.directory / "routes.map").write_text(routes)
        config = setup.directory / "haproxy.cfg"
        config.write_text(_render(setup))
        return [shutil.which("haproxy") or "haproxy", "-db", "-f", str(config)]


def _render(setup: Setup) -> str:
    connections = setup.workload.connections
    return _CONFIG.format(
        threads=setup.workload.workers,
        max_connections=max(LEAST_MAX_CONNECTIONS, connections + 64),
        buffer_bytes=LARGE_BUFFER_BYTES if setup.workload.response_body_bytes >= 1 << 20 else BUFFER_BYTES,
        idle_seconds=IDLE_SECONDS,
        port=setup.port,
        tls=f" ssl crt {setup.certificate} alpn http/1.1 ssl-min-ver TLSv1.2" if setup.workload.tls else "",
        directory=setup.directory,
        log_fields=_LOG_FIELDS,
        backend_port=setup.backend_port,
    )
