"""What the supervisor and the process that gets certificates say to each other, as tuples that begin with one of these
words.

    supervisor → helper                       helper → supervisor
    (SETTINGS, AcmeSettings)                  (CHALLENGES, the only ones from now on: a tuple of Challenge)
    (IN_FORCE, "" or why not), the answer     (EVENT, outcome, detail)
    to each CHALLENGES
"""

from __future__ import annotations

from dataclasses import dataclass

from fastgw.snapshot import KeyPair

SETTINGS = "settings"
IN_FORCE = "in force"
CHALLENGES = "challenges"
EVENT = "event"


@dataclass(frozen=True, slots=True)
class Challenge:
    """How an authority is shown that a name is ours: by `body` at `path` over HTTP, or, without a path, by `pair` in a
    TLS handshake."""

    name: str
    path: str = ""
    body: str = ""
    pair: KeyPair | None = None
