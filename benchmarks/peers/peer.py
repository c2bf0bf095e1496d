"""What the harness knows of a gateway: a `Peer` writes its configuration and says how to start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import Workload

IDLE_SECONDS = 300  # how long peers leave idle connections alone: longer than any turn
REQUESTS_PER_CONNECTION = 1_000_000  # more than one connection can carry in a turn


@dataclass(frozen=True, slots=True)
class Setup:
    """What a peer needs to know for one turn."""

    workload: Workload
    directory: Path  # its own, empty and removed afterwards, in memory where the system allows
    port: int
    backend_port: int
    files: int  # limit of open files

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"

    @property
    def certificate(self) -> Path:
        """For a workload over TLS: certificate and key in one PEM file."""
        return self.directory / "certificate.pem"


class Peer(Protocol):
    """One gateway program."""

    name: str
    # Whether the access log is what the program prints, so that the harness sends its output there.
    logs_to_stdout: bool
    # Whether it has an access log at all.
    logs: bool

    def missing(self) -> str | None:
        """Why it can't run here, or None."""
        ...

    def version(self) -> str: ...

    def workers(self, pid: int) -> list[int]:
        """The processes that carry the traffic, of the program that runs as `pid`."""
        ...

    def command(self, setup: Setup) -> list[str]:
        """Writes its configuration into the directory; returns the command that runs it in the foreground."""
        ...
