"""How many requests an upstream gets at once, found out from its latency (adaptive concurrency).

The algorithm is in the family of TCP Vegas, as Netflix's concurrency-limits (Gradient2Limit) and Envoy's adaptive
concurrency filter have it. Latency that grows over what is usual means that requests wait for each other inside the
backend, so fewer are let in; as long as it does not, the limit grows by the square root of itself, which is what may
wait. What is over the limit is refused at once, where it would only have waited. Requests in flight are counted by
the caller.

A window of samples is judged at a time, by its mean. What is usual sinks fast to what is better. It rises slowly, and
only while the limit keeps nobody out: else the waiting that it causes would become usual, and the limit grow without
end. While it does keep some out, the backend is asked from time to time: for an instant the limit is a quarter, and
what is measured then is usual (as TCP BBR's ProbeRTT, and Envoy's measurement of its minimum).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

# A window is judged when it is this old and has as many samples: a mean of fewer is luck.
_WINDOW_S = 0.1
_SAMPLES_MIN = 10
# What is usual follows what is worse as an average of about so many windows: a minute.
_USUAL_WINDOWS = 600
# Part of the way down to a better latency, for each window.
_IMPROVING = 0.1
# When less of the limit was used, what happened says nothing about it. As Netflix.
_USED_MIN = 0.5
# The limit is at most halved by one window, before smoothing. As Netflix and Envoy.
_GRADIENT_MIN = 0.5
# For each window in which more than this share was dropped: as Netflix's AIMD limit, which takes a single one for
# enough. But a few always are, and then thousands of requests a second would end at the least limit.
_BACKOFF = 0.9
_DROPPED_MAX = 0.1
# How long the limit may keep requests out before what is usual is measured anew: BBR takes 10 s, Envoy 60. It lasts
# about three windows, so it costs 3% of what could have been answered.
_PROBED_EVERY_S = 10.0
# Of the limit while it is measured. If that is still too many, the next measurement begins lower.
_PROBE_PART = 0.25
# Requests that never end would keep it from beginning.
_PROBE_WINDOWS_MAX = 10

# What the limit is there for at the moment.
_WORKING = 0
_DRAINING = 1  # until no more are in flight than shall be
_MEASURING = 2


@dataclass(frozen=True, slots=True)
class ConcurrencySettings:
    """The bounds of the limit, and how it moves."""

    # Of one worker. 20 as Netflix: low, since growing takes a second and a flood can't be taken back.
    initial_limit: int = 20
    # Some must pass, or nothing is learned.
    min_limit: int = 4
    # Over 1,000 the pool's own bounds are nearer.
    max_limit: int = 1000
    # Latency may grow by this factor over what is usual before the limit falls: it is never constant. As Netflix.
    tolerance: float = 1.5
    # Part of the way to the new limit, for each window. As Netflix.
    smoothing: float = 0.2


class ConcurrencyLimit:
    """One upstream's, in one worker. `limit` is how many requests may be in flight."""

    __slots__ = (
        "_dropped",
        "_exact",
        "_in_flight_max",
        "_phase",
        "_probe_windows",
        "_probes_at",
        "_samples",
        "_seconds",
        "_settings",
        "_window_ends",
        "limit",
        "usual_s",
    )

    def __init__(self, settings: ConcurrencySettings, now: float) -> None:
        self._settings = settings
        self.limit = settings.initial_limit
        self._exact = float(settings.initial_limit)
        # The latency that is usual; 0: not known yet.
        self.usual_s = 0.0
        self._phase = _WORKING
        self._probe_windows = 0
        # When the limit has kept some out for too long.
        self._probes_at = now + _PROBED_EVERY_S
        # Of the window that is being collected.
        self._window_ends = now + _WINDOW_S
        self._samples = 0
        self._seconds = 0.0
        self._in_flight_max = 0
        self._dropped = 0

    def admits(self, in_flight: int) -> bool:
        """Whether another request may go out beside those in flight."""
        return in_flight < self.limit

    def sample(self, seconds: float, in_flight: int, was_dropped: bool, now: float) -> None:
        """A request's latency, and how many were in flight when it ended, with itself.

        `was_dropped`: it got no answer, or one that means overload (503, 429, time-out); its time says nothing.
        """
        if was_dropped:
            self._dropped += 1
        else:
            self._samples += 1
            self._seconds += seconds
        self._in_flight_max = max(self._in_flight_max, in_flight)
        if now >= self._window_ends and self._samples + self._dropped >= _SAMPLES_MIN:
            self._judge(now)

    def _judge(self, now: float) -> None:
        """At the end of a window."""
        if self._dropped > _DROPPED_MAX * (self._samples + self._dropped):
            self._set(self._exact * _BACKOFF)
        elif self._seconds > 0:
            recent = self._seconds / self._samples
            if self._phase != _WORKING:
                self._probe(recent, now)
            else:
                self._work(recent, now)
        self._window_ends = now + _WINDOW_S
        self._samples = 0
        self._seconds = 0.0
        self._in_flight_max = 0
        self._dropped = 0

    def _work(self, recent: float, now: float) -> None:
        keeps_out = self._in_flight_max >= self.limit
        if not keeps_out:
            self._probes_at = now + _PROBED_EVERY_S
        if not self.usual_s:
            self.usual_s = recent
        elif recent < self.usual_s:
            self.usual_s += (recent - self.usual_s) * _IMPROVING
        elif not keeps_out:
            self.usual_s += (recent - self.usual_s) / _USUAL_WINDOWS
        if self._in_flight_max >= self._exact * _USED_MIN:
            self._follow(recent)
        if now >= self._probes_at:
            self._phase = _DRAINING
            self._probe_windows = 0
            self._set(self._exact)

    def _probe(self, recent: float, now: float) -> None:
        """The first window without too many in flight still has those that had waited; the second is taken."""
        self._probe_windows += 1
        if self._phase == _MEASURING:
            self.usual_s = recent
        if self._phase == _MEASURING or self._probe_windows >= _PROBE_WINDOWS_MAX:
            self._phase = _WORKING
            self._probes_at = now + _PROBED_EVERY_S
            self._set(self._exact)
        elif self._in_flight_max <= self.limit:
            self._phase = _MEASURING

    def _follow(self, recent: float) -> None:
        settings = self._settings
        gradient = max(_GRADIENT_MIN, min(1.0, settings.tolerance * self.usual_s / recent))
        # What may wait inside the backend is added; it is also what lets the limit grow.
        wanted = self._exact * gradient + sqrt(self._exact)
        self._set(self._exact + (wanted - self._exact) * settings.smoothing)

    def _set(self, exact: float) -> None:
        """The one place where the limit changes."""
        settings = self._settings
        self._exact = max(float(settings.min_limit), min(float(settings.max_limit), exact))
        self.limit = int(self._exact)
        if self._phase != _WORKING:
            self.limit = max(settings.min_limit, int(self._exact * _PROBE_PART))
