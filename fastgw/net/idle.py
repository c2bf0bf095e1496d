"""Connections that wait to be used again: which of them are still good."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from fastgw.net.upstream import IDLE

if TYPE_CHECKING:
    from fastgw.net.upstream import UpstreamConnection

# What a look at one shows.
OPEN = 0
UNREAD = 1  # something to read that the loop has not come to yet
GONE = 2


def look_at(connection: UpstreamConnection) -> int:
    """Whether an idle connection is still open; anything to read on it means that it isn't, or isn't sane."""
    if connection.reading != IDLE or connection.transport.is_closing():
        return GONE
    sock = connection.transport.get_extra_info("socket")
    if sock is None:
        return GONE
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    found = poller.poll(0)
    if not found:
        return OPEN
    return UNREAD if found[0][1] == select.POLLIN else GONE


def newest_that_told(header: bytes, idle: list[UpstreamConnection]) -> UpstreamConnection | None:
    """Takes out the newest idle connection that has begun with that header: no other client may use it."""
    for position in range(len(idle) - 1, -1, -1):
        if idle[position].told == header and look_at(idle[position]) == OPEN:
            return idle.pop(position)
    return None
