"""A worker: one event loop that carries traffic on the sockets it inherits.

`python -m fastgw.runtime.worker FD`: FD is the control channel, over which the snapshot and the listening sockets'
numbers come. It ends when told to, or when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import sys
import time
from email.utils import formatdate

import uvloop

from fastgw.gateway import Gateway
from fastgw.net.clock import Sweep
from fastgw.net.listener import Server
from fastgw.net.log_sink import LogSink, NoLog
from fastgw.net.pool import UpstreamPool
from fastgw.net.refusals import Refusals
from fastgw.net.resolver import Resolver
from fastgw.runtime import channel
from fastgw.runtime.report import report, report_exception
from fastgw.runtime.sockets import BACKLOG, hold_off, shut
from fastgw.snapshot import Snapshot

# How often a draining worker looks whether it is done.
_DRAIN_LOOK_S = 0.02


class Worker:
    """Everything that one worker runs."""

    def __init__(
        self,
        snapshot: Snapshot,
        sockets: list[socket.socket],
        loop: asyncio.AbstractEventLoop,
        ticket_master: bytes = b"",
    ) -> None:
        self._snapshot = snapshot
        self._sockets = sockets
        self._loop = loop
        self._stop = asyncio.Event()
        self._date_until = 0.0
        self._sweep = Sweep(loop, time.monotonic, report_exception)
        settings = snapshot.access_log
        self.log: LogSink | NoLog = (
            NoLog() if settings.path == "off" else LogSink(settings, _wall_offset, report, report_exception)
        )
        self.gateway = Gateway(
            snapshot=snapshot,
            pools={},
            log=self.log,
            now=time.monotonic,
            chance=random.random,
            id_prefix=os.urandom(8).hex().encode(),
            failed=report_exception,
        )
        resolver = Resolver(loop, time.monotonic)
        for upstream in snapshot.upstreams.values():
            self.gateway.pools[upstream.name] = UpstreamPool(
                upstream, self.gateway, resolver, self._sweep, loop, report
            )
        self.gateway.bind_routes()
        refusals = Refusals(report, time.monotonic)
        self._sweep.each_tick.append(refusals.tick)
        self.servers = [
            Server(self.gateway, listener, self._sweep, loop, refusals, ticket_master, report)
            for listener in snapshot.listeners
        ]

    async def run(self, control: socket.socket) -> None:
        """Serves until told to stop, then drains."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGUSR1, self.log.reopen)
        self._loop.add_reader(control.fileno(), self._stop.set)
        self._sweep.each_tick += [self._keep_time, self.log.tick]
        self._keep_time(time.monotonic())
        self._sweep.start()
        listening = [await self._listen(server, sock) for server, sock in zip(self.servers, self._sockets, strict=True)]
        channel.send(control, ("ready", os.getpid()))
        await self._stop.wait()
        await self._drain(listening)

    async def _listen(self, server: Server, sock: socket.socket) -> asyncio.Server:
        if sock.family == socket.AF_UNIX:
            return await self._loop.create_unix_server(server.connect, sock=sock, backlog=BACKLOG)
        return await self._loop.create_server(server.connect, sock=sock, backlog=BACKLOG)

    async def _drain(self, listening: list[asyncio.Server]) -> None:
        self.gateway.draining = True
        # A Unix socket is all workers' together, and the supervisor's to close.
        own = [sock.dup() for sock in self._sockets if sock.family != socket.AF_UNIX]
        for sock in own:
            # The next turns of the loop accept what is there already.
            hold_off(sock)
        await asyncio.sleep(_DRAIN_LOOK_S)
        for one in listening:
            one.close()
        for sock in own:
            shut(sock)
        for server in self.servers:
            server.drain()
        until = time.monotonic() + self._snapshot.drain_timeout
        while any(server.connections for server in self.servers):
            if time.monotonic() > until:
                left = sum(len(server.connections) for server in self.servers)
                report(f"drain_timeout is over: {left} connections are closed as they are")
                break
            await asyncio.sleep(_DRAIN_LOOK_S)
        for server in self.servers:
            server.abort()
        self.log.close()

    def _keep_time(self, now: float) -> None:
        self.gateway.coarse_now = now
        if now >= self._date_until:
            wall = now + _wall_offset()
            self._date_until = now + 1.0 - wall % 1.0
            self.gateway.http_date = formatdate(wall, usegmt=True).encode()


def _wall_offset() -> float:
    """What the wall clock shows when the monotonic clock shows 0; not constant, the wall clock is set now and then."""
    return time.time() - time.monotonic()  # noqa: TID251


def _tame_garbage_collector() -> None:
    # What was loaded lives as long as the worker; exchanges free themselves by reference count.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    snapshot, numbers, ticket_master = channel.receive(control)
    sockets = [socket.socket(fileno=number) for number in numbers]
    _tame_garbage_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        worker = Worker(snapshot, sockets, runner.get_loop(), ticket_master)
        runner.run(worker.run(control))


if __name__ == "__main__":
    main()
