"""The secret from which all workers make the keys of TLS session tickets, and how it grows old.

Whoever gets the key of a ticket can read what was said in its session, with TLS 1.2 all of it (RFC 9325 §3.4 asks for
keys that change). So the secret is another one each day: the hash of the one before, which is forgotten. Every worker
comes to the same by itself, and from today's nobody can tell yesterday's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

# A client that has met us before pays a full handshake once a day, as after a restart.
PERIOD_S = 86_400
SECRET_SIZE = 80


@dataclass(frozen=True, slots=True)
class TicketSecret:
    """`period` counts the days since 1970."""

    value: bytes = field(repr=False)
    period: int

    @classmethod
    def begun(cls, value: bytes, wall: float) -> TicketSecret:
        """A new one, of SECRET_SIZE random bytes, at a time in seconds since 1970."""
        return cls(value, int(wall // PERIOD_S))

    def at(self, wall: float) -> TicketSecret:
        """That of a time, in seconds since 1970; there is no way back, should the clock be set back."""
        period = int(wall // PERIOD_S)
        if period <= self.period:
            return self
        value = self.value
        for _ in range(period - self.period):
            value = hashlib.shake_256(b"fastgw ticket secret" + value).digest(SECRET_SIZE)
        return TicketSecret(value, period)
