"""What supervisor and worker say to each other over the control channel, as tuples that begin with one of these words.

    supervisor → worker                                     worker → supervisor
    (LOAD, snapshot), any number of times
    (START, Start)                                          (READY,)
    (PREPARE, generation, snapshot, addresses)              (PREPARED, generation) or (REFUSED, generation)
    (COMMIT, generation)                                    (ADOPTED, generation)
    (ABORT, generation)
    (HEALTH, Unhealthy)
    (ENDPOINTS, Found)
    (OVERRIDES, Overrides)
    (LAYOUT, Layout)
    (LIVE_LOG, filters)
    (DRAIN, kept addresses)                                 (LEAVING,)

A snapshot travels pickled, as bytes: that is done once for all workers. Listening sockets travel beside START and
PREPARE, one for each of `addresses`, in which one address may be several times; START's first four descriptors are
the shared memory of the columns and of the rows of counters, and the sockets that records of traces are sent to, and
news (`fastgw.net.news_sink`). At the addresses that are `kept` somebody else listens on when this gateway ends. A
worker says LEAVING when it drains without having been told, so that another takes its place meanwhile. The first thing
it looks at in START is `program`: of another version's it understands no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastgw.policy.log_filter import LogFilter
from fastgw.policy.ticket_secret import TicketSecret
from fastgw.runtime.overrides import Overrides
from fastgw.runtime.row_layout import Layout
from fastgw.snapshot import Address, Discovery, Endpoint

LOAD = "load"
START = "start"
READY = "ready"
PREPARE = "prepare"
PREPARED = "prepared"
REFUSED = "refused"
COMMIT = "commit"
ADOPTED = "adopted"
ABORT = "abort"
HEALTH = "health"
ENDPOINTS = "endpoints"
OVERRIDES = "overrides"
LAYOUT = "layout"
LIVE_LOG = "live-log"
DRAIN = "drain"
LEAVING = "leaving"


# The endpoints whose checks fail, by upstream; all of them.
Unhealthy = dict[str, frozenset[str]]
# The endpoints that were found, by where they were looked for: in START all, else what has changed.
Found = dict[Discovery, tuple[Endpoint, ...]]
# What those see who look at the log as it is made; each once.
Filters = tuple[LogFilter, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker needs to begin on the snapshot that it has loaded last: which of how many `workers` it is, and the
    processor to stay on (-1: any). `program` is the version that its supervisor has, `ticket_secret` what all workers
    make the keys of TLS session tickets from; somebody else listens on at the addresses `lent` when we don't."""

    program: str
    number: int
    workers: int
    cpu: int
    addresses: tuple[Address, ...]
    lent: frozenset[Address]
    unhealthy: Unhealthy
    found: Found
    overrides: Overrides
    layout: Layout
    live_log: Filters
    ticket_secret: TicketSecret
