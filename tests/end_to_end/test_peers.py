"""Programs that others wrote speak to it: curl, and the load generators that the benchmarks use."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import LISTEN, GatewayProcess

LARGE = bytes(range(256)) * 4096


class Echo(http.server.BaseHTTPRequestHandler):
    """Python's own server: says what it was asked, with which body."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(length)
        text = LARGE
        if self.path != "/large":
            text = json.dumps({"method": self.command, "path": self.path, "received": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def gateway(echo: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    config = f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"

        [upstreams]
        echo = {{ endpoints = ["127.0.0.1:{echo}"], max_connections = 16 }}

        [[routes]]
        path = "/here"
        respond = {{ json = {{ status = "ok" }} }}

        [[routes]]
        path = "/*"
        upstream = "echo"
    """
    with GatewayProcess(config, tmp_path_factory.mktemp("peers")) as running:
        yield running


def program(name: str) -> str:
    """Where it is; without it a test is skipped, but not where all are to be run."""
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


def curl(gateway: GatewayProcess, path: str, *options: str) -> bytes:
    done = subprocess.run(
        [program("curl"), "--silent", "--show-error", "--fail", "--max-time", "10", "--noproxy", "*", *options,
         f"http://127.0.0.1:{gateway.port}{path}"],
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_gets(gateway: GatewayProcess) -> None:
    assert json.loads(curl(gateway, "/a?b=c")) == {"method": "GET", "path": "/a?b=c", "received": 0}
    assert curl(gateway, "/large") == LARGE


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_curl_gets_whatever_it_prefers(version: str, gateway: GatewayProcess) -> None:
    if version == "--http2" and b"HTTP2" not in subprocess.check_output([program("curl"), "--version"]):
        pytest.skip("curl is built without HTTP/2")
    assert curl(gateway, "/large", version) == LARGE


def test_curl_asks_for_the_head(gateway: GatewayProcess) -> None:
    assert curl(gateway, "/large", "--head").startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_posts(expect: str, gateway: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(LARGE)
    told = curl(gateway, "/", "--data-binary", f"@{file}", "--header", expect, "--expect100-timeout", "5")
    assert json.loads(told) == {"method": "POST", "path": "/", "received": len(LARGE)}


def test_curl_uploads_in_chunks(gateway: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(LARGE)
    told = curl(gateway, "/stored", "--upload-file", str(file), "--header", "Transfer-Encoding: chunked")
    assert json.loads(told) == {"method": "PUT", "path": "/stored", "received": len(LARGE)}


def test_curl_keeps_its_connection(gateway: GatewayProcess) -> None:
    first = f"http://127.0.0.1:{gateway.port}/here"
    told = curl(gateway, "/here", "--write-out", "%{num_connects} ", first)
    assert [int(number) for number in re.findall(rb"(\d) ", told)] == [1, 0]


@pytest.mark.parametrize("path", ["/here", "/there"])
def test_wrk_meets_no_error(path: str, gateway: GatewayProcess) -> None:
    done = subprocess.run(
        [program("wrk"), "--threads", "1", "--connections", "16", "--duration", "1s",
         f"http://127.0.0.1:{gateway.port}{path}"],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert "Socket errors" not in done.stdout
    assert "Non-2xx" not in done.stdout
    assert int(re.findall(r"(\d+) requests in", done.stdout)[0]) > 0


def test_h2load_meets_no_error(gateway: GatewayProcess) -> None:
    done = subprocess.run(
        [program("h2load"), "--h1", "--clients", "16", "--requests", "2000", f"http://127.0.0.1:{gateway.port}/here"],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert "status codes: 2000 2xx" in done.stdout
