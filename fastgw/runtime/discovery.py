"""Endpoints that come and go without a reload: found by the supervisor, once per machine, and told to the workers.

Where they are found is `snapshot.Discovery`, and upstreams that say the same share what is found. An answer that is
empty, or none at all, changes nothing: the last good list serves on, and standard error says so, once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastgw.config.endpoint_file import read_endpoints
from fastgw.errors import ConfigError
from fastgw.runtime.aside import aside
from fastgw.runtime.file_watch import LOOK_S, FileWatch
from fastgw.runtime.report import report, report_bug

if TYPE_CHECKING:
    from fastgw.runtime.messages import Found
    from fastgw.snapshot import Discovery, Endpoint, Snapshot

# How long a start or a reload waits for what is looked for the first time. A look-up that takes longer is no reason to
# have no gateway.
_FIRST_LOOK_S = 2.0
# Each change costs a worker a third of a second by then, in which it does nothing else. And a Maglev table has 65,537
# slots, for those that come and for those that are gone, but busy.
_ENDPOINTS_MAX = 10_000
# Of the endpoints that have come or gone, on one line.
_NAMED_MAX = 8


class Discoverer:
    """All that is looked for. `tell` passes on what is another than before."""

    def __init__(self, tell: Callable[[Found], Awaitable[None]]) -> None:
        self._tell = tell
        self._searches: dict[Discovery, _Search] = {}

    async def expect(self, snapshot: Snapshot) -> None:
        """A snapshot is about to be adopted: what it looks for is looked for, and that is waited for a while."""
        new = [one for one in _discoveries(snapshot) if one not in self._searches]
        for discovery in new:
            self._searches[discovery] = _Search(discovery, self._tell)
        if new:
            firsts = [asyncio.create_task(self._searches[discovery].has_looked.wait()) for discovery in new]
            await asyncio.wait(firsts, timeout=_FIRST_LOOK_S)
            for first in firsts:
                first.cancel()

    def presume(self, snapshot: Snapshot, found: Mapping[str, tuple[Endpoint, ...]]) -> None:
        """What another gateway has found for this snapshot, by the words for where: nobody waits for that."""
        for discovery in _discoveries(snapshot):
            if endpoints := found.get(str(discovery)):
                self._searches[discovery] = _Search(discovery, self._tell, endpoints)

    def adopt(self, snapshot: Snapshot) -> None:
        """Nothing else is looked for any more."""
        wanted = _discoveries(snapshot)
        for discovery in [one for one in self._searches if one not in wanted]:
            self._searches.pop(discovery).stop()

    def found(self) -> Found:
        """All that has been found so far."""
        return {discovery: search.endpoints for discovery, search in self._searches.items() if search.endpoints}

    def filled(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot with the endpoints of now."""
        found = self.found()
        upstreams = {
            name: replace(upstream, endpoints=found[upstream.discover]) if upstream.discover in found else upstream
            for name, upstream in snapshot.upstreams.items()
        }
        return replace(snapshot, upstreams=upstreams) if found else snapshot

    async def stop(self) -> None:
        searches, self._searches = self._searches, {}
        for search in searches.values():
            search.stop()
        for search in searches.values():
            await search.ended()


def _discoveries(snapshot: Snapshot) -> dict[Discovery, None]:
    """In their order, each once."""
    return {one.discover: None for one in snapshot.upstreams.values() if one.discover is not None}


class TroubleError(Exception):
    """Nothing could be found; the message is for the user."""


class Source(Protocol):
    """`next` waits until it is time to look again; the first time it doesn't wait."""

    # Whether each trouble is told: else the next ones are taken for the same as the first.
    tells_each_trouble: bool

    async def next(self) -> tuple[Endpoint, ...]:
        """The endpoints of now. Raises TroubleError."""


class _Search:
    """Looks for one thing again and again. `endpoints` are those that were found last."""

    def __init__(
        self, discovery: Discovery, tell: Callable[[Found], Awaitable[None]], endpoints: tuple[Endpoint, ...] = ()
    ) -> None:
        self.endpoints = endpoints
        self.has_looked = asyncio.Event()
        self._discovery = discovery
        self._tell = tell
        self._trouble = ""
        self._task = asyncio.create_task(
            self._run(FileSource(discovery) if _is_file(discovery) else DnsSource(discovery))
        )

    def stop(self) -> None:
        self._task.cancel()

    async def ended(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self, source: Source) -> None:
        while True:
            try:
                await self._take(await source.next())
            except TroubleError as trouble:
                self._troubled(str(trouble), source.tells_each_trouble)
            except Exception as error:
                report_bug(error)
                await asyncio.sleep(LOOK_S)
            self.has_looked.set()

    async def _take(self, found: tuple[Endpoint, ...]) -> None:
        if len(found) > _ENDPOINTS_MAX:
            raise TroubleError(f"{len(found)} endpoints are too many, {_ENDPOINTS_MAX} the most")
        if self._trouble:
            report(f"{self._discovery}: is well again, and has {_count(found)}")
            self._trouble = ""
        before, self.endpoints = self.endpoints, found
        if found == before:
            return
        if before:
            report(f"{self._discovery}: {_difference(before, found)}")
        try:
            await self._tell({self._discovery: found})
        except Exception:
            # Not all have been told, so the next time it is told once more.
            self.endpoints = before
            raise

    def _troubled(self, trouble: str, tells_each: bool) -> None:
        if not self._trouble or (tells_each and trouble != self._trouble):
            count = _count(self.endpoints)
            goes_on = f"the last good list goes on, {count}" if self.endpoints else "nothing was found so far"
            report(f"{self._discovery}: {trouble}; {goes_on}")
        self._trouble = trouble


def _is_file(discovery: Discovery) -> bool:
    return discovery.kind == "file"


def _count(endpoints: tuple[Endpoint, ...]) -> str:
    return "1 endpoint" if len(endpoints) == 1 else f"{len(endpoints)} endpoints"


def _difference(before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]) -> str:
    old, new = {one.name for one in before}, {one.name for one in after}
    come = [one.name for one in after if one.name not in old]
    gone = [one.name for one in before if one.name not in new]
    parts = [f"{_named(names)} {verb}" for names, verb in ((come, "came"), (gone, "went")) if names]
    return f"{', '.join(parts) or 'weights changed'}; now {_count(after)}"


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED_MAX
    return " ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


class DnsSource:
    """Looks again when the answer's time is over, within the bounds of its settings."""

    tells_each_trouble = False

    def __init__(self, discovery: Discovery) -> None:
        # Only who uses DNS has what it needs.
        from fastgw.runtime import dns_lookup  # noqa: PLC0415

        self._error = dns_lookup.LookUpError
        self._look_up = dns_lookup.LookUp(discovery)
        self._least_s, self._most_s = discovery.min_refresh, discovery.max_refresh
        self._wait_s = 0.0

    async def next(self) -> tuple[Endpoint, ...]:
        await asyncio.sleep(self._wait_s)
        self._wait_s = self._least_s
        try:
            found, ttl_s = await self._look_up.endpoints()
        except self._error as error:
            raise TroubleError(str(error)) from None
        if not found:
            raise TroubleError("the answer is empty")
        self._wait_s = max(self._least_s, min(ttl_s, self._most_s))
        return found


class FileSource:
    """Looks again when the file has changed and been left alone since."""

    tells_each_trouble = True

    def __init__(self, discovery: Discovery) -> None:
        self._path, self._base = Path(discovery.name), Path(discovery.base)
        self._watch: FileWatch | None = None

    async def next(self) -> tuple[Endpoint, ...]:
        if self._watch is None:
            # What is written from now on is noticed.
            self._watch = FileWatch([self._path])
        else:
            await asyncio.sleep(LOOK_S)
            # Nobody tells of a file.
            while not self._watch.look():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        try:
            found = await aside(lambda: read_endpoints(self._path, self._base))
        except ConfigError as error:
            raise TroubleError(str(error)) from None
        if not found:
            raise TroubleError("the list is empty")
        return found
