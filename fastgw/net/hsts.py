"""Connections whose answers all say Strict-Transport-Security (RFC 6797)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastgw.gateway import Gateway
from fastgw.http1.message import Data
from fastgw.net.downstream import DownstreamConnection
from fastgw.net.origin import Origin

if TYPE_CHECKING:
    from fastgw.net.listener import Server

_LINES = re.compile(rb"\r\n[Ss](?i:trict-transport-security):[^\r]*")


class HstsConnection(DownstreamConnection):
    """A class of its own, so that others don't even ask. `line` is the header line, begun by CRLF."""

    __slots__ = ("_line",)

    def __init__(self, gateway: Gateway, server: Server, origin: Origin, line: bytes) -> None:
        super().__init__(gateway, server, origin)
        self._line = line

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        # RFC 6797 §7.1: there must be one; the listener's holds for the whole host, whatever one backend says.
        super().send_head(line, _LINES.sub(b"", fields) + self._line, body, length, first, complete)
