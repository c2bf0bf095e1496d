"""What carries the traffic of one worker: gateway, pools and listeners; and how a new snapshot takes their place.

What a new snapshot leaves as it was stays: connections of clients, pools of upstreams, the log. Exchanges in flight
end on what they began with.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from email.utils import formatdate

from fastgw.counters import HEARTBEAT
from fastgw.gateway import Gateway
from fastgw.net.clock import Sweep, wall, wall_offset
from fastgw.net.listener import Server
from fastgw.net.log_sink import NoLog
from fastgw.net.mirror import RouteMirror, copies_gateway
from fastgw.net.news_sink import NewsSink
from fastgw.net.pool import UpstreamPool
from fastgw.net.refusals import Refusals
from fastgw.net.resolver import Resolver
from fastgw.policy.ticket_secret import TicketSecret
from fastgw.runtime.messages import Found, Unhealthy
from fastgw.runtime.observation import Observation
from fastgw.runtime.overrides import Overrides, overridden
from fastgw.runtime.report import report, report_exception
from fastgw.runtime.row_layout import Layout
from fastgw.runtime.sockets import BACKLOG, hold_off, shut
from fastgw.snapshot import Address, Listener, Snapshot, Upstream

# Listening sockets by the addresses that they are for.
Sockets = dict[Address, list[socket.socket]]

# For how long connections that are there already are still accepted when their listener goes.
_LAST_ACCEPTS_S = 0.02


@dataclass(frozen=True)
class Serving:
    """A listener that is served: its connections, and what accepts them."""

    server: Server
    accepting: list[tuple[socket.socket, asyncio.Server]]


@dataclass(frozen=True)
class Prepared:
    """A snapshot that can be adopted at once: `sockets` are for the listeners that are new."""

    snapshot: Snapshot
    sockets: Sockets


class Traffic:
    """Everything that one worker runs. `counters` is its column of the shared memory; `ticket_secret` is what the keys
    of TLS session tickets are made from; somebody else listens on at the addresses `lent` when we don't; `found` is
    what upstreams begin with that look for their endpoints; `records` is where traces are sent to, and `news` where all
    else goes that the supervisor is told."""

    def __init__(
        self,
        snapshot: Snapshot,
        counters: memoryview,
        ticket_secret: TicketSecret,
        lent: frozenset[Address],
        found: Found,
        records: socket.socket,
        news: NewsSink,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._lent = lent
        self._ticket_secret = ticket_secret
        self._refusals = Refusals(report, time.monotonic)
        self._counters = counters
        self._date_until = 0.0
        self._sweep = Sweep(loop, time.monotonic, report_exception)
        self._news = news
        self._serving: dict[Address, Serving] = {}
        # Those whose listener is gone, as long as they have connections.
        self._retired: list[Server] = []
        self._resolver = Resolver(loop, time.monotonic)
        self.gateway = Gateway(
            snapshot=snapshot,
            pools={},
            log=NoLog(),
            now=time.monotonic,
            chance=random.random,
            id_prefix=os.urandom(8).hex().encode(),
            failed=report_exception,
            counters=counters,
        )
        self._pools: dict[str, UpstreamPool] = {}
        self._mirrors: dict[str, RouteMirror] = {}
        self._unhealthy: Unhealthy = {}
        self._found = found
        self._overrides: Overrides = {}
        self.observation = Observation(self.gateway, records, news, self._write_levels)
        self._set_pools(snapshot)

    @property
    def snapshot(self) -> Snapshot:
        return self.gateway.snapshot

    async def start(self, sockets: Sockets) -> None:
        """Accepts connections from now on."""
        self._sweep.each_tick += [self._keep_time, self._refusals.tick, self.observation.tick]
        self._keep_time(time.monotonic())
        self._sweep.start()
        await self._set_listeners(Prepared(self.snapshot, sockets))

    async def adopt(self, prepared: Prepared) -> None:
        """Puts a snapshot in the place of the one in force."""
        old, new = self.snapshot, prepared.snapshot
        self.gateway.snapshot = new
        self._set_pools(new)
        await self.observation.adopt(old, new)
        await self._set_listeners(prepared)
        # A trie's nodes know their parents, so that the old one is freed by the collector alone.
        del old
        gc.collect()

    # Pools.

    def _set_pools(self, snapshot: Snapshot) -> None:
        """Keeps the pools of upstreams that are as they were, or have other endpoints now."""
        before, self._pools = self._pools, {}
        wanted = {upstream.discover for upstream in snapshot.upstreams.values()}
        self._found = {discovery: found for discovery, found in self._found.items() if discovery in wanted}
        for name, written in snapshot.upstreams.items():
            upstream = self._as_it_is(written)
            kept = before.pop(name, None)
            if kept is not None and kept.upstream != upstream and _differ_in_endpoints(kept.upstream, upstream):
                kept.follow(upstream)
            if kept is None or kept.upstream != upstream:
                if kept is not None:
                    before[name] = kept
                told = (report, wall, self.observation.rows, self._news.tell)
                kept = UpstreamPool(upstream, self.gateway, self._resolver, self._sweep, self._loop, *told)
                if name in self._unhealthy:
                    kept.set_unhealthy(self._unhealthy[name])
            self._pools[name] = kept
        self.gateway.pools = dict(self._pools)
        self.gateway.bind_routes()
        self._set_mirrors(snapshot)
        for pool in before.values():
            pool.retire()

    def _set_mirrors(self, snapshot: Snapshot) -> None:
        """Keeps those that are as they were, with their counts."""
        before, self._mirrors = self._mirrors, {}
        copies = None
        for route in snapshot.routes:
            if route.mirror is None:
                continue
            kept, pool = before.pop(route.name, None), self._pools[route.mirror.upstream]
            if kept is None or kept.settings != route.mirror or kept.pool is not pool:
                if kept is not None:
                    kept.retire()
                copies = copies or copies_gateway(self.gateway)
                kept = RouteMirror(route.name, route.mirror, pool, copies, self._sweep, report)
            self._mirrors[route.name] = kept
        for mirror in before.values():
            mirror.retire()
        self.gateway.mirrors = dict(self._mirrors)

    def set_unhealthy(self, unhealthy: Unhealthy) -> None:
        """The endpoints whose checks fail."""
        before, self._unhealthy = self._unhealthy, unhealthy
        for name, pool in self._pools.items():
            names = unhealthy.get(name, frozenset())
            if names != before.get(name, frozenset()):
                pool.set_unhealthy(names)

    def set_found(self, found: Found) -> None:
        """Endpoints that were found. The snapshot stays, and so does what was bound to its routes."""
        # What a snapshot to come looks for is told before it.
        self._found |= found
        self._follow()

    def set_overrides(self, overrides: Overrides) -> None:
        """What is changed by hand about endpoints."""
        self._overrides = overrides
        self._follow()

    def _follow(self) -> None:
        for name, pool in self._pools.items():
            upstream = self._as_it_is(self.snapshot.upstreams[name])
            if upstream != pool.upstream:
                pool.follow(upstream)

    def _as_it_is(self, written: Upstream) -> Upstream:
        """With the endpoints that were found, and what is changed about them."""
        found = None if written.discover is None else self._found.get(written.discover)
        upstream = written if found is None else replace(written, endpoints=found)
        return overridden(upstream, self._overrides)

    # What is noted.

    def set_layout(self, layout: Layout, memory: memoryview, number: int) -> None:
        """Where the rows go in the shared memory; this is worker `number`."""
        self.observation.set_layout(layout, memory, number)
        for pool in self._pools.values():
            pool.look_up_rows_again()

    def _write_levels(self) -> None:
        for pool in self._pools.values():
            pool.write_levels()

    # Listeners.

    async def _set_listeners(self, prepared: Prepared) -> None:
        """Serves the listeners of the snapshot; one at the same address goes on with its connections."""
        wanted = {listener.address: listener for listener in prepared.snapshot.listeners}
        gone = [self._serving.pop(address) for address in tuple(self._serving) if address not in wanted]
        for serving in self._serving.values():
            serving.server.adopt(wanted[serving.server.listener.address])
        for address, sockets in prepared.sockets.items():
            self._serving[address] = await self._serve(wanted[address], sockets)
        for serving in gone:
            await self._stop_accepting(serving, kept=())
            self._retire(serving.server)

    async def _serve(self, listener: Listener, sockets: list[socket.socket]) -> Serving:
        shared = (self._sweep, self._loop, self._refusals, self._ticket_secret, report, self._counters)
        server = Server(self.gateway, listener, *shared)
        create = self._loop.create_unix_server if listener.address.path else self._loop.create_server
        return Serving(server, [(sock, await create(server.connect, sock=sock, backlog=BACKLOG)) for sock in sockets])

    async def _stop_accepting(self, serving: Serving, kept: Collection[Address]) -> None:
        """Takes no more connections but those that wait to be accepted; where nobody listens on, the others are
        refused from now on."""
        serving.server.draining = True
        address = serving.server.listener.address
        closes = address not in kept and address not in self._lent
        # A Unix socket is all workers' together, and the supervisor's to close.
        own = [sock.dup() for sock, _ in serving.accepting] if closes and not address.path else []
        for sock in own:
            hold_off(sock)
        await asyncio.sleep(_LAST_ACCEPTS_S)
        for _, acceptor in serving.accepting:
            acceptor.close()
        for sock in own:
            shut(sock)
        # The loop lets go of them in its next turn; from then on the address may be had again.
        for sock, _ in serving.accepting:
            sock.close()
        await asyncio.sleep(0)

    def _retire(self, server: Server) -> None:
        """The listener is gone from the configuration: its connections have the time of a stop to end."""
        self._retired = [one for one in self._retired if one.connections]
        self._retired.append(server)
        server.drain()
        self._loop.call_later(self.snapshot.drain_timeout, server.end)

    # Stopping.

    def addresses(self) -> frozenset[Address]:
        """Where it accepts."""
        return frozenset(self._serving)

    async def stop_accepting(self, kept: Collection[Address]) -> None:
        """Takes no more connections, and lets the idle ones go. At the addresses `kept` somebody else listens on."""
        every = tuple(self._serving.values())
        await asyncio.gather(*(self._stop_accepting(serving, kept) for serving in every))
        for server in self._servers():
            server.drain()

    def connections(self) -> int:
        return sum(len(server.connections) for server in self._servers())

    def end(self) -> None:
        """Ends what is left: tunnels in order, other connections as they are."""
        for server in self._servers():
            server.end()

    def abort(self) -> None:
        for server in self._servers():
            server.abort()

    def _servers(self) -> list[Server]:
        return [*(serving.server for serving in self._serving.values()), *self._retired]

    # The time.

    def _keep_time(self, now: float) -> None:
        self.gateway.coarse_now = now
        self._counters[HEARTBEAT] = int(now * 1000)
        if now >= self._date_until:
            time_of_day = now + wall_offset()
            self._date_until = now + 1.0 - time_of_day % 1.0
            self.gateway.http_date = formatdate(time_of_day, usegmt=True).encode()
            self._renew_ticket_secret(time_of_day)

    def _renew_ticket_secret(self, time_of_day: float) -> None:
        before, self._ticket_secret = self._ticket_secret, self._ticket_secret.at(time_of_day)
        if self._ticket_secret is not before:
            for server in self._servers():
                server.set_ticket_secret(self._ticket_secret)


def _differ_in_endpoints(before: Upstream, after: Upstream) -> bool:
    """And in nothing else."""
    return replace(before, endpoints=after.endpoints) == after
