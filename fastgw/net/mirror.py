"""A route's mirror in one worker: which requests are copied to it, within which bounds, and what came of them.

A copy is sent when its request has been answered, so that it never comes before the client, not even on the
processor; it has the mirror's own pool, and an end of its own. What is open at once is bounded, and so is what is kept
for it. Nobody hears of a copy but the counts here, and standard error now and then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw.counters import COLUMN_SIZE
from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.net.tee import KeptAnswer, Shadow, Tee
from fastgw.policy.mirror import MirrorSettings, compare

if TYPE_CHECKING:
    from fastgw.net.clock import Sweep
    from fastgw.ports import Pool
    from fastgw.snapshot import Mirror

# Whoever has seen one difference every ten seconds knows that there are many.
_TOLD_EVERY_S = 10.0
_COUNTS_TOLD_EVERY_S = 60.0
# Of a path, in a line.
_PATH_MAX = 200

# What is counted.
SENT = "sent"
FAILED = "failed"
COMPARED = "compared"
DIFFERENT = "different"
TOO_MANY = "too many at once"
TOO_LARGE = "body too large"
NOT_WHOLE = "request not sent whole"


class _NoLog:
    def record(self, exchange: Exchange) -> None: ...


def copies_gateway(gateway: Gateway) -> Gateway:
    """What copies share: none of them is logged, or counted with what clients have asked for."""
    return Gateway(
        gateway.snapshot, gateway.pools, _NoLog(), gateway.now, gateway.chance, b"", gateway.failed, [0] * COLUMN_SIZE
    )


class RouteMirror:
    """`gateway` is the copies' own. `counts` are those of this worker, by what is above and by kinds of difference."""

    def __init__(
        self,
        route: str,
        settings: Mirror,
        pool: Pool,
        gateway: Gateway,
        sweep: Sweep,
        report: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.counts: Counter[str] = Counter()
        self._route = route
        self._gateway = gateway
        self._sweep = sweep
        self._report = report
        self._is_retired = False
        # Tees and copies.
        self.open = 0
        # Copies in flight, the oldest first, with their last moments.
        self._copies: dict[Exchange, float] = {}
        self._told_at = float("-inf")
        self._counts_told_at = gateway.now()
        self._counts_told: Counter[str] = Counter()
        self._comparison = settings.compare or MirrorSettings()
        # A cookie that the gateway itself sets makes an answer private.
        headers = tuple(name for name in self._comparison.headers if name != b"cache-control")
        self._comparison_with_cookies = replace(self._comparison, headers=headers)
        sweep.each_tick.append(self.tick)

    def tee(self, exchange: Exchange) -> Tee | None:
        """What stands before the client of a request that is to be copied; None: it isn't."""
        settings, request = self.settings, exchange.request
        if self._gateway.chance() >= settings.sample or request.upgrade:
            return None
        if self.open >= settings.max_in_flight:
            self.counts[TOO_MANY] += 1
            return None
        if request.content_length > settings.max_body:
            self.counts[TOO_LARGE] += 1
            return None
        self.open += 1
        kept = None
        if settings.compare is not None and self._gateway.chance() < settings.compare_sample:
            kept = KeptAnswer(settings.compare.max_json_size)
        return Tee(self, exchange, settings.max_body, kept)

    def primary_ended(self, tee: Tee, exchange: Exchange) -> None:
        """The client has its answer, or is gone: now the copy is sent, and what goes wrong is none of its business."""
        try:
            if self._can_be_sent(tee, exchange):
                self._send(tee, exchange)
            else:
                self.open -= 1
        except Exception:
            self._gateway.failed()

    def _can_be_sent(self, tee: Tee, exchange: Exchange) -> bool:
        if not tee.has_body:
            self.counts[TOO_LARGE] += 1
        elif not exchange.endpoint or not exchange.request_complete:
            self.counts[NOT_WHOLE] += 1
        else:
            return True
        return False

    def _send(self, tee: Tee, exchange: Exchange) -> None:
        now = self._gateway.now()
        shadow = Shadow(self, tee)
        shadow.exchange = copy = Exchange(self._gateway, shadow, now)
        self._copies[copy] = now + self.settings.timeout
        self.counts[SENT] += 1
        copy.begin_copy(exchange, self.pool, tee.body, tee.trailers)

    def copy_ended(self, copy: Exchange, shadow: Shadow) -> None:
        """Its answer is there, or none comes."""
        del self._copies[copy]
        self.open -= 1
        if copy.reason:
            self.counts[FAILED] += 1
        elif shadow.primary is not None and shadow.kept is not None:
            self._compare(copy, shadow.primary, shadow.kept)

    def _compare(self, copy: Exchange, primary: KeptAnswer, mirror: KeptAnswer) -> None:
        settings = self._comparison_with_cookies if primary.has_cookies else self._comparison
        with_body = primary.is_whole and mirror.is_whole
        comparison = compare(primary.seen(with_body), mirror.seen(with_body), settings)
        self.counts[COMPARED] += 1
        if comparison.is_same:
            return
        self.counts[DIFFERENT] += 1
        self.counts.update(comparison.kinds())
        now = self._gateway.now()
        if now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            request = copy.request
            what = f"{request.method.decode('latin-1')} {request.path[:_PATH_MAX].decode('latin-1')}"
            said = "; ".join(map(str, comparison.differences)) + ("; and more" if comparison.is_cut else "")
            self._report(f"mirror of route {self._route}: {what}: {said}")

    def tick(self, now: float) -> None:
        """Ends what takes too long, and tells how it goes."""
        while self._copies:
            copy, until = next(iter(self._copies.items()))
            if until > now:
                break
            copy.timed_out()
        if now - self._counts_told_at >= _COUNTS_TOLD_EVERY_S:
            self._counts_told_at = now
            self._tell_counts()
        if self._is_retired and not self.open:
            self._tell_counts()
            self._sweep.each_tick.remove(self.tick)

    def retire(self) -> None:
        """The configuration has no use for it any more: what is open is its last."""
        self._is_retired = True

    def _tell_counts(self) -> None:
        """If there is anything new."""
        if self.counts == self._counts_told:
            return
        self._counts_told = self.counts.copy()
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        self._report(f"mirror of route {self._route}: {told}")
