"""What `fastgw status` tells of a running gateway: its processes, what they have counted, and its last events."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from fastgw import __version__
from fastgw.counters import ACCEPTED, CLOSED, EXCHANGES, FAILED_HANDSHAKES
from fastgw.runtime.events import Events
from fastgw.runtime.sockets import SocketTable
from fastgw.runtime.workers import Workers

# How exchanges ended: without a status, or by its hundreds.
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Status:
    """The state of a gateway that began now."""

    def __init__(self, config_path: Path, workers: Workers, table: SocketTable, events: Events) -> None:
        self._config_path = config_path
        self._workers = workers
        self._table = table
        self._events = events
        self._since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def now(self) -> dict[str, Any]:
        """Plain data, for JSON. `is_serving`: all workers are there."""
        workers = [self._worker(number, pid) for number, pid in sorted(self._workers.pids().items())]
        return {
            "version": __version__,
            "config": str(self._config_path.resolve()),
            "pid": os.getpid(),
            "since": self._since,
            "is_serving": len(workers) == self._workers.count,
            "listeners": [
                {"name": listener.name, "address": str(self._table.bound(listener.address))}
                for listener in self._workers.snapshot.listeners
            ],
            "workers": workers,
            "events": [dataclasses.asdict(event) for event in self._events.last],
        }

    def _worker(self, number: int, pid: int) -> dict[str, Any]:
        column = self._workers.column(number)
        exchanges = {_CLASSES[hundreds]: column[EXCHANGES + hundreds] for hundreds in range(len(_CLASSES))}
        return {
            "number": number,
            "pid": pid,
            "accepted": column[ACCEPTED],
            "connections": column[ACCEPTED] - column[CLOSED],
            "failed_handshakes": column[FAILED_HANDSHAKES],
            "exchanges": exchanges,
        }
