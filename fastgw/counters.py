"""What a worker counts, and where it stands in the memory that workers share with their supervisor.

A worker has a column of its own for what it counts as a whole, and a row of cells for each route, endpoint, upstream
and listener. Each cell has one writer, so that counting is one store without a lock; readers may see one cell a moment
before another. All are whole numbers of 64 bits that only grow, but for those that are said to be levels.
"""

from __future__ import annotations

from fastgw import errors

# The column.

# Ended exchanges by the hundreds of their status: EXCHANGES + 2 counts 2xx; EXCHANGES itself, those that had none.
EXCHANGES = 0
# Connections taken from the listening sockets, and those that were closed since.
ACCEPTED = 6
CLOSED = 7
# A level: when the worker's loop was last seen turning, in milliseconds of the monotonic clock.
HEARTBEAT = 8
# TLS handshakes with clients that came to nothing; they are among all that have ended, which count first.
FAILED_HANDSHAKES = 9
HANDSHAKES = 10
# What a column has place for; one cache line has 8, and no two workers write into the same.
COLUMN_SIZE = 16

# Histograms: the cell i counts what took less than 2 ** (i + FIRST_BUCKET) µs, and is in no cell before it; the last
# but one, all that took longer; the last is the sum in µs. From 16 µs to 67 s, a factor of two apart.
FIRST_BUCKET = 4
BUCKETS = 24
HISTOGRAM = BUCKETS + 1
# The bucket of a number of µs, by how many bits it has.
BUCKET_OF = tuple(min(max(bits - FIRST_BUCKET, 0), BUCKETS - 1) for bits in range(65))

# Statuses by their hundreds; 0: none.
CLASSES = 6
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
# The codes of the access log for what was answered without an upstream, or not at all.
REASONS = tuple(sorted({one.reason for one in vars(errors).values() if isinstance(one, errors.Failure)}))

# A route's row; "" is the name of the one for requests that no route has matched.
ROUTE = "route"
ANSWERS = 0  # by method, the last one being any other, and class
REFUSED = ANSWERS + (len(METHODS) + 1) * CLASSES  # by reason
ROUTE_BYTES_IN = REFUSED + len(REASONS)
ROUTE_BYTES_OUT = ROUTE_BYTES_IN + 1
ROUTE_RETRIES = ROUTE_BYTES_OUT + 1
DURATION = ROUTE_RETRIES + 1  # of the whole exchange: a histogram
OWN = DURATION + HISTOGRAM  # the gateway's own share of it: a histogram

# A listener's.
LISTENER = "listener"
LISTENER_ANSWERS = 0  # by class

# An upstream's.
UPSTREAM = "upstream"
QUEUED = 0  # a level: requests that wait for a connection
WAITED = 1  # those that had to
WAITED_US = 2
BREAKER = 3  # a level: a state of policy.breaker
IN_FLIGHT = 4  # a level: requests that await an answer's head, where something limits them

# An endpoint's, of its upstream.
ENDPOINT = "endpoint"
ENDPOINT_ANSWERS = 0  # of exchanges that it has answered, by class
FAILURES = ENDPOINT_ANSWERS + CLASSES  # tries that came to nothing, by kind
FAILURE_KINDS = ("other", "connect-failure", "reset", "empty-answer", "timeout", "status")  # the bits of policy.retry
CONNECTS = FAILURES + len(FAILURE_KINDS)
EJECTIONS = CONNECTS + 1
ACTIVE = EJECTIONS + 1  # a level: requests in flight
IDLE = ACTIVE + 1  # a level: connections that wait to be used again
EJECTED = IDLE + 1  # a level: 0 or 1
LATENCY_US = EJECTED + 1  # a level: what balancing by latency takes it for; 0: nothing is known
HEAD = LATENCY_US + 1  # until the head of its answer: a histogram

# The worker's own, the only one of its kind.
WORKER = "worker"
LOST_LINES = 0  # of the access log
LOST_TRACES = 1  # exchanges that were recorded, and could not be handed on
LAG = 2  # by which its loop is late for what it has planned: a histogram
LOST_NEWS = LAG + HISTOGRAM  # what the supervisor was to be told, and could not be

# Whole cache lines, so that no two workers write into the same.
_LINE = 8
SIZES = {
    kind: -(-size // _LINE) * _LINE
    for kind, size in {
        ROUTE: OWN + HISTOGRAM,
        LISTENER: CLASSES,
        UPSTREAM: IN_FLIGHT + 1,
        ENDPOINT: HEAD + HISTOGRAM,
        WORKER: LOST_NEWS + 1,
    }.items()
}
