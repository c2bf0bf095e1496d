"""When a certificate is ordered: the first, the next one, and again after a failure. No I/O: it is told the time.

A failing order is repeated after 1, 3, 9, … minutes, up to six hours: five times in the first hour, which is what Let's
Encrypt takes of one name. The same bound holds whatever becomes of orders, files and processes: attempts are written
down before they begin.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RETRY_MIN_S = 60.0
RETRY_FACTOR = 3.0
RETRY_MAX_S = 6 * 3600.0
HOUR_S = 3600.0
ATTEMPTS_PER_HOUR = 5
# Unless the configuration says when: 30 days of the usual 90, two days of six.
_LIFETIME_LEFT = 1 / 3
# However early the configuration wants it, a third of the lifetime passes first: or each new one were due at once.
_LIFETIME_LEFT_MAX = 2 / 3
# Hosts that got their certificates together don't come back together: some are up to so much of the time left later.
_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Validity:
    """Of a certificate, in seconds since 1970."""

    begins: float
    ends: float


class Renewals:
    """`attempts`: when orders were begun in the last hour. `renew_before` is in seconds; 0: a third of the lifetime.

    `validities` are those of the certificates that are there, to be set to what there is.
    """

    def __init__(
        self,
        names: Sequence[str],
        renew_before: float,
        attempts: Mapping[str, Sequence[float]],
    ) -> None:
        self._names = names
        self._renew_before = renew_before
        self.validities: dict[str, Validity] = {}
        # To be written down.
        self.attempts = {name: list(times) for name, times in attempts.items()}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        # When it is not about a name: the authority can't be reached, or takes no more of anybody.
        self._pauses = 0
        self._paused_until = 0.0

    def next(self) -> tuple[str, float]:
        """The name that is due first, and when."""
        return min(((name, self.due(name)) for name in self._names), key=lambda pair: pair[1])

    def due(self, name: str) -> float:
        times = self.attempts.get(name, ())
        full = times[-ATTEMPTS_PER_HOUR] + HOUR_S if len(times) >= ATTEMPTS_PER_HOUR else 0.0
        return max(self.renewal(name), self._not_before.get(name, 0.0), full, self._paused_until)

    def renewal(self, name: str) -> float:
        """When the certificate that is there is to be renewed; 0 if there is none."""
        validity = self.validities.get(name)
        if validity is None:
            return 0.0
        lifetime = validity.ends - validity.begins
        left = min(self._renew_before or lifetime * _LIFETIME_LEFT, lifetime * _LIFETIME_LEFT_MAX)
        place = zlib.crc32(name.encode()) / 2**32
        return validity.ends - left * (1 - _SPREAD * place)

    def begun(self, name: str, now: float) -> None:
        """An order begins."""
        self.attempts.setdefault(name, []).append(now)
        recent = {one: [at for at in times if now - at < HOUR_S] for one, times in self.attempts.items()}
        self.attempts = {one: times for one, times in recent.items() if times}

    def succeeded(self, name: str, validity: Validity) -> None:
        self.validities[name] = validity
        self._pauses, self._paused_until = 0, 0.0
        self._failures.pop(name, None)
        self._not_before.pop(name, None)

    def failed(self, name: str, now: float, retry_after: float) -> float:
        """Gives for how long it is not tried again; `retry_after` is what the authority has said, or 0."""
        # The authority has answered, so there is no reason to hold others up.
        self._pauses = 0
        self._failures[name] = failures = self._failures.get(name, 0) + 1
        self._not_before[name] = now + max(_back_off(failures), retry_after)
        return self.due(name) - now

    def paused(self, name: str, now: float, retry_after: float) -> float:
        """As `failed`, for all names: it is not the name's fault."""
        self.attempts.get(name, [now]).pop()
        self._pauses += 1
        self._paused_until = now + max(_back_off(self._pauses), retry_after)
        return self._paused_until - now


def _back_off(failures: int) -> float:
    return float(min(RETRY_MIN_S * RETRY_FACTOR ** (failures - 1), RETRY_MAX_S))
