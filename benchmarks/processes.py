"""Starting servers on chosen cores, waiting until they answer, and ending them, whatever happens."""

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.heads import HOST
from benchmarks.measure import is_alive, process_tree

END_SECONDS = 5.0  # to leave by itself after SIGTERM; peers have no traffic left by then
# Below the range that the kernel picks client ports from, or a client could take a port that was found free.
PORTS = range(20_000, 32_000)


class NotStartedError(Exception):
    """A server ended early or did not answer in time; says which, with the end of what it printed."""


def free_port() -> int:
    """A loopback TCP port that nothing listens on just now."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise NotStartedError(f"no free port between {PORTS.start} and {PORTS.stop}")


def raise_file_limit() -> int:
    """Raises this process's (and its children's) limit of open files to the hard limit; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def pinned(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """The command, bound to these cores; taskset becomes the command, so the process id is the command's own."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise NotStartedError("taskset is not installed (package util-linux)")
    return [taskset, "--cpu-list", ",".join(map(str, cores)), *command]


@contextlib.contextmanager
def running(command: Sequence[str], cores: Sequence[int], output: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server with what it prints going to `output`; ends it and all its descendants on the way out."""
    with output.open("ab") as sink:
        process = subprocess.Popen(
            pinned(cores, command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    family = process_tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in family[1:]:
        if is_alive(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_until_answering(
    process: subprocess.Popen[bytes], port: int, path: str, seconds: float, output: Path, tls: bool = False
) -> None:
    """Returns when a GET of `path` is answered with 200; raises NotStartedError when it won't be."""
    deadline = time.monotonic() + seconds
    status = 0
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStartedError(f"ended at once with code {process.returncode}: {tail(output)}")
        with contextlib.suppress(OSError):
            status = get(port, path, tls)[0]
            if status == 200:
                return
        time.sleep(0.02)
    answered = f"last answer {status}" if status else "no answer"
    raise NotStartedError(f"not ready within {seconds:g} s ({answered}): {tail(output)}")


def get(port: int, path: str, tls: bool) -> tuple[int, str, bytes]:
    """One GET on its own connection: status, head in lower case, body. Any failure is an OSError."""
    with connected(socket.create_connection(("127.0.0.1", port), timeout=5), tls) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"not an HTTP answer: {head[:80]!r}")
    return int(head[9:12]), head.decode("latin-1").lower(), body


def connected(plain: socket.socket, tls: bool) -> socket.socket:
    """The connection, or one over TLS on it, which asks for our host and believes every certificate."""
    if not tls:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=HOST)


def make_certificate(file: Path) -> None:
    """A certificate for our host and its key (ECDSA, P-256) in one PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NotStartedError("openssl is not installed: it makes the certificate")
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout {file}.key -out {file}.crt"
    command = [openssl, "req", *options.split(), "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_bytes(b"".join(Path(f"{file}.{end}").read_bytes() for end in ("crt", "key")))


def tail(output: Path, size: int = 600) -> str:
    text = output.read_text(errors="replace").strip() if output.exists() else ""
    return text[-size:] or "it printed nothing"
