"""Which endpoints are ejected for what their answers were (passive health; Envoy calls it outlier detection).

Three things are held against an endpoint: failures in a row, the share of failures in a sliding window, and, where
that is asked for, being much slower than its siblings. It is ejected for a while, longer each time in a row; the
count sinks again while it does well. When its time is over it is on trial, as with Finagle's failure accrual: still
ejected, but for a request now and then, and what becomes of those decides. Were it to get its share at once, one that
is still slow would have two requests in a hundred, and with them the 99th percentile, each time that it comes back.
What counts as a failure is the caller's word; what an ejection means for picking is `health.out_mask`'s, and how often
one on trial is asked, the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from statistics import median

from fastgw.window import Window

# Of endpoints with enough samples: the median of fewer than two others is just another endpoint.
_COMPARABLE_MIN = 3
# Between two judgements of latency, which cost 4 µs an endpoint: all its samples are looked at.
_LATENCY_JUDGED_EVERY_S = 1.0
# Good answers in a row that end a trial. Finagle is content with one, which is luck half of the time for an endpoint
# that fails every other request; and a median of five outlasts two that are slow because caches were cold.
TRIAL_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """When an endpoint is ejected, and for how long."""

    # Envoy's default, and enough to tell a broken endpoint from one broken connection. 0: off.
    consecutive_failures: int = 5
    # More than this share of the answers in the window; an endpoint that fails every other request, in turns with
    # good answers, has no failures in a row. 1: off.
    failure_rate: float = 0.5
    # Long enough for `min_answers` at two requests a second, short enough to forget a deployment.
    window: float = 10.0
    # Below it, a share says nothing.
    min_answers: int = 20
    # So many times the median of the others' medians; 0: off, since endpoints may differ for good reasons.
    latency_factor: float = 0.0
    # The last so many within the window, at one a tick, are an endpoint's median: of fewer it is luck, and of those of
    # a whole window it would be old news for half of one.
    latency_samples: int = 20
    # What is faster than this is never too slow: 5 times 1 ms is no reason to lose an endpoint.
    latency_floor: float = 0.05
    # Envoy's defaults: long enough for a restart, and short enough to find an endpoint that is well again.
    base_ejection: float = 30.0
    max_ejection: float = 300.0
    # Share of the endpoints that may be ejected at once. When more than half are bad, it's more likely what is
    # behind all of them, and the rest can't carry the load either.
    max_ejected: float = 0.5


class _Endpoint:
    """What is known of one endpoint."""

    __slots__ = (
        "ejections",
        "failures_in_row",
        "reason",
        "recovers_at",
        "returns_at",
        "sample_count",
        "sampled_tick",
        "samples",
        "trial_left",
        "window",
    )

    def __init__(self, window: Window) -> None:
        self.window = window
        self.failures_in_row = 0
        # Of good answers, in a ring, with when they came; of those that nobody waited for, what they took at least.
        self.samples: list[tuple[float, float]] = []
        self.sample_count = 0
        self.sampled_tick = -1
        self.ejections = 0
        self.returns_at = inf
        # Good answers that it lacks yet, on trial.
        self.trial_left = 0
        # When one of its ejections is forgiven.
        self.recovers_at = inf
        self.reason = ""


class OutlierDetector:
    """An upstream's endpoints, as one worker sees them. Bit i of `ejected` is set while endpoint i is, and that of
    `on_trial` beside it while a request now and then shall show how it is."""

    __slots__ = (
        "_ejectable",
        "_endpoints",
        "_judges_latency_at",
        "_tick",
        "_wants_samples",
        "ejected",
        "on_trial",
        "settings",
    )

    def __init__(self, count: int, settings: OutlierSettings, now: float, gone: int = 0) -> None:
        """`gone`: the places among the `count` where there is no endpoint."""
        self.settings = settings
        self.ejected = 0
        self.on_trial = 0
        self._endpoints = [_Endpoint(Window(settings.window, now)) for _ in range(count)]
        # As Envoy's `always_eject_one_host`, but for the only endpoint there is: without it nothing works at all.
        # The addend: 0.29 * 100 is 28.999999999999996.
        present = count - gone.bit_count()
        self._ejectable = max(1, int(settings.max_ejected * present + 1e-9)) if present > 1 else 0
        self._wants_samples = settings.latency_factor > 0
        self._judges_latency_at = now + _LATENCY_JUDGED_EVERY_S
        self._tick = 0

    def inherit(self, before: OutlierDetector, endpoints: int) -> None:
        """Takes over what another one knows of the endpoints whose bits are set."""
        self._tick = before._tick
        self._judges_latency_at = before._judges_latency_at
        self.ejected = before.ejected & endpoints
        self.on_trial = before.on_trial & endpoints
        for endpoint in range(len(self._endpoints)):
            if endpoints >> endpoint & 1:
                self._endpoints[endpoint] = before._endpoints[endpoint]

    def answered(self, endpoint: int, is_failure: bool, seconds: float, now: float) -> bool:
        """An endpoint's answer, or what came instead, after `seconds`. True: `ejected` or `on_trial` has changed."""
        seen = self._endpoints[endpoint]
        seen.window.add(now)
        if is_failure:
            seen.failures_in_row += 1
            seen.window.mark(now)
            return self._judge(endpoint, seen, now)
        seen.failures_in_row = 0
        if self._wants_samples:
            self._sample(seen, seconds, now)
        if self.on_trial and self.on_trial >> endpoint & 1:
            return self._stands(endpoint, seen, now)
        return False

    def outpaced(self, endpoint: int, seconds: float, now: float) -> None:
        """No answer within `seconds`, and nobody waits for it any more: that says how slow it is, and nothing else."""
        if self._wants_samples:
            self._sample(self._endpoints[endpoint], seconds, now)

    def passes_checks(self, endpoint: int) -> None:
        """It has failed active checks and passes them again, so its trial need not wait any longer."""
        seen = self._endpoints[endpoint]
        if seen.returns_at != inf:
            seen.returns_at = 0.0

    def tick(self, now: float) -> bool:
        """Ten times a second: puts endpoints on trial, and judges what no single answer shows. True: as `answered`."""
        self._tick += 1
        changed = False
        for endpoint, seen in enumerate(self._endpoints):
            if seen.returns_at <= now:
                self._try(endpoint, seen)
                changed = True
            elif seen.recovers_at <= now:
                seen.ejections -= 1
                seen.recovers_at = now + self.settings.base_ejection if seen.ejections else inf
        if self._wants_samples and now >= self._judges_latency_at:
            self._judges_latency_at = now + _LATENCY_JUDGED_EVERY_S
            changed = self._judge_latency(now) or changed
        return changed

    def reason(self, endpoint: int) -> str:
        """Why an endpoint is ejected, and for how long; empty when it isn't."""
        return self._endpoints[endpoint].reason

    def _sample(self, seen: _Endpoint, seconds: float, now: float) -> None:
        # One a tick, so that the samples are spread over the window: a pause of an instant is not the median.
        if seen.sampled_tick == self._tick:
            return
        seen.sampled_tick = self._tick
        if seen.sample_count < self.settings.latency_samples:
            seen.samples.append((now, seconds))
        else:
            seen.samples[seen.sample_count % self.settings.latency_samples] = (now, seconds)
        seen.sample_count += 1

    def _judge(self, endpoint: int, seen: _Endpoint, now: float) -> bool:
        """After a failure: a good answer makes nothing worse."""
        settings = self.settings
        if self.ejected >> endpoint & 1:
            return bool(self.on_trial >> endpoint & 1) and self._eject(endpoint, "a failure on trial", now)
        if 0 < settings.consecutive_failures <= seen.failures_in_row:
            return self._eject(endpoint, f"{seen.failures_in_row} failures in a row", now)
        answers = seen.window.total(now)
        if answers < settings.min_answers:
            return False
        failures = seen.window.marked(now)
        if failures <= settings.failure_rate * answers:
            return False
        return self._eject(endpoint, f"{failures} failures in {answers} answers within {settings.window:g} s", now)

    def _judge_latency(self, now: float) -> bool:
        """Against the siblings: what slows all of them down is nobody's fault."""
        medians = self._medians(now)
        if len(medians) < _COMPARABLE_MIN:
            return False
        changed = False
        # The slowest first: not all of them may be ejectable.
        for endpoint in sorted(medians, key=medians.__getitem__, reverse=True):
            siblings = [other for sibling, other in medians.items() if sibling != endpoint]
            words = self._too_slow(medians[endpoint], siblings)
            if words:
                changed = self._eject(endpoint, words, now) or changed
        return changed

    def _medians(self, now: float) -> dict[int, float]:
        """Of those that are not ejected, and that enough is known of."""
        settings = self.settings
        medians: dict[int, float] = {}
        for endpoint, seen in enumerate(self._endpoints):
            if not self.ejected >> endpoint & 1:
                fresh = [seconds for at, seconds in seen.samples if at > now - settings.window]
                if len(fresh) >= settings.latency_samples:
                    medians[endpoint] = median(fresh)
        return medians

    def _too_slow(self, own: float, siblings: list[float]) -> str:
        """In words; empty: it isn't."""
        settings = self.settings
        if own <= settings.latency_floor or len(siblings) < _COMPARABLE_MIN - 1:
            return ""
        usual = median(siblings)
        if own <= settings.latency_factor * usual:
            return ""
        return f"a median latency of {own * 1e3:.3g} ms where its siblings' is {usual * 1e3:.3g} ms"

    def _eject(self, endpoint: int, words: str, now: float) -> bool:
        bit = 1 << endpoint
        if not self.ejected & bit and self.ejected.bit_count() >= self._ejectable:
            return False
        settings = self.settings
        seen = self._endpoints[endpoint]
        seen.ejections += 1
        seconds = min(settings.base_ejection * seen.ejections, settings.max_ejection)
        seen.returns_at = now + seconds
        seen.recovers_at = inf
        again = f", number {seen.ejections} in a row" if seen.ejections > 1 else ""
        seen.reason = f"{words}; ejected for {seconds:g} s{again}"
        self.ejected |= bit
        self.on_trial &= ~bit
        return True

    def _try(self, endpoint: int, seen: _Endpoint) -> None:
        """Its time is over. It starts anew, but for the count of its ejections."""
        self.on_trial |= 1 << endpoint
        seen.returns_at = inf
        seen.trial_left = TRIAL_ANSWERS
        seen.failures_in_row = 0
        seen.window.clear()
        seen.samples.clear()
        seen.sample_count = 0

    def _stands(self, endpoint: int, seen: _Endpoint, now: float) -> bool:
        """A good answer on trial. The last one that was lacking decides."""
        seen.trial_left -= 1
        if seen.trial_left > 0:
            return False
        if self._wants_samples:
            own = median([seconds for _, seconds in seen.samples])
            words = self._too_slow(own, list(self._medians(now).values()))
            if words:
                return self._eject(endpoint, words, now)
        bit = 1 << endpoint
        self.ejected &= ~bit
        self.on_trial &= ~bit
        seen.reason = ""
        seen.recovers_at = now + self.settings.base_ejection
        return True
