"""Active health checks: each endpoint is asked once per machine, by the supervisor, and the workers are told.

A check connects as the workers do (TLS and PROXY header included), and asks by HTTP/1.1 where a path is configured.
What an endpoint's results make of it is decided by `policy.health`. Its state is kept by upstream and name, so that it
outlives reloads; endpoints that are new are taken for healthy until their first check.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastgw.errors import Failure
from fastgw.http1.parse_response import parse_response
from fastgw.net.proxy_header import header
from fastgw.net.tls import client_context
from fastgw.policy.health import HealthChecks
from fastgw.runtime.report import report, report_bug

if TYPE_CHECKING:
    from fastgw.runtime.messages import Unhealthy
    from fastgw.snapshot import Endpoint, HealthCheck, Snapshot, Upstream

# Of an answer, to look into; what stands behind it is left unread.
_ANSWER_MAX = 64 * 1024
# How often it is looked whose check is due.
_LOOK_S = 0.1


class Checker:
    """The checks of one configuration after the other. `tell` passes on who is unhealthy."""

    def __init__(self, tell: Callable[[Unhealthy], Awaitable[None]]) -> None:
        self._tell = tell
        self._endpoints: dict[tuple[str, str], _Checked] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._checking: set[asyncio.Task[None]] = set()

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on these are checked; what stays as it was keeps its state."""
        before, self._endpoints = self._endpoints, {}
        self._contexts.clear()
        for upstream in snapshot.upstreams.values():
            if upstream.health is None:
                continue
            if upstream.tls is not None:
                self._contexts[upstream.name] = client_context(upstream.tls)
            for endpoint in upstream.endpoints:
                known = before.get((upstream.name, endpoint.name))
                state = known.state if known is not None and known.check.settings == upstream.health.settings else None
                self._endpoints[upstream.name, endpoint.name] = _Checked(upstream, endpoint, upstream.health, state)

    def unhealthy(self) -> Unhealthy:
        found: dict[str, set[str]] = {}
        for (upstream, endpoint), checked in self._endpoints.items():
            if checked.state.unhealthy:
                found.setdefault(upstream, set()).add(endpoint)
        return {upstream: frozenset(names) for upstream, names in found.items()}

    async def run(self) -> None:
        while True:
            now = time.monotonic()
            for checked in self._endpoints.values():
                if not checked.is_under_way and checked.state.due(0) <= now:
                    checked.is_under_way = True
                    task = asyncio.create_task(self._check(checked))
                    self._checking.add(task)
                    task.add_done_callback(self._checking.discard)
            await asyncio.sleep(_LOOK_S)

    async def ended(self) -> None:
        """Until the checks that are under way have ended."""
        while self._checking:
            await asyncio.wait(tuple(self._checking))

    async def _check(self, checked: _Checked) -> None:
        upstream = checked.upstream
        try:
            why = await self._trouble(checked.endpoint, checked.check, upstream)
        except Exception as error:
            report_bug(error)
            why = "a bug in fastgw"
        finally:
            checked.is_under_way = False
        is_changed = checked.state.result(0, not why, time.monotonic(), random.random)
        if is_changed:
            what = f"fails its checks: {why}" if why else "passes its checks again"
            report(f"upstream {upstream.name}: {checked.endpoint.name} {what}")
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
            return (getattr(error, "strerror", None) or str(error)).lower()

    async def _connect(
        self, endpoint: Endpoint, upstream: Upstream
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = endpoint.address
        context = self._contexts.get(upstream.name)
        name = upstream.tls.server_name or address.host if upstream.tls is not None else None
        if not upstream.proxy_protocol:
            if address.path:
                return await asyncio.open_unix_connection(address.path, ssl=context, server_hostname=name)
            return await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=name)
        if address.path:
            reader, writer = await asyncio.open_unix_connection(address.path)
        else:
            reader, writer = await asyncio.open_connection(address.host, address.port)
        # Of no client: PROXY UNKNOWN, or LOCAL.
        writer.write(header(upstream.proxy_protocol, ("", 0), ("", 0)))
        if context is not None:
            await writer.start_tls(context, server_hostname=name)
        return reader, writer


class _Checked:
    """An endpoint and how its checks went, so far or from now on."""

    def __init__(self, upstream: Upstream, endpoint: Endpoint, check: HealthCheck, state: HealthChecks | None) -> None:
        self.upstream = upstream
        self.endpoint = endpoint
        self.check = check
        self.state = state or HealthChecks(1, check.settings, time.monotonic())
        self.is_under_way = False


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint, check: HealthCheck
) -> str:
    host = check.host or ("localhost" if endpoint.address.path else endpoint.name)
    lines = (f"GET {check.path} HTTP/1.1", f"Host: {host}", "User-Agent: fastgw-health", "Connection: close", "", "")
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
