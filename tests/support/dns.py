"""A DNS server on a free loopback port, whose records are what a test says."""

from __future__ import annotations

import threading
from textwrap import dedent
from types import TracebackType
from typing import Any, Self

from dnslib import QTYPE, RCODE, RR
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer


class NameServer(BaseResolver):  # type: ignore[misc]
    """`zone` is in the format of zone files (RFC 1035 §5). In `broken` are the types that it can't answer for, and in
    `failing` the names ("a.test."): they get SERVFAIL. When it is `silent`, nothing is answered."""

    def __init__(self, zone: str = "") -> None:
        self.broken: set[str] = set()
        self.failing: set[str] = set()
        self.silent = False
        # The names and types that were asked for.
        self.asked: list[tuple[str, str]] = []
        self._records: list[RR] = []
        self.serve(zone)
        self._server = DNSServer(
            self, port=0, address="127.0.0.1", logger=DNSLogger("-request,-reply"), handler=_Handler
        )
        self._thread = threading.Thread(target=self._server.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server.server_address[1]}"

    def serve(self, zone: str) -> None:
        """From now on these records, all of them."""
        self._records = list(RR.fromZone(dedent(zone).strip())) if zone.strip() else []

    def resolve(self, request: Any, _handler: Any) -> Any:
        name, kind = request.q.qname, QTYPE[request.q.qtype]
        self.asked.append((str(name), kind))
        reply = request.reply()
        records = self._records
        is_broken = kind in self.broken or str(name) in self.failing
        if is_broken:
            reply.header.rcode = RCODE.SERVFAIL
        elif not any(record.rname == name for record in records):
            reply.header.rcode = RCODE.NXDOMAIN
        for record in records:
            if record.rname == name and QTYPE[record.rtype] in (kind, "CNAME") and not is_broken:
                reply.add_answer(record)
                if QTYPE[record.rtype] == "CNAME":
                    reply.add_answer(*(one for one in records if one.rname == record.rdata.label))
        return reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server.shutdown()
        self._thread.join()
        self._server.server.server_close()


class _Handler(DNSHandler):  # type: ignore[misc]
    def handle(self) -> None:
        if not self.server.resolver.silent:
            super().handle()
