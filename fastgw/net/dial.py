"""A new connection to an endpoint: TCP or a Unix socket, then the PROXY header, then the TLS handshake.

What fails is told apart by where it fails; an endpoint that should speak TLS is never tried without.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

from fastgw import errors
from fastgw.errors import Failure
from fastgw.net.resolver import Resolver
from fastgw.net.tls import SHUTDOWN_TIMEOUT_S, TlsEndpoint, client_context
from fastgw.net.upstream import UpstreamConnection
from fastgw.snapshot import Address, Endpoint, Upstream


class Dialer:
    """Makes the connections to an upstream's endpoints."""

    def __init__(
        self,
        upstream: Upstream,
        endpoints: tuple[Endpoint, ...],
        resolver: Resolver,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._resolver = resolver
        self._loop = loop
        self._report = report
        self._now = now
        self._context = client_context(upstream.tls) if upstream.tls is not None else None
        self._endpoints: tuple[Endpoint, ...] = ()
        # The loop alone would let them go.
        self._dialling: set[asyncio.Task[None]] = set()
        self.tls: list[TlsEndpoint | None] = []
        self.follow(endpoints)

    def follow(self, endpoints: tuple[Endpoint, ...]) -> None:
        """From now on these, by their index. Those that are the same keep their TLS sessions."""
        known = {endpoint.name: tls for endpoint, tls in zip(self._endpoints, self.tls, strict=True)}
        self._endpoints = endpoints
        self.tls = [known.get(endpoint.name) or self._tls_of(endpoint) for endpoint in endpoints]

    def _tls_of(self, endpoint: Endpoint) -> TlsEndpoint | None:
        upstream = self._upstream
        if upstream.tls is None or self._context is None:
            return None
        server_name = upstream.tls.server_name or endpoint.address.host
        what = f"{endpoint.name} (upstream {upstream.name})"
        return TlsEndpoint(self._context, server_name, what, self._report, self._now)

    def dial_then(
        self, connection: UpstreamConnection, header: bytes, dialled: Callable[[Failure | None], None]
    ) -> None:
        """Tells `dialled` what `dial` returns. No coroutine is the pool's own: where that is compiled, one that is
        cancelled may crash (mypy's issue 12867)."""
        task = self._loop.create_task(self._dial_then(connection, header, dialled))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial_then(
        self, connection: UpstreamConnection, header: bytes, dialled: Callable[[Failure | None], None]
    ) -> None:
        dialled(await self.dial(connection, header))

    async def dial(self, connection: UpstreamConnection, header: bytes) -> Failure | None:
        """Connects it, within the upstream's time for that; `header` is sent before anything else."""
        address = self._endpoints[connection.endpoint_index].address
        try:
            async with asyncio.timeout(self._upstream.connect_timeout):
                if header or connection.tls is not None:
                    return await self._connect_in_steps(connection, address, header)
                await self._connect(connection, address)
        except TimeoutError:
            return errors.CONNECT_TIMEOUT
        except (OSError, UnicodeError) as error:
            return errors.NAME_UNRESOLVED if _is_resolution(error) else errors.CONNECT_FAILED
        return errors.CONNECT_FAILED if connection.transport.is_closing() else None

    async def _connect(self, connection: UpstreamConnection, address: Address) -> None:
        """The short way, when the connection begins with the first request."""
        protocol = cast(asyncio.Protocol, connection)
        if address.path:
            await self._loop.create_unix_connection(lambda: protocol, address.path)
            return
        last: OSError | None = None
        for host in await self._resolver.addresses(address.host, self._upstream.dns_refresh):
            try:
                await self._loop.create_connection(lambda: protocol, host, address.port)
                return
            except OSError as error:
                last = error
        raise last or OSError("no address")

    async def _connect_in_steps(
        self, connection: UpstreamConnection, address: Address, header: bytes
    ) -> Failure | None:
        sock = await self._socket(address)
        try:
            # It is short, and nothing is in the socket's buffer yet: this takes it whole, without waiting.
            sock.send(header)
        except OSError:
            sock.close()
            raise
        tls = connection.tls
        protocol = cast(asyncio.Protocol, connection)
        if tls is None:
            await self._loop.create_connection(lambda: protocol, sock=sock)
            return errors.CONNECT_FAILED if connection.transport.is_closing() else None
        try:
            await self._loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=cast(ssl.SSLContext, tls),
                server_hostname=tls.server_name,
                # The time for all of it is bounded already; the loop's own bound must only not come before.
                ssl_handshake_timeout=self._upstream.connect_timeout + 1.0,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except TimeoutError:
            raise
        except OSError as error:
            return tls.failed(error)
        if connection.transport is None or connection.transport.is_closing():
            return tls.failed(ConnectionResetError())
        return None

    async def _socket(self, address: Address) -> socket.socket:
        """A connected one. The addresses of a name are tried in turn."""
        if address.path:
            return await self._connected(socket.AF_UNIX, address.path)
        last: OSError | None = None
        for host in await self._resolver.addresses(address.host, self._upstream.dns_refresh):
            family = socket.AF_INET6 if ip_address(host.partition("%")[0]).version == 6 else socket.AF_INET
            try:
                return await self._connected(family, (host, address.port))
            except TimeoutError:
                raise
            except OSError as error:
                last = error
        raise last or OSError("no address")

    async def _connected(self, family: socket.AddressFamily, target: str | tuple[str, int]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, target)
        except BaseException:
            sock.close()
            raise
        return sock


def _is_resolution(error: Exception) -> bool:
    # A name that can't be encoded has no address either.
    return isinstance(error, (socket.gaierror, UnicodeError))
