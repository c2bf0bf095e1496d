"""PROXY headers to backends that others wrote: HAProxy and nginx say whom they were told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.programs import program, running

_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"
"""
_NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{
            set $client "$proxy_protocol_addr:$proxy_protocol_port";
            return 200 "$client $proxy_protocol_server_addr:$proxy_protocol_server_port";
        }}
    }}
}}
"""


def command(peer: str, directory: Path, port: int) -> list[str]:
    path = program(peer)
    config = directory / f"{peer}.conf"
    config.write_text((_HAPROXY if peer == "haproxy" else _NGINX).format(port=port, directory=directory))
    if peer == "haproxy":
        return [path, "-db", "-f", str(config)]
    return [path, "-p", str(directory), "-e", "stderr", "-c", str(config)]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("peer", ["haproxy", "nginx"])
def test_a_backend_learns_whose_connection_each_request_came_on(peer: str, version: str, tmp_path: Path) -> None:
    port = free_port()
    config = f"""
        [server]
        workers = 1
        [[listeners]]
        address = "{LISTEN}"
        [upstreams.a]
        endpoints = ["127.0.0.1:{port}"]
        proxy_protocol = "{version}"
        [[routes]]
        upstream = "a"
    """
    with (
        running(command(peer, tmp_path, port), port),
        GatewayProcess(config, tmp_path) as gateway,
        Client(gateway.address) as first,
        Client(gateway.address) as second,
    ):
        for _ in range(3):
            for client in (first, second):
                received = client.ask(get())
                host, its_port = client.sock.getsockname()
                told = f"{host}:{its_port} 127.0.0.1:{gateway.port}"
                assert (received.status, received.body.decode()) == (200, told)
