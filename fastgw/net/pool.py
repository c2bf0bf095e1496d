"""The connections to an upstream's endpoints, and the requests that wait for one.

`acquire` decides at once: the newest idle connection of the endpoint that the balancer picks (the newest is the least
likely to have been closed by the other side), or a new one that is being opened, or a place in the queue.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import deque
from typing import TYPE_CHECKING

from fastgw import errors
from fastgw.errors import Failure
from fastgw.net.clock import Sweep
from fastgw.net.upstream import IDLE, UpstreamConnection
from fastgw.policy.balancer import LeastRequests, RoundRobin

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.gateway import Gateway
    from fastgw.net.resolver import Resolver
    from fastgw.snapshot import Upstream

# A connection that has been idle for less has been watched by the loop all the time; one that has been idle for
# longer costs a system call to look at.
_TRUSTED_IDLE_S = 1.0


class UpstreamPool:
    """An upstream's connections in this worker. `active[i]` counts the requests in flight at endpoint i."""

    def __init__(
        self,
        upstream: Upstream,
        gateway: Gateway,
        resolver: Resolver,
        sweep: Sweep,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.upstream = upstream
        self.name = upstream.name
        self.host = upstream.endpoints[0].name.encode() if not upstream.endpoints[0].address.path else b"localhost"
        self.gateway = gateway
        weights = tuple(endpoint.weight for endpoint in upstream.endpoints)
        least = upstream.balance == "least-requests"
        self._balancer: LeastRequests | RoundRobin = LeastRequests(weights) if least else RoundRobin(weights)
        # What is left of its time when an idle connection is no longer taken for open.
        self._looked_at_s = upstream.idle_timeout - _TRUSTED_IDLE_S
        self.active = [0] * len(weights)
        self.all_endpoints = (1 << len(weights)) - 1
        self._idle: list[list[UpstreamConnection]] = [[] for _ in weights]
        self._queue: deque[tuple[float, Exchange]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._resolver = resolver
        self.sweep = sweep
        self.loop = loop
        sweep.each_tick.append(self._expire_queue)

    def __repr__(self) -> str:
        idle = [len(stack) for stack in self._idle]
        return f"<UpstreamPool {self.upstream.name} active={self.active} idle={idle} queued={len(self._queue)}>"

    # ports.Pool.

    def acquire(self, exchange: Exchange, fresh: bool) -> UpstreamConnection | None:
        """A connection that is open, or None: then the exchange is told later, or has been told already."""
        upstream = self.upstream
        index = self._balancer.pick(self.active, upstream.max_connections, exchange.tried)
        if index < 0:
            self._enqueue(exchange)
            return None
        self.active[index] += 1
        idle = self._idle[index]
        if fresh:
            if len(idle) + self.active[index] > upstream.max_connections:
                self._make_room(idle)
        else:
            while idle:
                connection = idle.pop()
                if connection.deadline > self.gateway.coarse_now + self._looked_at_s or _is_open(connection):
                    return connection
                connection.close_idle()
        task = self.loop.create_task(self._open(index, exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return None

    def forget(self, exchange: Exchange) -> None:
        """The exchange waits no more."""
        if self._queue:
            self._queue = deque(waiting for waiting in self._queue if waiting[1] is not exchange)

    # From the connections.

    def opened(self, connection: UpstreamConnection) -> None:
        self.sweep.watched.add(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange is done with it."""
        index = connection.endpoint_index
        self.active[index] -= 1
        self._idle[index].append(connection)
        connection.deadline = self.gateway.coarse_now + self.upstream.idle_timeout
        if self._queue:
            self.loop.call_soon(self._serve_queue)

    def closed(self, connection: UpstreamConnection, was_busy: bool) -> None:
        self.sweep.watched.discard(connection)
        index = connection.endpoint_index
        if was_busy:
            self.active[index] -= 1
            if self._queue:
                self.loop.call_soon(self._serve_queue)
        elif connection in self._idle[index]:
            self._idle[index].remove(connection)

    def close(self) -> None:
        """Closes what is idle, and opens no more."""
        for stack in self._idle:
            for connection in tuple(stack):
                connection.close_idle()
        for task in tuple(self._opening):
            task.cancel()

    # Opening.

    async def _open(self, index: int, exchange: Exchange) -> None:
        endpoint = self.upstream.endpoints[index]
        failure: Failure | None = None
        connection = UpstreamConnection(self, index, endpoint.name)
        try:
            async with asyncio.timeout(self.upstream.connect_timeout):
                await self._connect(connection, index)
        except TimeoutError:
            failure = errors.CONNECT_TIMEOUT
        except (OSError, UnicodeError) as error:
            failure = errors.NAME_UNRESOLVED if _is_resolution(error) else errors.CONNECT_FAILED
        if failure is None and connection.transport.is_closing():
            failure = errors.CONNECT_FAILED
        try:
            self._settle(index, exchange, connection, failure)
        except Exception:
            self.gateway.failed()
            exchange.crashed()

    def _settle(self, index: int, exchange: Exchange, connection: UpstreamConnection, failure: Failure | None) -> None:
        if failure is not None:
            self.active[index] -= 1
            if self._queue:
                self.loop.call_soon(self._serve_queue)
            if exchange.is_waiting():
                exchange.not_connected(failure, index)
        elif exchange.is_waiting():
            exchange.connected(connection)
        else:
            self.release(connection)

    async def _connect(self, connection: UpstreamConnection, index: int) -> None:
        address = self.upstream.endpoints[index].address
        if address.path:
            await self.loop.create_unix_connection(lambda: connection, address.path)
            return
        last: OSError | None = None
        for host in await self._resolver.addresses(address.host, self.upstream.dns_refresh):
            try:
                await self.loop.create_connection(lambda: connection, host, address.port)
                return
            except OSError as error:
                last = error
        raise last or OSError("no address")

    def _make_room(self, idle: list[UpstreamConnection]) -> None:
        if idle:
            idle[0].close_idle()

    # The queue.

    def _enqueue(self, exchange: Exchange) -> None:
        if len(self._queue) >= self.upstream.max_queued:
            exchange.not_connected(errors.QUEUE_FULL, -1)
            return
        self._queue.append((self.gateway.now() + self.upstream.queue_timeout, exchange))

    def _serve_queue(self) -> None:
        """Gives what has come free to those who have waited the longest."""
        limit = self.upstream.max_connections
        passed_over: deque[tuple[float, Exchange]] = deque()
        while self._queue and min(self.active) < limit:
            waiting = self._queue.popleft()
            exchange = waiting[1]
            if not exchange.is_waiting():
                continue
            if not self._has_room(exchange):
                # All that is free is excluded for it: its place and its time stay as they are.
                passed_over.append(waiting)
                continue
            connection = self.acquire(exchange, False)
            if connection is not None:
                exchange.connected(connection)
        passed_over.extend(self._queue)
        self._queue = passed_over

    def _has_room(self, exchange: Exchange) -> bool:
        limit, tried = self.upstream.max_connections, exchange.tried
        return any(count < limit and not tried >> index & 1 for index, count in enumerate(self.active))

    def _expire_queue(self, now: float) -> None:
        while self._queue and self._queue[0][0] < now:
            _, exchange = self._queue.popleft()
            if exchange.is_waiting():
                exchange.not_connected(errors.QUEUE_TIMEOUT, -1)


def _is_open(connection: UpstreamConnection) -> bool:
    """Whether an idle connection is still open; anything to read on it means that it isn't, or isn't sane."""
    if connection.reading != IDLE or connection.transport.is_closing():
        return False
    sock = connection.transport.get_extra_info("socket")
    if sock is None:
        return False
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    return not poller.poll(0)


def _is_resolution(error: Exception) -> bool:
    # A name that can't be encoded has no address either.
    return isinstance(error, (socket.gaierror, UnicodeError))
