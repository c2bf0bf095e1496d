"""A listener's connections: how many there are, and what is done to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableSequence
from typing import cast

from fastgw.counters import ACCEPTED, CLOSED, FAILED_HANDSHAKES, HANDSHAKES
from fastgw.gateway import Gateway
from fastgw.http1.message import RequestHead
from fastgw.net.arrival import Arrival
from fastgw.net.clock import Sweep
from fastgw.net.downstream import DownstreamConnection
from fastgw.net.hsts import HstsConnection
from fastgw.net.origin import Origin
from fastgw.net.refusals import Refusals
from fastgw.net.tls_listener import TlsListener
from fastgw.policy.ticket_secret import TicketSecret
from fastgw.snapshot import Listener

# Of up to 2 KiB each. Clients that send what nobody else sends push the others out, which then cost a parse again.
_HEADS_REMEMBERED = 512


class Server:
    """A listener's connections. `draining`: each closes after its answer.

    `refusals` is told of connections that never get as far as a request; `ticket_secret` is what all workers make the
    keys of TLS session tickets from; `report` writes a line on standard error; `counters` is the worker's column.
    """

    def __init__(
        self,
        gateway: Gateway,
        listener: Listener,
        sweep: Sweep,
        loop: asyncio.AbstractEventLoop,
        refusals: Refusals,
        ticket_secret: TicketSecret,
        report: Callable[[str], None],
        counters: MutableSequence[int] | memoryview,
    ) -> None:
        self.gateway = gateway
        self.listener = listener
        self.loop = loop
        self.connections: set[DownstreamConnection | Arrival] = set()
        self.sweep = sweep
        self.refusals = refusals
        self.draining = False
        # Of the first requests of connections, by their header lines: many clients send the same to the byte.
        self.heads: dict[bytes, RequestHead] = {}
        self._counters = counters
        self._ticket_secret = ticket_secret
        self._report = report
        self.tls = self._tls_of(listener)
        self._begins_with_request = self.tls is None and not listener.proxy_protocol

    def _tls_of(self, listener: Listener) -> TlsListener | None:
        secret = self._ticket_secret.value
        return None if listener.tls is None else TlsListener(listener, listener.tls, secret, self._report)

    def set_ticket_secret(self, secret: TicketSecret) -> None:
        """A new day's: sessions from before are not resumed any more."""
        self._ticket_secret = secret
        if self.tls is not None:
            self.tls.set_ticket_keys(secret.value)

    def connect(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        self._counters[ACCEPTED] += 1
        if self._begins_with_request:
            return cast(asyncio.Protocol, DownstreamConnection(self.gateway, self))
        return Arrival(self)

    def connection(self, origin: Origin) -> DownstreamConnection:
        """The protocol of a connection when what came ahead of its first request is over."""
        tls = self.listener.tls
        if tls is None or not tls.hsts or origin.session is None:
            return DownstreamConnection(self.gateway, self, origin)
        return HstsConnection(self.gateway, self, origin, tls.hsts)

    def remember(self, request: RequestHead) -> None:
        """A request that may be repeated; a new connection may begin with the same header lines."""
        if len(self.heads) >= _HEADS_REMEMBERED:
            self.heads.clear()
        self.heads[request.lines] = request

    def admit(self, connection: DownstreamConnection | Arrival) -> bool:
        """Takes a new connection in, unless there are as many as may be."""
        self.sweep.watched.add(connection)
        if len(self.connections) >= self.listener.max_connections:
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: DownstreamConnection | Arrival) -> None:
        self._counters[CLOSED] += 1
        self.handed_over(connection)

    def handshake_ended(self) -> None:
        self._counters[HANDSHAKES] += 1

    def handshake_failed(self) -> None:
        self.handshake_ended()
        self._counters[FAILED_HANDSHAKES] += 1

    def handed_over(self, connection: DownstreamConnection | Arrival) -> None:
        """Another protocol has the transport now."""
        self.sweep.watched.discard(connection)
        self.connections.discard(connection)

    def adopt(self, listener: Listener) -> None:
        """The same listener in a new configuration; its connections go on, under the new limits."""
        if listener.tls != self.listener.tls:
            # Those who come from now on get the new certificates.
            self.tls = self._tls_of(listener)
        if listener.limits != self.listener.limits:
            # They were judged under the old ones.
            self.heads.clear()
        self.listener = listener
        self._begins_with_request = self.tls is None and not listener.proxy_protocol
        for connection in self.connections:
            connection.adopt(listener)

    def drain(self) -> None:
        """Closes what is idle; what is busy closes after its answer."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()

    def end(self) -> None:
        """Ends what is left: tunnels in order, the others as they are."""
        for connection in tuple(self.connections):
            connection.end()

    def abort(self) -> None:
        """Closes what is left."""
        for connection in tuple(self.connections):
            connection.abort()
