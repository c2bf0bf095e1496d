"""The connections to an upstream's endpoints, and the requests that wait for one.

`acquire` decides at once: the newest idle connection of the endpoint that the balancer picks (the newest is the least
likely to have been closed by the other side), or a new one that is being opened, or a place in the queue.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from fastgw import errors, ports
from fastgw.counters import CONNECTS, FAILURES, QUEUED, UPSTREAM, WAITED, WAITED_US
from fastgw.errors import Failure
from fastgw.net import proxy_header
from fastgw.net.admission import Tell
from fastgw.net.clock import Sweep
from fastgw.net.dial import Dialer
from fastgw.net.endpoint_states import EndpointStates
from fastgw.net.hedges import Hedges
from fastgw.net.idle import OPEN, UNREAD, look_at, newest_that_told
from fastgw.net.retries import Retries
from fastgw.net.upstream import UpstreamConnection
from fastgw.rows import Rows

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.gateway import Gateway
    from fastgw.net.resolver import Resolver
    from fastgw.snapshot import Upstream

# A connection that has been idle for less has been watched by the loop all the time; one that has been idle for
# longer costs a system call to look at.
_TRUSTED_IDLE_S = 1.0


class UpstreamPool:
    """An upstream's connections in this worker. `wall` tells the time of day, in seconds."""

    def __init__(
        self,
        upstream: Upstream,
        gateway: Gateway,
        resolver: Resolver,
        sweep: Sweep,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[str], None],
        wall: Callable[[], float],
        rows: Rows | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._rows = rows = rows or Rows()
        # What is counted of it as a whole.
        self._row = rows.row(UPSTREAM, upstream.name)
        self.upstream = upstream
        self.name = upstream.name
        self.gateway = gateway
        states = EndpointStates(upstream, gateway.now, gateway.chance, report, rows=rows, tell=tell)
        self._retries = Retries(upstream.retry, gateway.now, wall, gateway.chance) if upstream.retry else None
        self.retries: ports.Retries | None = self._retries
        self.hedges: ports.Hedges | None = None
        hedge = upstream.retry.hedge if upstream.retry else None
        if upstream.retry and hedge:
            self.hedges = Hedges(hedge, upstream.retry.hedges_by_default, gateway, loop)
        self._counts_requests = self._retries is not None or states.admission is not None
        # What is left of its time when an idle connection is no longer taken for open.
        self._looked_at_s = upstream.idle_timeout - _TRUSTED_IDLE_S
        self.active = states.active
        self._idle: list[list[UpstreamConnection]] = [[] for _ in self.active]
        self._queue: deque[tuple[float, Exchange]] = deque()
        # Who waits for a new connection, and since when.
        self._dialling: dict[Exchange, float] = {}
        # Exchanges that wait before a retry.
        self._backing_off = 0
        self._dialer = Dialer(upstream, states.slots.endpoints, resolver, loop, report, gateway.now)
        self._retired = False
        self._set_states(states)
        self.sweep = sweep
        self.loop = loop
        sweep.each_tick.append(self._expire_queue)
        if states.ticks:
            sweep.each_tick.append(self._tick)

    def _set_states(self, states: EndpointStates) -> None:
        self.states = states
        self.observer: ports.Observer | None = states if states.observes else None
        self._pick = states.balancer.pick
        self.sticky = states.sticky
        self._gone = states.slots.gone
        # What a client of HTTP/1.0 does not say.
        first = next(iter(states.slots.present()), None)
        self.host = first.name.encode() if first is not None and not first.address.path else b"localhost"

    def __repr__(self) -> str:
        idle = [len(stack) for stack in self._idle]
        return f"<UpstreamPool {self.upstream.name} active={self.active} idle={idle} queued={len(self._queue)}>"

    # ports.Pool.

    def acquire(self, exchange: Exchange, fresh: bool) -> UpstreamConnection | None:
        """A connection that is open, or None: then the exchange is told later, or has been told already."""
        upstream, states = self.upstream, self.states
        if not exchange.tries:
            exchange.tries = 1
            if self._counts_requests and not self._admit(exchange):
                return None
        if upstream.max_requests and self._is_full():
            self._enqueue(exchange)
            return None
        unavailable = self._unavailable(exchange) if exchange.tried else states.out
        if states.looks_at_request:
            index = states.pick_for(exchange, upstream.max_connections, unavailable)
        else:
            index = self._pick(self.active, upstream.max_connections, unavailable)
        if index < 0:
            self._enqueue(exchange)
            return None
        self.active[index] += 1
        idle = self._idle[index]
        header = b""
        if upstream.proxy_protocol:
            header = self._header(exchange)
            connection = None if fresh else newest_that_told(header, idle)
            if connection is not None:
                return connection
            self._make_room(index)
        elif fresh:
            self._make_room(index)
        else:
            unread: list[UpstreamConnection] = []
            while idle:
                connection = idle.pop()
                if connection.deadline > self.gateway.coarse_now + self._looked_at_s:
                    return connection
                state = look_at(connection)
                if state == OPEN:
                    idle += unread
                    return connection
                if state == UNREAD and connection.tls is not None:
                    # A session ticket, or an end: the loop will find out, and nobody is sent there meanwhile.
                    unread.append(connection)
                else:
                    connection.close_idle()
            idle += unread
        self._open(index, exchange, header)
        return None

    def _admit(self, exchange: Exchange) -> bool:
        """Whether a new request may go to any endpoint; else it has been told why not."""
        admission = self.states.admission
        failure = admission.refusal() if admission is not None else None
        if failure is not None:
            exchange.not_connected(failure, -1)
            return False
        exchange.admission = admission
        if self._retries is not None:
            self._retries.requested()
        return True

    def _unavailable(self, exchange: Exchange) -> int:
        """The endpoints that a request can't go to that has been tried before; when none is left, it begins anew."""
        states = self.states
        unavailable = states.excluded(exchange.tried)
        if unavailable == states.everyone:
            exchange.tried = 0
            return states.out
        return unavailable

    def has_others(self, tried: int) -> bool:
        """Whether some endpoint is available and has not been tried."""
        return self.states.excluded(tried) != self.states.everyone

    def tried_in_vain(self, endpoint: int, condition: int) -> None:
        self.states.rows[endpoint][FAILURES + condition.bit_length()] += 1

    def look_up_rows_again(self) -> None:
        """The rows of counters are others than before."""
        self._row = self._rows.row(UPSTREAM, self.name)
        self.states.look_up_rows_again()

    def write_levels(self) -> None:
        """How it is now, into the rows of counters."""
        self._row[QUEUED] = len(self._queue)
        self.states.write_levels(self._idle, self._row)

    def has_room(self, tried: int) -> bool:
        """Whether some such endpoint takes a request at once."""
        return not self._is_full() and self._is_free(self.states.excluded(tried))

    def try_again(self, exchange: Exchange, wait_s: float) -> None:
        """Lets it go on after a while."""
        self._backing_off += 1
        self.loop.call_later(wait_s, self._go_on, exchange)

    def _go_on(self, exchange: Exchange) -> None:
        self._backing_off -= 1
        try:
            exchange.try_again()
        except Exception:
            self.gateway.failed()
            exchange.crashed()

    def _tick(self, now: float) -> None:
        before = self.states.out
        self.states.tick(now)
        if before != self.states.out and self._queue:
            self._serve_queue()

    def set_unhealthy(self, names: Collection[str]) -> None:
        """The endpoints whose checks fail."""
        self.states.set_unhealthy(names)
        if self._queue:
            self.loop.call_soon(self._serve_queue)

    def forget(self, exchange: Exchange) -> None:
        """The exchange waits no more."""
        self._count_dial(exchange)
        for waiting in tuple(self._queue):
            if waiting[1] is exchange:
                self._queue.remove(waiting)
                self._count_wait(waiting)

    # From the connections.

    def opened(self, connection: UpstreamConnection) -> None:
        self.sweep.watched.add(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange is done with it."""
        index = connection.endpoint_index
        self.active[index] -= 1
        self._idle[index].append(connection)
        connection.deadline = self.gateway.coarse_now + self.upstream.idle_timeout
        if self._gone and self._gone >> index & 1:
            # Overdue at once.
            connection.deadline = self.gateway.coarse_now
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

    def follow(self, upstream: Upstream) -> None:
        """The same upstream, with other endpoints. Those that stay keep their connections and all that is known of
        them; what is busy at one that is gone ends in its time."""
        before = self.states
        slots = before.slots.followed_by(upstream.endpoints, self._is_unused)
        self.upstream = upstream
        del self._idle[len(slots.endpoints) :]
        self._idle += [[] for _ in range(len(slots.endpoints) - len(self._idle))]
        self._dialer.follow(slots.endpoints)
        self._set_states(before.followed_by(upstream, slots))
        for index, stack in enumerate(self._idle):
            for connection in tuple(stack) if self._gone >> index & 1 else ():
                connection.close_idle()
        if self._queue:
            self.loop.call_soon(self._serve_queue)

    def _is_unused(self, index: int) -> bool:
        return not self.active[index] and not self._idle[index]

    def retire(self) -> None:
        """The configuration has no use for it any more: it serves who waits for it, and keeps nothing."""
        self._retired = True
        # What is released from now on is overdue at once.
        self.upstream = dataclasses.replace(self.upstream, idle_timeout=0.0)
        for stack in self._idle:
            for connection in tuple(stack):
                connection.close_idle()

    # Opening.

    def _open(self, index: int, exchange: Exchange, header: bytes) -> None:
        name = self.states.slots.endpoints[index].name
        connection = UpstreamConnection(self, index, name, self._dialer.tls[index], header)
        self._dialling[exchange] = self.gateway.now()
        self._dialer.dial_then(connection, header, partial(self._dialled, index, exchange, connection))

    def _dialled(self, index: int, exchange: Exchange, connection: UpstreamConnection, failure: Failure | None) -> None:
        self._count_dial(exchange)
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
            elif self.observer is not None:
                self.observer.failed(index)
            return
        self.states.rows[index][CONNECTS] += 1
        if exchange.is_waiting():
            exchange.connected(connection)
        else:
            self.release(connection)

    def _count_dial(self, exchange: Exchange) -> None:
        began = self._dialling.pop(exchange, None)
        if began is not None:
            exchange.connect_s += self.gateway.now() - began

    def _make_room(self, index: int) -> None:
        """For one that is opened while there are idle ones that will not do."""
        idle = self._idle[index]
        if idle and len(idle) + self.active[index] > self.upstream.max_connections:
            idle[0].close_idle()

    def _header(self, exchange: Exchange) -> bytes:
        """What a connection tells of the client before anything else."""
        downstream = exchange.downstream
        source, destination = downstream.addresses()
        if exchange.client != downstream.client:
            # A trusted proxy speaks for it, and does not say from which port.
            source = (exchange.client.decode("latin-1"), 0)
        return proxy_header.header(self.upstream.proxy_protocol, source, destination)

    # The queue.

    def _enqueue(self, exchange: Exchange) -> None:
        if self.states.out == self.states.everyone:
            exchange.not_connected(errors.NO_ENDPOINT, -1)
            return
        if len(self._queue) >= self.upstream.max_queued:
            exchange.not_connected(errors.QUEUE_FULL, -1)
            return
        self._row[WAITED] += 1
        self._queue.append((self.gateway.now() + self.upstream.queue_timeout, exchange))

    def _serve_queue(self) -> None:
        """Gives what has come free to those who have waited the longest."""
        limit = self.upstream.max_connections
        passed_over: deque[tuple[float, Exchange]] = deque()
        while self._queue and self._least_active() < limit and not self._is_full():
            waiting = self._queue.popleft()
            exchange = waiting[1]
            if not exchange.is_waiting():
                continue
            if not self._is_free(self._unavailable(exchange)):
                # All that is free is excluded for it: its place and its time stay as they are.
                passed_over.append(waiting)
                continue
            self._count_wait(waiting)
            connection = self.acquire(exchange, False)
            if connection is not None:
                exchange.connected(connection)
        passed_over.extend(self._queue)
        self._queue = passed_over

    def _count_wait(self, waiting: tuple[float, Exchange]) -> None:
        until, exchange = waiting
        waited_s = max(0.0, self.gateway.now() - until + self.upstream.queue_timeout)
        exchange.queued_s += waited_s
        self._row[WAITED_US] += int(waited_s * 1e6)

    def _is_full(self) -> bool:
        most = self.upstream.max_requests
        return most > 0 and sum(self.active) >= most

    def _least_active(self) -> int:
        """Where nobody is, there is no room."""
        if not self._gone:
            return min(self.active)
        present = (count for index, count in enumerate(self.active) if not self._gone >> index & 1)
        return min(present, default=self.upstream.max_connections)

    def _is_free(self, unavailable: int) -> bool:
        """Whether some endpoint takes a request at once that is not one of those."""
        limit = self.upstream.max_connections
        return any(count < limit and not unavailable >> index & 1 for index, count in enumerate(self.active))

    def _expire_queue(self, now: float) -> None:
        is_unused = not self._queue and not self._backing_off and not any(self.active) and not any(self._idle)
        if self._retired and is_unused:
            self.sweep.each_tick.remove(self._expire_queue)
            if self.states.ticks:
                self.sweep.each_tick.remove(self._tick)
        while self._queue and self._queue[0][0] < now:
            waiting = self._queue.popleft()
            exchange = waiting[1]
            if exchange.is_waiting():
                self._count_wait(waiting)
                exchange.not_connected(errors.QUEUE_TIMEOUT, -1)
