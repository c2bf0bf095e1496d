"""Idle clients: many keep-alive connections, each opened, used for one request, and then held; what they cost."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

from benchmarks.bench import Bench, Running
from benchmarks.heads import build_requests
from benchmarks.measure import memory
from benchmarks.processes import NotStartedError, connected
from benchmarks.results import MEMORY_BEFORE, MEMORY_BYTES

# Several source addresses, so that no number of connections meets the limit of one address's client ports.
SOURCES = tuple(f"127.0.0.{last}" for last in range(1, 9))
ANSWER_SECONDS = 10.0
# Lets the kernel pick the port at connect, when it knows the destination; Python has no name for it yet.
_IP_BIND_ADDRESS_NO_PORT = 24


def measure_idle(_bench: Bench, server: Running, problems: list[str]) -> tuple[dict[str, float], int]:
    """Memory of the peer's processes before any of the connections, and while all of them are held."""
    workload = server.setup.workload
    before = memory(server.process.pid).proportional_bytes
    count = workload.connections
    with held(server.setup.port, count, build_requests(workload)[0], workload.tls) as connections:
        during = memory(server.process.pid).proportional_bytes
        ended = closed_by_peer(connections)
    if ended:
        problems.append(f"{ended} of {count} idle connections were closed by the peer")
    return {MEMORY_BYTES: (during - before) / count, MEMORY_BEFORE: float(before)}, count


@contextlib.contextmanager
def held(port: int, count: int, request: bytes, tls: bool, burst: bool = False) -> Iterator[list[socket.socket]]:
    """Opens `count` connections, sends the request on each and reads the answer; closes them on the way out.

    With `burst`, all of them are opened before the first is used. Raises NotStartedError when any of them is refused or
    answered with anything but 200.
    """
    connections: list[socket.socket] = []
    try:
        for number in range(count):
            connections.append(_open(port, SOURCES[number % len(SOURCES)], tls))
            if not burst:
                _use(connections[-1], request)
        if burst:
            for connection in connections:
                _use(connection, request)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def closed_by_peer(connections: list[socket.socket]) -> int:
    """How many of the held connections the other side has ended."""
    ended = 0
    for connection in connections:
        connection.setblocking(False)  # with a timeout, Python would wait for something to read
        try:
            # Nobody reads from it any more, so what there is need not stay there.
            ended += connection.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            continue
        except OSError:
            ended += 1
    return ended


def _open(port: int, source: str, tls: bool) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", port))
        return connected(connection, tls)
    except OSError as error:
        connection.close()
        raise NotStartedError(f"can't open an idle connection: {error}") from error
    return connection


def _use(connection: socket.socket, request: bytes) -> None:
    try:
        _ask(connection, request)
    except OSError as error:
        raise NotStartedError(f"an idle connection can't be used: {error}") from error


def _ask(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = b""
    while not _is_complete(answer):
        received = connection.recv(4096)
        if not received:
            raise ConnectionError(f"closed before its answer was complete: {answer[:80]!r}")
        answer += received
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered {answer[:40]!r}")


def _is_complete(answer: bytes) -> bool:
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return body.endswith(b"0\r\n\r\n")
