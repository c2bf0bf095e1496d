"""An upstream's endpoints as one worker knows them: who gets the next request, who gets none for now, and why.

Here the policies of balancing and resilience meet: each decides one thing and knows nothing of the others. What is
not configured is None, and costs a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from fastgw.counters import ACTIVE, BREAKER, EJECTED, EJECTIONS, ENDPOINT, IDLE, IN_FLIGHT, LATENCY_US
from fastgw.net.admission import Admission, Tell
from fastgw.net.slots import Slots, first_slots
from fastgw.policy.balancer import LeastRequests, PowerOfTwo, Random, RoundRobin
from fastgw.policy.health import out_mask
from fastgw.policy.maglev import Maglev, hash_of
from fastgw.policy.outlier import OutlierDetector
from fastgw.policy.peak_ewma import PeakEwma
from fastgw.policy.slow_start import SlowStart, WarmingWeights
from fastgw.policy.sticky_cookie import StickyCookie
from fastgw.rows import Rows

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.net.upstream import UpstreamConnection
    from fastgw.snapshot import Upstream

# An endpoint may have twice its share of what is in flight, and eight requests in any case: with the paper's 1.25 and
# few requests a fifth of them would leave their endpoint, and what it keeps for them is why they are hashed at all.
_HASH_LOAD_FACTOR = 2.0
_HASH_BOUND_MIN = 8
_KEYS = 2.0**64
# From here on an answer speaks against the endpoint.
_SERVER_ERROR = 500
# RFC 9110 §15.6.4, RFC 6585 §4.
_OVERLOAD = (503, 429)


class EndpointStates:
    """`out` has a bit for each endpoint that must not be picked; `active[i]` counts the requests in flight at i."""

    def __init__(
        self,
        upstream: Upstream,
        now: Callable[[], float],
        chance: Callable[[], float],
        report: Callable[[str], None],
        slots: Slots | None = None,
        rows: Rows | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.slots = slots = slots or first_slots(upstream.endpoints)
        self._endpoints = endpoints = slots.endpoints
        self._upstream = upstream
        self._counted_in = rows or Rows()
        # What is counted of each.
        self.rows = self._looked_up_rows()
        self._now = now
        self._chance = chance
        self._report = report
        self._tell = tell
        weights = tuple(float(endpoint.weight) for endpoint in endpoints)
        self.active = [0] * len(endpoints)
        self.everyone = (1 << len(endpoints)) - 1
        self.maglev = _maglev(slots, weights) if upstream.balance == "hash" else None
        self.balancer = _balancer(upstream.balance, weights, chance)
        self.sticky = _sticky(upstream, slots)
        # Endpoints on trial that get the next request; then they wait for the next tick.
        self._trials = 0
        # Whether a pick takes more than the balancer: the request itself says where it goes, or there is a trial.
        self.looks_at_request = self.maglev is not None or self.sticky is not None
        self._ewma = self.balancer if isinstance(self.balancer, PeakEwma) else None
        self._warming = WarmingWeights(SlowStart(upstream.slow_start), weights) if upstream.slow_start else None
        self._is_warm = True
        self._backups = sum(1 << index for index, endpoint in enumerate(endpoints) if endpoint.backup)
        # Those who get nothing, even in panic.
        self._leaving = slots.gone | sum(1 << index for index, endpoint in enumerate(endpoints) if endpoint.draining)
        self._unhealthy_names: Collection[str] = ()
        self._unhealthy = 0
        # What spoke against endpoints when that was last looked at.
        self._ejected = 0
        self._on_trial = 0
        self._bad = 0
        self._is_panic = False
        outliers = upstream.outliers
        self.detector = OutlierDetector(len(endpoints), outliers, now(), slots.gone) if outliers else None
        self.admission = Admission(upstream, now, report, tell) if upstream.breaker or upstream.concurrency else None
        self._samples = self.admission if upstream.concurrency else None
        # Whether it wants to hear of answers, and be told of time.
        self.observes = bool(self.detector or self._samples or self._ewma)
        self.ticks = bool(self.detector or self._warming)
        self.out = self._out(0)

    def followed_by(self, upstream: Upstream, slots: Slots) -> EndpointStates:
        """The same upstream with other endpoints; what is known of those that stay is taken over."""
        after = EndpointStates(upstream, self._now, self._chance, self._report, slots, self._counted_in, self._tell)
        staying = slots.staying(self.slots)
        after.active = self.active
        after.active += [0] * (len(slots.endpoints) - len(self.active))
        del after.active[len(slots.endpoints) :]
        after.admission, after._samples = self.admission, self._samples
        if after.detector is not None and self.detector is not None:
            after.detector.inherit(self.detector, staying)
            after._ejected, after._on_trial = after.detector.ejected, after.detector.on_trial
        if after._ewma is not None and self._ewma is not None:
            after._ewma.inherit(self._ewma, staying)
        if self._warming is not None:
            after._go_on_warming(self._warming, staying, is_first=not self.slots.present())
        after._take_unhealthy(self._unhealthy_names)
        # Nothing is said of who is new, or gone: that was said by whoever has found it.
        after._bad = (self._bad & staying) | (after._unhealthy & ~staying)
        after._is_panic = self._is_panic
        after._settle()
        return after

    def _go_on_warming(self, before: WarmingWeights, staying: int, is_first: bool) -> None:
        if self._warming is None:
            return
        self._warming.inherit(before, staying)
        for index in range(len(self._endpoints)):
            # Who was there before the gateway has been at work already.
            if not is_first and not (staying | self.slots.gone) >> index & 1:
                self._warming.came_up(index, self._now())
        self._is_warm = False
        self._set_weights(self._warming.effective(self._now()))

    # Who is next.

    def excluded(self, tried: int) -> int:
        """The endpoints that a request can't go to that has tried these. Backups stand in for those, too."""
        # Somebody may have been there where no place is any more.
        tried &= self.everyone
        if not tried:
            return self.out
        ejected = self.detector.ejected if self.detector is not None else 0
        well = out_mask(self.everyone, self._backups, self._unhealthy | tried, ejected, self._leaving, 0.0)
        return well if well != self.everyone else self.out | tried

    def pick_for(self, exchange: Exchange, capacity: int, unavailable: int) -> int:
        """As `_choose`; one that is on trial has had its request then, until the next tick."""
        place = self._choose(exchange, capacity, unavailable)
        if self._trials and place >= 0 and self._trials >> place & 1:
            self._open_trials(self._trials & ~(1 << place))
        return place

    def _choose(self, exchange: Exchange, capacity: int, unavailable: int) -> int:
        """Where the client's cookie leads if that endpoint can be taken; else as for a client without one."""
        if self.sticky is not None:
            place = self.sticky.place(exchange.sticky_token)
            if place >= 0 and self.active[place] < capacity and not unavailable >> place & 1:
                return place
        if self.maglev is not None:
            return self.pick_by_key(exchange, capacity, unavailable)
        return self.balancer.pick(self.active, capacity, unavailable)

    def pick_by_key(self, exchange: Exchange, capacity: int, unavailable: int) -> int:
        """With balance = "hash"."""
        maglev = self.maglev
        if maglev is None:
            return -1
        key = self.key(exchange)
        # Whoever has no key goes anywhere.
        hashed = int(self._chance() * _KEYS) if key is None else hash_of(key)
        return maglev.pick_for(hashed, self.active, capacity, unavailable)

    def key(self, exchange: Exchange) -> bytes | None:
        """What is hashed; None: the request does not have it."""
        kind, name = self._upstream.hash_on
        request = exchange.request
        if kind == "client.ip":
            return exchange.client
        if kind == "path":
            return request.path
        if kind == "header":
            return request.header(name.encode())
        return request.cookie(name.encode()) if kind == "cookie" else request.query_value(name.encode())

    # What is learned.

    def responded(self, endpoint: int, seconds: float, status: int) -> None:
        """An answer's head has come, after `seconds`."""
        if status >= _SERVER_ERROR:
            self._hears(endpoint, True, seconds)
        elif self._ewma is not None:
            self._ewma.observe(endpoint, seconds, self._now())
        if self._samples is not None:
            self._samples.sample(seconds, status in _OVERLOAD)

    def succeeded(self, endpoint: int, seconds: float) -> None:
        """An answer that was no server error has come whole, its head after `seconds`; or a tunnel has begun."""
        # Not through `_hears`: this is for every request.
        if self.detector is not None and self.detector.answered(endpoint, False, seconds, self._now()):
            self._settle()

    def failed(self, endpoint: int) -> None:
        """No connection could be made, or it broke."""
        self._hears(endpoint, True, 0.0)
        if self._samples is not None:
            self._samples.sample(0.0, True)

    def timed_out(self, endpoint: int, seconds: float) -> None:
        """No answer's head has come for `seconds`: it is that slow, at the least."""
        self._hears(endpoint, True, seconds)
        if self._ewma is not None:
            self._ewma.observe(endpoint, seconds, self._now())
        if self._samples is not None:
            self._samples.sample(seconds, True)

    def outpaced(self, endpoint: int, seconds: float) -> None:
        """Another endpoint has answered, and this one not within `seconds`: it is that slow, at the least, and no more
        is known. It may have been about to answer, so that is no failure.

        What it took in truth is more, but an average is never lowered by this: if nothing came in, it would decay.
        """
        now = self._now()
        if self.detector is not None:
            self.detector.outpaced(endpoint, seconds, now)
        if self._ewma is not None:
            self._ewma.observe(endpoint, seconds, now)
        if self._samples is not None:
            self._samples.sample(seconds, False)

    def _hears(self, endpoint: int, is_failure: bool, seconds: float) -> None:
        # What ends at one that is gone ejects nobody: few may be ejected at once.
        if self.detector is None or self.slots.gone >> endpoint & 1:
            return
        if self.detector.answered(endpoint, is_failure, seconds, self._now()):
            self._settle()

    def set_unhealthy(self, names: Collection[str]) -> None:
        """The endpoints whose checks fail."""
        before = self._unhealthy
        self._take_unhealthy(names)
        self._pass_checks(before & ~self._unhealthy)
        self._settle()

    def _take_unhealthy(self, names: Collection[str]) -> None:
        self._unhealthy_names = names
        self._unhealthy = sum(1 << index for index, endpoint in enumerate(self._endpoints) if endpoint.name in names)

    def _pass_checks(self, well_again: int) -> None:
        """The checks have seen the trouble and its end (Envoy: successful_active_health_check_uneject_host). One that
        never fails them says nothing by passing: they may ask for less than clients do."""
        if not well_again:
            return
        if self.admission is not None:
            self.admission.passes_checks()
        if self.detector is not None:
            for index in range(len(self._endpoints)):
                if well_again >> index & 1:
                    self.detector.passes_checks(index)

    def tick(self, now: float) -> None:
        if self.detector is not None:
            if self.detector.tick(now):
                self._settle()
            elif self.detector.on_trial != self._trials:
                self._open_trials(self.detector.on_trial)
        if self._warming is not None and not self._is_warm:
            self._is_warm = self._warming.are_warm(now)
            self._set_weights(self._warming.effective(now))

    def _looked_up_rows(self) -> list[list[int]]:
        rows, upstream = self._counted_in, self._upstream.name
        return [rows.row(ENDPOINT, endpoint.name, upstream) for endpoint in self._endpoints]

    def look_up_rows_again(self) -> None:
        """The rows are others than before."""
        self.rows = self._looked_up_rows()

    def write_levels(self, idle: list[list[UpstreamConnection]], row: list[int]) -> None:
        """How it is now, into the rows of the endpoints and that of the upstream."""
        ejected = self.detector.ejected if self.detector is not None else 0
        for index, endpoint in enumerate(self.rows):
            endpoint[ACTIVE] = self.active[index]
            endpoint[IDLE] = len(idle[index])
            endpoint[EJECTED] = ejected >> index & 1
            latency_s = self._ewma.average(index) if self._ewma is not None else None
            endpoint[LATENCY_US] = int(latency_s * 1e6) if latency_s is not None else 0
        if self.admission is not None:
            row[IN_FLIGHT] = self.admission.in_flight
            row[BREAKER] = self.admission.breaker_state

    def _settle(self) -> None:
        """Something speaks against other endpoints than before."""
        detector = self.detector
        ejected, on_trial = (detector.ejected, detector.on_trial) if detector is not None else (0, 0)
        bad = self._unhealthy | ejected
        for index, endpoint in enumerate(self._endpoints):
            bit = 1 << index
            if detector is not None and (ejected ^ self._ejected | on_trial ^ self._on_trial) & bit:
                if ejected & ~on_trial & bit:
                    self.rows[index][EJECTIONS] += 1
                self._say_ejected(endpoint.name, bit, detector.reason(index))
            if self._bad & bit and not bad & bit and self._warming is not None:
                self._warming.came_up(index, self._now())
                self._is_warm = False
        self._bad, self._ejected, self._on_trial = bad, ejected, on_trial
        if self._warming is not None and not self._is_warm:
            self._set_weights(self._warming.effective(self._now()))
        is_panic = bool(self.everyone & ~self._out(0) & bad)
        if is_panic != self._is_panic:
            self._is_panic = is_panic
            if is_panic:
                self._say("upstream", "panic", "too few endpoints are available: all are used")
            else:
                self._say("upstream", "no-panic", "enough endpoints are available")
        self._open_trials(on_trial)

    def _say_ejected(self, name: str, bit: int, reason: str) -> None:
        detector = self.detector
        if detector is None or not detector.ejected & bit:
            self._say("endpoint", "returned", f"{name} is not ejected any more")
        elif detector.on_trial & bit:
            self._say("endpoint", "on-trial", f"{name} is on trial")
        else:
            self._say("endpoint", "ejected", f"{name} is ejected: {reason}")

    def _open_trials(self, trials: int) -> None:
        """The next request may go to these, but for panic, in which they get their share anyway."""
        self._trials = 0 if self._is_panic else trials
        self.looks_at_request = bool(self._trials) or self.maglev is not None or self.sticky is not None
        self.out = self._out(self._trials)

    def _say(self, kind: str, outcome: str, what: str) -> None:
        line = f"upstream {self._upstream.name}: {what}"
        self._report(line)
        if self._tell is not None:
            self._tell(kind, outcome, line)

    def _set_weights(self, weights: tuple[float, ...]) -> None:
        self.balancer.set_weights(weights)
        if self.maglev is not None:
            self.maglev.set_weights(weights)

    def _out(self, trials: int) -> int:
        ejected = self.detector.ejected & ~trials if self.detector is not None else 0
        return out_mask(
            self.everyone, self._backups, self._unhealthy, ejected, self._leaving, self._upstream.panic_threshold
        )


def _balancer(
    balance: str, weights: tuple[float, ...], chance: Callable[[], float]
) -> RoundRobin | LeastRequests | PowerOfTwo | PeakEwma | Random:
    if balance == "least-requests":
        return LeastRequests(weights)
    if balance == "power-of-two":
        return PowerOfTwo(weights, chance)
    if balance == "ewma":
        return PeakEwma(weights, chance)
    if balance == "random":
        return Random(weights, chance)
    return RoundRobin(weights)


def _sticky(upstream: Upstream, slots: Slots) -> StickyCookie | None:
    if upstream.sticky is None:
        return None
    names = tuple(endpoint.name for endpoint in slots.endpoints)
    return StickyCookie(upstream.sticky, names, f"upstream {upstream.name}")


def _maglev(slots: Slots, weights: tuple[float, ...]) -> Maglev:
    names = tuple(endpoint.name for endpoint in slots.endpoints)
    return Maglev(names, weights, load_factor=_HASH_LOAD_FACTOR, bound_min=_HASH_BOUND_MIN, gone=slots.gone)
