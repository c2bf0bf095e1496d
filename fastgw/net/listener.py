"""A listener's connections: how many there are, and what is done to all of them."""

from __future__ import annotations

import asyncio

from fastgw.gateway import Gateway
from fastgw.net.clock import Sweep
from fastgw.net.downstream import DownstreamConnection
from fastgw.snapshot import Listener


class Server:
    """A listener's connections."""

    def __init__(self, gateway: Gateway, listener: Listener, sweep: Sweep, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway = gateway
        self.listener = listener
        self.loop = loop
        self.connections: set[DownstreamConnection] = set()
        self.sweep = sweep

    def connect(self) -> DownstreamConnection:
        return DownstreamConnection(self.gateway, self)

    def admit(self, connection: DownstreamConnection) -> bool:
        """Takes a new connection in, unless there are as many as may be."""
        self.sweep.watched.add(connection)
        if len(self.connections) >= self.listener.max_connections:
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: DownstreamConnection) -> None:
        self.sweep.watched.discard(connection)
        self.connections.discard(connection)

    def drain(self) -> None:
        """Closes what is idle; what is busy closes after its answer."""
        for connection in tuple(self.connections):
            connection.drain()

    def abort(self) -> None:
        """Closes what is left."""
        for connection in tuple(self.connections):
            connection.abort()
