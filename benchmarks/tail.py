"""What one slow endpoint of three does to the slowest requests, by how requests are shared out.

Three phases under the same load: all are well; the first second after one of them has become 20 times as slow; and what
it is like from then on, with the endpoint's trials after its ejections, which are short here so that some fall into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from benchmarks.clients import Clients, errors, percentile
from benchmarks.guarded import gateway_before
from benchmarks.results import (
    EJECTED_AFTER,
    FIRST_SECOND_P99_US,
    HEALTHY_ERRORS,
    HEALTHY_P50_US,
    HEALTHY_P99_US,
    HEALTHY_P999_US,
    SLOW_ERRORS,
    SLOW_P50_US,
    SLOW_P99_US,
    SLOW_P999_US,
    SLOW_TO_HEALTHY_P99,
    WORST_SECOND_P99_US,
    Sample,
)
from benchmarks.troubled import SLOW, SLOW_S, become, started

ENDPOINTS = 3
CONNECTIONS = 64
# Of the healthy phase and of the slow one: an ejection of 5 s, and the trial after it, fall into the latter.
PHASE_S = 10.0
BALANCES = ("round-robin", "power-of-two", "ewma")

_EJECTS = 'outliers = { latency_factor = 5, eject_for = "5s" }'
_WARM_UP_S = 1.0
# How long an ejection may take to come, and what takes its place where there is none.
_SETTLES_S = 8.0
_CHANGED_S = 3.0
_LOOK_S = 0.02
_US = 1e6


@dataclass(frozen=True, slots=True)
class TailCase:
    balance: str
    ejects: bool

    @property
    def name(self) -> str:
        return f"{self.balance}, ejection" if self.ejects else self.balance


def cases(smoke: bool) -> list[TailCase]:
    if smoke:
        return [TailCase("power-of-two", True)]
    return [TailCase(balance, ejects) for balance in BALANCES for ejects in (False, True)]


async def measure(
    case: TailCase, number: int, smoke: bool, cores: Sequence[int], load_cores: Sequence[int], place: Path
) -> Sample:
    """One turn."""
    seconds = 1.0 if smoke else PHASE_S
    upstream = f'balance = "{case.balance}"\n{_EJECTS if case.ejects else ""}'
    with started(load_cores, ENDPOINTS) as endpoints, gateway_before(endpoints, upstream, cores, place) as gateway:
        clients = Clients(gateway.port)
        await clients.start(CONNECTIONS)
        await asyncio.sleep(_WARM_UP_S)
        began = monotonic()
        await asyncio.sleep(seconds)
        changed = monotonic()
        become(SLOW, endpoints[:1])
        ejected = 0.0
        while case.ejects and not ejected and monotonic() < changed + _SETTLES_S:
            await asyncio.sleep(_LOOK_S)
            if "is ejected" in gateway.output.read_text():
                ejected = monotonic()
        await asyncio.sleep(max(_CHANGED_S - (monotonic() - changed), 2 * SLOW_S))
        settled = monotonic()
        await asyncio.sleep(seconds)
        ended = monotonic()
        await clients.stop()
        problems = ("it was not ejected",) if case.ejects and not ejected else ()
        figures = figures_of(clients, began, changed, settled, ended)
        if ejected:
            figures[EJECTED_AFTER] = ejected - changed
        return Sample("tail", case.name, number, figures, problems)


def figures_of(clients: Clients, began: float, changed: float, settled: float, ended: float) -> dict[str, float]:
    healthy, slow = clients.since(began, changed), clients.since(settled, ended)
    # Rounded: a timer may be early by a millisecond.
    whole_seconds = [settled + second for second in range(round(ended - settled))]
    healthy_p99, slow_p99 = percentile(healthy, 0.99), percentile(slow, 0.99)
    return {
        HEALTHY_P50_US: percentile(healthy, 0.5) * _US,
        HEALTHY_P99_US: healthy_p99 * _US,
        HEALTHY_P999_US: percentile(healthy, 0.999) * _US,
        HEALTHY_ERRORS: errors(healthy),
        FIRST_SECOND_P99_US: percentile(clients.since(changed, changed + 1), 0.99) * _US,
        SLOW_P50_US: percentile(slow, 0.5) * _US,
        SLOW_P99_US: slow_p99 * _US,
        SLOW_P999_US: percentile(slow, 0.999) * _US,
        SLOW_ERRORS: errors(slow),
        # Of each second for itself: a return that spoils one of them is not seen in the whole.
        WORST_SECOND_P99_US: max([percentile(clients.since(at, at + 1), 0.99) for at in whole_seconds]) * _US,
        SLOW_TO_HEALTHY_P99: slow_p99 / healthy_p99,
    }
