"""A readers-writer lock for tasks: many may be inside at once, or one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Whoever wants to be alone keeps others out, and waits until those inside have left. One at a time wants that."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()
        self._inside = 0
        self._is_reserved = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._condition:
            await self._condition.wait_for(lambda: not self._is_reserved)
            self._inside += 1
        try:
            yield
        finally:
            async with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._condition:
            await self._condition.wait_for(lambda: not self._is_reserved)
            self._is_reserved = True
        try:
            async with self._condition:
                await self._condition.wait_for(lambda: not self._inside)
            yield
        finally:
            async with self._condition:
                self._is_reserved = False
                self._condition.notify_all()
