"""Active health checks: each endpoint is asked once per machine, by the supervisor, and the workers are told.

A check connects as the workers do (TLS and PROXY header included), and asks by HTTP/1.1 where a path is configured.
What an endpoint's results make of it is decided by `policy.health`. Its state is kept by upstream and name, so that it
outlives reloads; endpoints that are new are taken for healthy until their first check.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING

from fastgw.errors import Failure
from fastgw.http1.parse_response import parse_response
from fastgw.net.proxy_header import header
from fastgw.net.resolver import Resolver
from fastgw.net.tls import client_context
from fastgw.policy.health import HealthChecks
from fastgw.runtime.report import report_bug

if TYPE_CHECKING:
    from fastgw.runtime.messages import Unhealthy
    from fastgw.snapshot import Address, Endpoint, HealthCheck, Snapshot, Upstream, UpstreamTls

# Of an answer, to look into; what stands behind it is left unread.
_ANSWER_MAX = 64 * 1024
# It is looked whose check is due when the next one is, but no later than after this, for those that are under way or
# come anew, and no sooner than after that, or many endpoints would keep it looking.
_LOOK_S = 0.1
_LOOK_MIN_S = 0.01


# What keeps us from asking.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


# What an endpoint's checks do, in a word.
_FAILS, _PASSES = "failed", "passed"


class _OursError(Exception):
    """No check could be made, for want of something here."""


class Checker:
    """The checks of one configuration after the other. `tell` passes on who is unhealthy, `say` what has changed."""

    def __init__(self, tell: Callable[[Unhealthy], Awaitable[None]], say: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._say = say
        self._endpoints: dict[tuple[str, str], _Checked] = {}
        self._contexts: dict[str, tuple[UpstreamTls, ssl.SSLContext]] = {}
        self._checking: set[asyncio.Task[None]] = set()
        self._resolver = Resolver(asyncio.get_running_loop(), time.monotonic)

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on these are checked; what stays as it was keeps its state."""
        before, self._endpoints = self._endpoints, {}
        contexts, self._contexts = self._contexts, {}
        for upstream in snapshot.upstreams.values():
            if upstream.health is None:
                continue
            if upstream.tls is not None:
                tls, context = contexts.get(upstream.name, (None, None))
                if context is None or tls != upstream.tls:
                    context = client_context(upstream.tls)
                self._contexts[upstream.name] = (upstream.tls, context)
            for endpoint in upstream.endpoints:
                checked = before.get((upstream.name, endpoint.name)) or _Checked(upstream, endpoint, upstream.health)
                checked.adopt(upstream, endpoint, upstream.health)
                self._endpoints[upstream.name, endpoint.name] = checked

    def presume(self, unhealthy: Unhealthy) -> None:
        """What another gateway has found out."""
        for (upstream, endpoint), checked in self._endpoints.items():
            if endpoint in unhealthy.get(upstream, ()):
                checked.state.presume_unhealthy(0)

    def unhealthy(self) -> Unhealthy:
        found: dict[str, set[str]] = {}
        for (upstream, endpoint), checked in self._endpoints.items():
            if checked.state.unhealthy:
                found.setdefault(upstream, set()).add(endpoint)
        return {upstream: frozenset(names) for upstream, names in found.items()}

    async def run(self) -> None:
        while True:
            now = time.monotonic()
            next_due = self._begin_due(now)
            await asyncio.sleep(max(_LOOK_MIN_S, min(next_due - now, _LOOK_S)))

    def _begin_due(self, now: float) -> float:
        """Begins the checks that are due; returns when the next one will be, as far as that is known."""
        next_due = inf
        for checked in self._endpoints.values():
            if checked.is_under_way:
                continue
            if checked.state.due(0) > now:
                next_due = min(next_due, checked.state.due(0))
                continue
            checked.is_under_way = True
            task = asyncio.create_task(self._check(checked))
            self._checking.add(task)
            task.add_done_callback(self._checking.discard)
        return next_due

    async def ended(self) -> None:
        """Until the checks that are under way have ended."""
        while self._checking:
            await asyncio.wait(tuple(self._checking))

    async def _check(self, checked: _Checked) -> None:
        upstream = checked.upstream
        try:
            why = await self._trouble(checked.endpoint, checked.check, upstream)
            is_well = not why
        except Exception as error:
            # Ours, and no trouble of the endpoint: it stays what it was.
            if not isinstance(error, _OursError):
                report_bug(error)
            why, is_well = "", not checked.state.unhealthy
        finally:
            checked.is_under_way = False
        if self._endpoints.get((upstream.name, checked.endpoint.name)) is not checked:
            # It is gone.
            return
        is_changed = checked.state.result(0, is_well, time.monotonic(), random.random)
        if is_changed:
            what = f"fails its checks: {why}" if why else "passes its checks again"
            self._say(_FAILS if why else _PASSES, f"upstream {upstream.name}: {checked.endpoint.name} {what}")
            await self._tell(self.unhealthy())

    async def _trouble(self, endpoint: Endpoint, check: HealthCheck, upstream: Upstream) -> str:
        """What is wrong with it; empty: nothing."""
        try:
            async with asyncio.timeout(check.timeout):
                reader, writer = await self._connect(endpoint, upstream)
                try:
                    return await _ask(reader, writer, endpoint, check) if check.path else ""
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return f"no answer within {check.timeout:g} s"
        except ssl.SSLError as error:
            return f"TLS: {error.reason or error}"
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                raise _OursError from None
            return (getattr(error, "strerror", None) or str(error)).lower()

    async def _connect(
        self, endpoint: Endpoint, upstream: Upstream
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address, tls = endpoint.address, upstream.tls
        # Of one that has gone meanwhile, no check counts.
        _, context = self._contexts.get(upstream.name, (None, None))
        if tls is not None and context is None:
            raise _OursError
        sock = await self._connected(address, upstream.dns_refresh)
        reader, writer = await asyncio.open_connection(sock=sock)
        if upstream.proxy_protocol:
            # Of no client: PROXY UNKNOWN, or its like.
            writer.write(header(upstream.proxy_protocol, ("", 0), ("", 0)))
        if tls is not None and context is not None:
            try:
                await writer.start_tls(context, server_hostname=tls.server_name or address.host)
            except BaseException:
                writer.transport.abort()
                raise
        return reader, writer

    async def _connected(self, address: Address, dns_refresh: float) -> socket.socket:
        """The addresses of a name are tried in turn, as traffic does."""
        loop = asyncio.get_running_loop()
        if address.path:
            return await _connect_to(loop, socket.AF_UNIX, address.path)
        last: OSError | None = None
        for host in await self._resolver.addresses(address.host, dns_refresh):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                return await _connect_to(loop, family, (host, address.port))
            except OSError as error:
                last = error
        raise last or OSError("no address")


async def _connect_to(
    loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, target: str | tuple[str, int]
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


class _Checked:
    """An endpoint and how its checks went."""

    def __init__(self, upstream: Upstream, endpoint: Endpoint, check: HealthCheck) -> None:
        self.state = HealthChecks(1, check.settings, time.monotonic())
        self.is_under_way = False
        self.adopt(upstream, endpoint, check)

    def adopt(self, upstream: Upstream, endpoint: Endpoint, check: HealthCheck) -> None:
        self.upstream = upstream
        self.endpoint = endpoint
        self.check = check
        self.state.adopt(check.settings)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint, check: HealthCheck
) -> str:
    host = check.host or ("localhost" if endpoint.address.path else endpoint.name)
    # HTTP/1.0 knows neither chunks nor answers before the answer; HAProxy asks in it, too.
    lines = (f"GET {check.path} HTTP/1.0", f"Host: {host}", "User-Agent: fastgw-health", "Connection: close", "", "")
    writer.write("\r\n".join(lines).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = await reader.read(_ANSWER_MAX)
        if not piece:
            return "it closed the connection without an answer"
        answer += piece
        if len(answer) > _ANSWER_MAX:
            return "the head of its answer is too large"
    head, _, body = answer.partition(b"\r\n\r\n")
    response = parse_response(head, False)
    if isinstance(response, Failure):
        return "its answer is not well-formed HTTP"
    if not any(first <= response.status <= last for first, last in check.statuses):
        return f"status {response.status}"
    while check.body and check.body not in body:
        piece = await reader.read(_ANSWER_MAX)
        if not piece or len(body) > _ANSWER_MAX:
            return "its body is another than expected"
        body += piece
    return ""
