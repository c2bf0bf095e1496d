"""What supervisor and worker say to each other over the control channel, as tuples that begin with one of these words.

    supervisor → worker                                     worker → supervisor
    (LOAD, snapshot), any number of times
    (START, Start)                                          (READY,)
    (PREPARE, generation, snapshot, addresses)              (PREPARED, generation)
    (COMMIT, generation)                                    (ADOPTED, generation)
    (ABORT, generation)
    (DRAIN,)

A snapshot travels pickled, as bytes: that is done once for all workers. Listening sockets travel beside START and
PREPARE, one for each of `addresses`; START's first descriptor is the shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastgw.snapshot import Address

LOAD = "load"
START = "start"
READY = "ready"
PREPARE = "prepare"
PREPARED = "prepared"
COMMIT = "commit"
ADOPTED = "adopted"
ABORT = "abort"
DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker needs to begin on the snapshot that it has loaded last: which of how many `workers` it is, and the
    processor to stay on (-1: any). `program` is the version that its supervisor has, `ticket_master` what all workers
    make the keys of TLS session tickets from."""

    program: str
    number: int
    workers: int
    cpu: int
    addresses: tuple[Address, ...]
    ticket_master: bytes = field(repr=False)
