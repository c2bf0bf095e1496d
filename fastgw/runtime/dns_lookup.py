"""Endpoints from DNS: the addresses of a name (A, AAAA), or of the targets of its SRV records (RFC 2782).

The servers are asked directly (by c-ares), since the system's resolver does not tell for how long an answer holds. So
`/etc/hosts` and search domains do not count, and names are whole ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import aiodns

from fastgw.snapshot import Address, Discovery, Endpoint

# Of a question to one server, which is asked twice: a lost packet takes no longer. RFC 1123 §6.1.3.3 would wait five
# seconds, and the last good answer serves meanwhile.
_TIMEOUT_S = 1.0
_TRIES = 2
# Of a look-up as a whole, with several servers and the targets of SRV records.
_LOOK_UP_S = 10.0
# The numbers of record types (RFC 1035 §3.2.2, RFC 3596, RFC 2782).
_NUMBERS = {"A": 1, "AAAA": 28, "SRV": 33}
# There is such a name, without records of this kind; or there is none.
_NOTHING = (aiodns.error.ARES_ENODATA, aiodns.error.ARES_ENOTFOUND)
# What a target's weight of 1 is worth, so that it can be shared by its addresses, and that a weight of 0 is "a very
# small chance" beside it (RFC 2782).
_WEIGHT_SCALE = 100


class LookUpError(Exception):
    """There is no good answer; the message is for the user."""


class LookUp:
    """Finds the endpoints of one discovery, and remembers which kinds of addresses there have been: a server that
    answers for one kind only must not take away the others'."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        # Names and kinds: those of the last good answer, and those of this one so far.
        self._had: set[tuple[str, str]] = set()
        self._has: set[tuple[str, str]] = set()

    async def endpoints(self) -> tuple[tuple[Endpoint, ...], float]:
        """The endpoints of now, and for how many seconds the answer holds. Raises LookUpError."""
        self._has = set()
        found, ttl_s = await self._look_up()
        if found:
            self._had = self._has
        return found, ttl_s

    async def _look_up(self) -> tuple[tuple[Endpoint, ...], float]:
        discovery = self._discovery
        servers = [discovery.server] if discovery.server else None
        try:
            async with (
                asyncio.timeout(_LOOK_UP_S),
                aiodns.DNSResolver(nameservers=servers, timeout=_TIMEOUT_S, tries=_TRIES) as resolver,
            ):
                if discovery.kind == "srv":
                    return await self._services(resolver)
                found, ttl_s = await self._addresses(resolver, discovery.name)
                return tuple(_endpoint(address, discovery.port) for address in found), ttl_s
        except TimeoutError:
            raise LookUpError(f"no answer within {_LOOK_UP_S:g} s") from None
        except aiodns.error.DNSError as error:
            raise LookUpError(_words(error)) from None

    async def _services(self, resolver: aiodns.DNSResolver) -> tuple[tuple[Endpoint, ...], float]:
        records, ttl_s = await _query(resolver, self._discovery.name, "SRV")
        # A target of "." says that there is no such service.
        services = [record for record in records if record.target.rstrip(".")]
        targets = list(dict.fromkeys(record.target for record in services))
        answers = await self._addresses_of(resolver, targets)
        addresses = {target: found for target, (found, _) in zip(targets, answers, strict=True)}
        reachable = [record for record in services if addresses[record.target]]
        first = min((record.priority for record in reachable), default=0)
        endpoints: dict[str, Endpoint] = {}
        for record in sorted(reachable, key=lambda record: (record.priority, -record.weight, record.target)):
            among = addresses[record.target]
            weight = max(1, record.weight * _WEIGHT_SCALE // len(among))
            for address in among:
                one = _endpoint(address, record.port, weight, record.priority > first)
                endpoints.setdefault(one.name, one)
        return tuple(endpoints.values()), min([ttl_s, *(ttl for _, ttl in answers)])

    async def _addresses_of(
        self, resolver: aiodns.DNSResolver, targets: Sequence[str]
    ) -> list[tuple[list[str], float]]:
        """Of each. One that fails and has never had any keeps nobody from the others, and is asked again soon."""
        asked = [self._addresses(resolver, target) for target in targets]
        answers: list[tuple[list[str], float]] = []
        troubles: list[BaseException] = []
        for target, answer in zip(targets, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if not isinstance(answer, BaseException):
                answers.append(answer)
                continue
            had_some = any(name == target for name, _ in self._had)
            if not isinstance(answer, aiodns.error.DNSError) or had_some:
                raise answer
            troubles.append(answer)
            answers.append(([], 0.0))
        if troubles and not self._has:
            raise troubles[0]
        return answers

    async def _addresses(self, resolver: aiodns.DNSResolver, name: str) -> tuple[list[str], float]:
        """In an order that does not depend on the server's, or each answer would be another one."""
        kinds = ("A", "AAAA")
        asked = [_query(resolver, name, kind) for kind in kinds]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: list[str] = []
        ttls: list[float] = []
        troubles: list[BaseException] = []
        for kind, answer in zip(kinds, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, aiodns.error.DNSError) or (name, kind) in self._had:
                    raise answer
                troubles.append(answer)
                continue
            records, ttl_s = answer
            if records:
                self._has.add((name, kind))
                # Some servers say one twice.
                found += sorted({record.addr for record in records})
                ttls.append(ttl_s)
        if troubles and not found:
            raise troubles[0]
        return found, min(ttls, default=float("inf"))


async def _query(resolver: aiodns.DNSResolver, name: str, kind: str) -> tuple[Sequence[Any], float]:
    """The records, and for how many seconds they hold; none, when there are none."""
    try:
        result = await resolver.query_dns(name, kind)
    except aiodns.error.DNSError as error:
        if error.args[0] in _NOTHING:
            return (), float("inf")
        raise
    # Aliases on the way hold for their own time.
    ttl_s = min((float(record.ttl) for record in result.answer), default=float("inf"))
    return [record.data for record in result.answer if record.type == _NUMBERS[kind]], ttl_s


def _endpoint(address: str, port: int, weight: int = 1, backup: bool = False) -> Endpoint:
    host = str(IPv6Address(address)) if ":" in address else str(IPv4Address(address))
    where = Address(host, port)
    return Endpoint(str(where), where, weight, backup)


def _words(error: aiodns.error.DNSError) -> str:
    words = str(error.args[1] if len(error.args) > 1 else error)
    return words if words[:3] == "DNS" else words[:1].lower() + words[1:]
