"""An upstream's hedging in one worker: when a second try is due.

Requests wait in the order in which they were sent, and all for the same delay, so one timer for the first of them is
enough. Most are answered long before, and are passed over then. When the delay sinks, a timer that is set already comes
late by as much, once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from fastgw.hedging import Hedge, is_hedged
from fastgw.policy.retry import HedgeDelay, HedgeSettings

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.gateway import Gateway

# The loop's timers have whole milliseconds: one may come this much before its time.
_EARLY_S = 0.001


class Hedges:
    """`by_default` says whether it is for routes that say nothing of it."""

    def __init__(
        self, settings: HedgeSettings, by_default: bool, gateway: Gateway, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._by_default = by_default
        self._gateway = gateway
        self._loop = loop
        self._delay = HedgeDelay(settings)
        self._watched: deque[Hedge] = deque()
        self._is_timed = False

    def sent(self, exchange: Exchange, now: float) -> None:
        """A request is out whole; if it is a first try, a second may follow."""
        # What a mirror sends has a gateway of its own, and nobody waits for it.
        if exchange.retries or exchange.gateway is not self._gateway or not is_hedged(exchange, self._by_default):
            return
        exchange.hedge = hedge = Hedge(exchange, self._delay, now)
        seconds = self._delay.seconds
        # Until enough is known, it is watched for what it takes.
        if seconds < inf:
            self._watched.append(hedge)
            if not self._is_timed:
                self._is_timed = True
                self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        watched, now, seconds = self._watched, self._gateway.now(), self._delay.seconds
        sent_before = now - seconds + _EARLY_S
        while watched:
            hedge = watched[0]
            if hedge.exchange is not None:
                if hedge.sent_at > sent_before:
                    break
                self._is_due(hedge, hedge.exchange)
            watched.popleft()
        if watched:
            self._loop.call_later(watched[0].sent_at + seconds - now, self._look)
        else:
            self._is_timed = False

    def _is_due(self, hedge: Hedge, exchange: Exchange) -> None:
        try:
            hedge.is_due()
        except Exception:
            self._gateway.failed()
            exchange.crashed()
