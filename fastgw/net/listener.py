"""A listener's connections: how many there are, and what is done to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastgw.gateway import Gateway
from fastgw.net.arrival import Arrival
from fastgw.net.clock import Sweep
from fastgw.net.downstream import DownstreamConnection
from fastgw.net.hsts import HstsConnection
from fastgw.net.origin import Origin
from fastgw.net.refusals import Refusals
from fastgw.net.tls_listener import TlsListener
from fastgw.snapshot import Listener


class Server:
    """A listener's connections.

    `refusals` is told of connections that never get as far as a request; `ticket_master` is what all workers make the
    keys of TLS session tickets from; `report` writes a line on standard error.
    """

    def __init__(
        self,
        gateway: Gateway,
        listener: Listener,
        sweep: Sweep,
        loop: asyncio.AbstractEventLoop,
        refusals: Refusals,
        ticket_master: bytes,
        report: Callable[[str], None],
    ) -> None:
        self.gateway = gateway
        self.listener = listener
        self.loop = loop
        self.connections: set[DownstreamConnection | Arrival] = set()
        self.sweep = sweep
        self.refusals = refusals
        self.tls = None if listener.tls is None else TlsListener(listener, listener.tls, ticket_master, report)
        self._begins_with_request = self.tls is None and not listener.proxy_protocol

    def connect(self) -> DownstreamConnection | Arrival:
        """The protocol of a new connection."""
        return DownstreamConnection(self.gateway, self) if self._begins_with_request else Arrival(self)

    def connection(self, origin: Origin) -> DownstreamConnection:
        """The protocol of a connection when what came ahead of its first request is over."""
        tls = self.listener.tls
        if tls is None or not tls.hsts or origin.session is None:
            return DownstreamConnection(self.gateway, self, origin)
        return HstsConnection(self.gateway, self, origin, tls.hsts)

    def admit(self, connection: DownstreamConnection | Arrival) -> bool:
        """Takes a new connection in, unless there are as many as may be."""
        self.sweep.watched.add(connection)
        if len(self.connections) >= self.listener.max_connections:
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: DownstreamConnection | Arrival) -> None:
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
