"""Load by new connections, one for each request: plain, or over TLS with a new session.

Unlike wrk, it resumes no session, and none of its requests is broken off when the time is over. It prints what wrk's
script prints.

`python -m benchmarks.new_connections REQUEST PORT CONNECTIONS SECONDS tls|plain`: REQUEST is a file with the request's
bytes.
"""

import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from benchmarks.load import MARK, TIMEOUT_SECONDS
from benchmarks.processes import connected


class Client(threading.Thread):
    """One connection after the other, until it is time."""

    def __init__(self, request: bytes, port: int, until: float, tls: bool) -> None:
        super().__init__()
        self._request = request
        self._port = port
        self._until = until
        self._tls = tls
        self.took_us: list[float] = []
        self.read = 0
        self.errors = {"connect": 0, "read": 0, "status": 0}

    def run(self) -> None:
        while (begun := time.monotonic()) < self._until:
            try:
                plain = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_SECONDS)
                with plain, connected(plain, self._tls) as connection:
                    connection.sendall(self._request)
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except ssl.SSLError:
                self.errors["read"] += 1
                continue
            except OSError:
                self.errors["connect"] += 1
                continue
            self.errors["status"] += not answer.startswith(b"HTTP/1.1 200")
            self.read += len(answer)
            self.took_us.append((time.monotonic() - begun) * 1e6)


def main() -> None:
    file, port, connections, seconds, kind = sys.argv[1:]
    request = Path(file).read_bytes()
    begun = time.monotonic()
    until = begun + float(seconds)
    clients = [Client(request, int(port), until, kind == "tls") for _ in range(int(connections))]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took = sorted(one for client in clients for one in client.took_us)
    result = {
        "requests": len(took),
        "bytes": sum(client.read for client in clients),
        "duration_us": (time.monotonic() - begun) * 1e6,
        "p50_us": took[len(took) // 2] if took else 0.0,
        "p99_us": took[len(took) * 99 // 100] if took else 0.0,
        "errors": {kind: sum(client.errors[kind] for client in clients) for kind in clients[0].errors},
    }
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
