"""The process that exports traces: `python -m fastgw.runtime.trace_helper FD`, FD being the control channel.

It takes the workers' records from their socket as fast as they come, and offers them to a collector. It may be killed
at any moment: what it had is lost, and nothing else. It ends when the supervisor is gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastgw.runtime import channel
from fastgw.runtime import trace_messages as m
from fastgw.runtime.trace_export import Backlog, Collector, Exporter

if TYPE_CHECKING:
    from fastgw.config.trace_settings import TraceExport

# What `ps` and `top` show.
_NAME = "fastgw-traces"
# More than the kernel lets through in one piece.
_DATAGRAM_SIZE_MAX = 4 * 1024 * 1024
# How often it is looked whether all records of a gateway that ends are there.
_LOOK_S = 0.25
# At the end, how long a collector may take for what is left.
_LAST_WORDS_S = 3.0


class Supervisor:
    """The other end of the channel, as it looks from here. `changed`: there are new settings, or it is time to end."""

    def __init__(self, control: socket.socket, backlog: Backlog) -> None:
        self._control = control
        self._backlog = backlog
        self.changed = threading.Event()
        self.export: TraceExport | None = None
        # They end when nothing comes any more.
        self.receivers: list[threading.Thread] = []

    def listen(self) -> None:
        """In a thread, to its end."""
        try:
            while True:
                message, descriptors = channel.receive(self._control)
                if message[0] == m.SETTINGS:
                    self.export = message[1]
                    for descriptor in descriptors:
                        self._take_from(socket.socket(fileno=descriptor))
                else:
                    self._backlog.end()
                self.changed.set()
        except (EOFError, OSError):
            # It is gone, and may have a successor already.
            os._exit(0)

    def _take_from(self, workers: socket.socket) -> None:
        receiver = threading.Thread(target=_receive, args=(workers, self._backlog), name="records", daemon=True)
        receiver.start()
        self.receivers.append(receiver)

    def count(self, exported: int, lost: int) -> None:
        self._send((m.COUNTS, exported, lost))

    def tell(self, outcome: str, detail: str) -> None:
        self._send((m.EVENT, outcome, detail))

    def _send(self, message: channel.Message) -> None:
        try:
            channel.send(self._control, message)
        except OSError:
            os._exit(0)


def _receive(workers: socket.socket, backlog: Backlog) -> None:
    workers.settimeout(_LOOK_S)
    while True:
        try:
            datagram = workers.recv(_DATAGRAM_SIZE_MAX)
        except TimeoutError:
            if backlog.is_ending:
                return
        else:
            backlog.put(pickle.loads(datagram))


def run(supervisor: Supervisor, backlog: Backlog) -> None:
    """One configuration after the other, until the end."""
    exporter = Exporter(backlog, supervisor.changed.wait, supervisor.count, supervisor.tell)
    supervisor.changed.wait()
    while not backlog.is_ending:
        supervisor.changed.clear()
        export = supervisor.export
        if export is None:
            break
        collector = Collector(export)
        while not (supervisor.changed.is_set() or backlog.is_ending):
            exporter.step(export, collector)
        collector.close()
    if supervisor.export is not None:
        for receiver in supervisor.receivers:
            receiver.join(_LAST_WORDS_S)
        _finish(exporter, supervisor.export)


def _finish(exporter: Exporter, export: TraceExport) -> None:
    """What is there already still goes out, if that is soon done."""
    until = time.monotonic() + _LAST_WORDS_S
    collector = Collector(export)
    while not exporter.is_empty and time.monotonic() < until and exporter.step(export, collector):
        pass
    exporter.give_up()


def main() -> None:
    # An orchestrator's is for the supervisor, with which this process ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(_NAME, encoding="ascii")
    backlog = Backlog()
    supervisor = Supervisor(control, backlog)
    threading.Thread(target=supervisor.listen, name="control", daemon=True).start()
    run(supervisor, backlog)


if __name__ == "__main__":
    main()
