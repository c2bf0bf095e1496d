"""What a worker counts, and where: places in its column of the memory that it shares with its supervisor.

A column has one writer, so that counting is one store without a lock; readers may see one place a moment before
another. All are whole numbers of 64 bits that only grow, but for HEARTBEAT.
"""

from __future__ import annotations

# Ended exchanges by the hundreds of their status: EXCHANGES + 2 counts 2xx; EXCHANGES itself, those that had none.
EXCHANGES = 0
# Connections taken from the listening sockets, and those that were closed since.
ACCEPTED = 6
CLOSED = 7
# When the worker's loop was last seen turning, in milliseconds of the monotonic clock.
HEARTBEAT = 8

# TLS handshakes with clients that came to nothing.
FAILED_HANDSHAKES = 9

# What a column has place for; one cache line has 8, and no two workers write into the same.
COLUMN_SIZE = 16
