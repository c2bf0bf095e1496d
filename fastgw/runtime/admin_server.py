"""The socket and the server of the admin API: uvicorn on the supervisor's loop. What is served there is `admin`'s.

It is never a listener's: no worker accepts there, and traffic does not notice what is asked. An upgrade does not hand
it over: the new gateway binds the address when the old one has let go of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgw.runtime.sockets import CannotListen

if TYPE_CHECKING:
    from fastgw.config.admin import AdminSettings

_BACKLOG = 64
# Of a request's head. Browsers send cookies of all that they have met on this host.
_HEAD_MAX = 64 * 1024
# What a request that is under way may take when the server stops.
_GRACE_S = 1
# How long the address of a gateway that was replaced is waited for.
_HANDED_OVER_S = 10.0
_TRY_AGAIN_S = 0.05
# Whoever listens to events or to the log and reads nothing for as long is cut off.
_READS_NOTHING_MS = 60_000


class AdminServer:
    """`make_app` gives what answers; it is told the settings. `hang_up` ends the answers that have no end by
    themselves. There is no server while there are no settings."""

    def __init__(self, make_app: Callable[[AdminSettings], Any], hang_up: Callable[[], None]) -> None:
        self._make_app = make_app
        self._hang_up = hang_up
        self._settings: AdminSettings | None = None
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None
        # Reloads may follow each other faster than a server stops, and so may a stop.
        self._turn = asyncio.Lock()
        self._is_over = False

    @property
    def address(self) -> str:
        """Where it is, with the port that the kernel has chosen; "" if nowhere."""
        if self._socket is None:
            return ""
        name = self._socket.getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def prepare(self, settings: AdminSettings | None) -> socket.socket | None:
        """The socket for settings that have another address than those in force, once all that is to be adopted is;
        None: none is needed. Raises CannotListen."""
        async with self._turn:
            known = self._settings
            if settings is None or (known is not None and settings.address == known.address):
                return None
            return _bound(settings)

    async def prepare_after(self, settings: AdminSettings | None) -> socket.socket | None:
        """The same, when a gateway that was replaced may have the address for a moment more."""
        until = asyncio.get_running_loop().time() + _HANDED_OVER_S
        while True:
            try:
                return await self.prepare(settings)
            except CannotListen:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(_TRY_AGAIN_S)

    async def adopt(self, settings: AdminSettings | None, sock: socket.socket | None) -> None:
        """Serves by these settings from now on; `sock` is what `prepare` gave for them."""
        async with self._turn:
            await self._adopt(settings, sock)

    async def _adopt(self, settings: AdminSettings | None, sock: socket.socket | None) -> None:
        if settings == self._settings:
            return
        kept = None if sock is not None or settings is None else self._socket
        await self._stop_serving()
        if self._is_over:
            if sock is not None:
                sock.close()
            return
        if self._socket is not None and self._socket is not kept:
            self._close()
        self._settings = settings
        if settings is not None:
            self._socket = sock or kept
            self._serve(settings)

    def _serve(self, settings: AdminSettings) -> None:
        # Only who has an admin API has what it needs.
        import uvicorn  # noqa: PLC0415

        from fastgw.runtime.admin_protocol import BoundedProtocol  # noqa: PLC0415

        assert self._socket is not None

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                # They are the supervisor's.
                yield

        config = uvicorn.Config(
            self._make_app(settings),
            loop="none",
            # Not httptools: with that a head has no end, and whoever gets here, without a token, all of our memory.
            http=BoundedProtocol,
            h11_max_incomplete_event_size=_HEAD_MAX,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = Server(config)
        # It closes what it is given.
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket.dup()]))

    async def _stop_serving(self) -> None:
        if self._serving is None:
            return
        self._server.should_exit = True
        self._hang_up()
        await asyncio.wait([self._serving], timeout=_GRACE_S + 1)
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving
        self._serving = None

    def let_go(self) -> None:
        """Takes no more connections: the address is free from now on, and nothing is adopted any more."""
        self._is_over = True
        if self._server is not None:
            self._server.should_exit = True
            for server in getattr(self._server, "servers", ()):
                server.close()
        self._close()

    async def stop(self) -> None:
        """And ends what is under way."""
        self.let_go()
        async with self._turn:
            await self._stop_serving()

    def _close(self) -> None:
        if self._socket is None:
            return
        name = self._socket.getsockname()
        if isinstance(name, str):
            # Before nobody listens there: from then on it may be another gateway's.
            Path(name).unlink(missing_ok=True)
        self._socket.close()
        self._socket = None


def _bound(settings: AdminSettings) -> socket.socket:
    address = settings.address
    path = str(settings.base / address.unix_path) if address.unix_path else ""
    family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        if path:
            _bind_path(sock, path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _READS_NOTHING_MS)
            sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(f"can't listen on {address.text} (admin): {error.strerror or error}") from None
    return sock


def _bind_path(sock: socket.socket, path: str) -> None:
    """Raises OSError, also when somebody answers there."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe,
                contextlib.suppress(ConnectionRefusedError),
            ):
                probe.connect(path)
                raise OSError(98, "Address already in use")
            # Of one that was killed.
            os.unlink(path)
    # Whoever may open it may change the gateway.
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
