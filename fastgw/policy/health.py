"""What the results of active health checks make of an endpoint, and which endpoints must not be picked.

`HealthChecks` counts results up and down as HAProxy's `rise` and `fall` do. `out_mask` puts together all that speaks
against endpoints (failed checks, ejections, draining) with backups and the panic threshold. Making the checks, and
picking among the endpoints that are left, is for others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Share of an interval by which it is shortened or lengthened at random, so that the checks of many gateways don't
# fall together for ever.
_JITTER = 0.1
# Of the interval, unless it is said: with two good results in a row, an endpoint is back within one and a half of them.
FAST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How often an endpoint is checked, and how many results it takes to believe them."""

    # Good results in a row that bring an endpoint back: HAProxy's default. One may be luck.
    rise: int = 2
    # Bad results in a row that take it out: HAProxy's default. A lost packet or a pause is no death.
    fall: int = 3
    # Between two checks. A dead endpoint is out after at most this and two fast ones; requests eject it sooner.
    interval: float = 5.0
    # The same, while the last result contradicts the state (HAProxy's fastinter).
    fast_interval: float = 5.0 * FAST_SHARE


class HealthChecks:
    """An upstream's endpoints, as their checks show them. Bit i of `unhealthy` is set while endpoint i is.

    An endpoint without any result is taken for healthy, or each start would begin with failures; its first result
    decides at once.
    """

    __slots__ = ("_due", "_has_result", "_in_row", "_settings", "unhealthy")

    def __init__(self, count: int, settings: HealthSettings, now: float) -> None:
        self._settings = settings
        self.unhealthy = 0
        # All are checked at once at the beginning.
        self._due = [now] * count
        self._has_result = [False] * count
        # Results in a row that contradict the state.
        self._in_row = [0] * count

    def adopt(self, settings: HealthSettings) -> None:
        """Others from now on; what is known stays."""
        self._settings = settings

    def presume_unhealthy(self, endpoint: int) -> None:
        """Somebody else has found out."""
        self.unhealthy |= 1 << endpoint
        self._has_result[endpoint] = True

    def due(self, endpoint: int) -> float:
        """When the endpoint is to be checked next."""
        return self._due[endpoint]

    def result(self, endpoint: int, ok: bool, now: float, chance: Callable[[], float]) -> bool:
        """A check's result; the next one is due some time after it. True: `unhealthy` has changed."""
        settings = self._settings
        bit = 1 << endpoint
        is_first = not self._has_result[endpoint]
        self._has_result[endpoint] = True
        was_healthy = not self.unhealthy & bit
        if ok == was_healthy:
            self._in_row[endpoint] = 0
        else:
            self._in_row[endpoint] += 1
        needed = 1 if is_first else settings.rise if ok else settings.fall
        changed = self._in_row[endpoint] >= needed
        if changed:
            self.unhealthy ^= bit
            self._in_row[endpoint] = 0
        if is_first:
            # What began together is spread over the interval.
            self._due[endpoint] = now + settings.interval * chance()
        else:
            interval = settings.fast_interval if self._in_row[endpoint] else settings.interval
            self._due[endpoint] = now + interval * (1 + _JITTER * (2 * chance() - 1))
        return changed


# Share of the endpoints that must be available; below it, all are used (Envoy's healthy_panic_threshold). With up
# to ten endpoints, a tenth means: only when none is left. Of a large group, a tenth can't carry everybody's load, and
# it is likelier that the checks are wrong. Envoy's default of a half would send two thirds of the requests to dead
# endpoints as soon as two of three are dead, where the third alone may do, and the queue's bound protects it.
PANIC_THRESHOLD = 0.1


def out_mask(
    everyone: int, backups: int, unhealthy: int, ejected: int, draining: int, panic_threshold: float = PANIC_THRESHOLD
) -> int:
    """The endpoints of `everyone` that must not be picked.

    Primaries are used as long as enough of them are available, a share of `panic_threshold`; then the backups help.
    Where there are none, all primaries are used, whatever speaks against them; when nobody is available anywhere, all
    are; with a threshold of 0 there is no panic. What drains has been taken out by hand, and gets nothing even
    then. In panic, some endpoint that is unhealthy or ejected is not in the mask.
    """
    wanted = everyone & ~draining
    primaries, spares = wanted & ~backups, wanted & backups
    well = primaries & ~(unhealthy | ejected)
    well_spares = spares & ~(unhealthy | ejected)
    if well and well.bit_count() >= panic_threshold * primaries.bit_count():
        return everyone & ~well
    if well_spares:
        # Too few primaries are left for all of the load, or none.
        return everyone & ~(well | well_spares)
    if well:
        return everyone & ~primaries
    return everyone & ~wanted if panic_threshold > 0 else everyone
