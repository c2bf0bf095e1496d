"""Certificates from an ACME authority, as the supervisor sees it: a helper process, and the challenges it asks for.

The helper speaks with the authority and writes files; the supervisor sees that files have changed and reloads them, as
it does with everybody's certificates. What the authority wants to see meanwhile is put into a snapshot: a route for
http-01, a certificate for tls-alpn-01. So no exchange and no handshake costs more than before, but for those seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw.policy.router import Rule
from fastgw.runtime import acme_messages as m
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.events import DONE, LOST, Events
from fastgw.runtime.sockets import CannotListen
from fastgw.runtime.worker_process import WorkerProcess
from fastgw.runtime.workers import RefusedError
from fastgw.snapshot import LocalReply, Route

if TYPE_CHECKING:
    from fastgw.config.acme_settings import AcmeSettings
    from fastgw.snapshot import Snapshot

_HELPER = "fastgw.runtime.acme_helper"
# A helper that dies is started again after a second, and after twice as long each time, up to five minutes: what it
# was at counts as an attempt, and an authority is not to be asked in a circle.
_BACK_OFF_S = 1.0
_BACK_OFF_MAX_S = 300.0
# One that has lived for as long has not died of what the one before it did.
_LONG_LIFE_S = 600.0
# It has something to say once or twice a month.
_HEARS_S = 3600.0
_ROUTE_NAME = "acme-challenge"


class AcmeKeeper:
    """`put_in_force` makes all workers adopt the configuration anew, with the challenges; it raises CannotListen or
    RefusedError when they don't."""

    def __init__(self, events: Events, put_in_force: Callable[[], Awaitable[None]]) -> None:
        self._events = events
        self._put_in_force = put_in_force
        self._challenges: tuple[Challenge, ...] = ()
        self._settings: AcmeSettings | None = None
        self._changed = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._is_stopping = False

    def with_challenges(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what the authority wants to see now. Raises RefusedError."""
        try:
            return with_challenges(snapshot, self._challenges)
        except ValueError as error:
            raise RefusedError(f"there is no place for the answer to an ACME authority: {error}") from None

    def adopt(self, settings: AcmeSettings | None) -> None:
        """What is wanted from now on; None: nothing."""
        if settings != self._settings:
            self._settings = settings
            self._changed.set()

    def stop(self) -> None:
        """Ends the helper, whatever it does: files are whole at any time, and another gateway may be waiting."""
        self._is_stopping = True
        self._changed.set()
        if self._process is not None:
            self._process.kill()

    async def run(self) -> None:
        """Keeps a helper for as long as there is something to do for it."""
        back_off_s = _BACK_OFF_S
        while not self._is_stopping:
            if self._settings is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            began = time.monotonic()
            how = await self._run_helper()
            if self._is_stopping or self._settings is None:
                continue
            back_off_s = _BACK_OFF_S if time.monotonic() - began > _LONG_LIFE_S else back_off_s
            detail = f"the process that gets certificates {how}; it starts again in {back_off_s:g} s"
            self._events.add("acme", LOST, detail)
            await asyncio.sleep(back_off_s)
            back_off_s = min(back_off_s * 2, _BACK_OFF_MAX_S)

    async def _run_helper(self) -> str:
        """Starts one and waits for its end; says how that was."""
        try:
            self._process = process = WorkerProcess(asyncio.get_running_loop(), _HELPER)
        except OSError as error:
            return f"can't be started: {error.strerror}"
        telling = asyncio.create_task(self._tell(process))
        try:
            while not process.ended.done():
                message = await process.hears(_HEARS_S)
                if message is not None:
                    await self._handle(process, message)
        finally:
            telling.cancel()
            process.kill()
            self._process = None
            await process.close()
        await self._show(())
        status = process.ended.result()
        return f"ended with signal {-status}" if status < 0 else f"ended with status {status}"

    async def _tell(self, process: WorkerProcess) -> None:
        """Each change of what is wanted; when nothing is any more, the helper ends."""
        while self._settings is not None:
            self._changed.clear()
            await process.send((m.SETTINGS, self._settings))
            await self._changed.wait()
        process.kill()

    async def _handle(self, process: WorkerProcess, message: tuple[object, ...]) -> None:
        match message:
            case (m.CHALLENGES, tuple(challenges)):
                await process.send((m.IN_FORCE, await self._show(challenges)))
            case (m.EVENT, str(outcome), str(detail)):
                self._events.add("acme", outcome, detail)
                if outcome == DONE:
                    # The files have changed, and the reload that this brings takes the challenge back.
                    self._challenges = ()

    async def _show(self, challenges: tuple[Challenge, ...]) -> str:
        """Puts these in force, and no others; "", or why they are not."""
        if challenges == self._challenges or self._is_stopping:
            return ""
        self._challenges = challenges
        try:
            await self._put_in_force()
        except (CannotListen, RefusedError) as error:
            self._challenges = ()
            return str(error)
        return ""


def with_challenges(snapshot: Snapshot, challenges: Sequence[Challenge]) -> Snapshot:
    """A snapshot in which these are answered, ahead of all routes of its own. Raises ValueError when the routes allow
    no more."""
    if not challenges:
        return snapshot
    by_path = [challenge for challenge in challenges if challenge.path]
    rules = [Rule((one.name.encode(),), one.path.encode(), (b"GET",)) for one in by_path]
    return replace(
        snapshot,
        routes=(*snapshot.routes, *(_route(challenge) for challenge in by_path)),
        # A literal path of an exact host comes before all others, wherever it stands.
        router=snapshot.router.with_rules(rules) if rules else snapshot.router,
        tls_challenges={one.name.encode(): one.pair for one in challenges if one.pair is not None},
    )


def _route(challenge: Challenge) -> Route:
    # RFC 8555 §8.3 suggests the type.
    reply = LocalReply(200, b"\r\nContent-Type: application/octet-stream", challenge.body.encode())
    return Route(_ROUTE_NAME, (), (), reply=reply, answers_authority=True)
