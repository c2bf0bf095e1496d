"""An upgrade: a running gateway starts another one, hands its sockets over, and drains once the other serves.

    old → new                                   new → old
    ("estate", facts), with descriptors
                                                ("serving", addresses) or ("refused", why)
    ("go", history)

Nothing is bound anew, so connections that wait to be accepted wait on. Until "go" the old one is the gateway: should
the new one fail or not come up in time, nothing has changed. Versions may differ, so these messages are plain: words,
numbers, bytes, lists and dictionaries of them; an address is a list of host, port and path, and the history a list of
the last events, each a list of its fields. A side that does not find what it needs refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastgw.policy.ticket_secret import TicketSecret
from fastgw.runtime import channel
from fastgw.runtime.events import Event
from fastgw.runtime.sockets import Inherited
from fastgw.snapshot import Address, Endpoint

_ESTATE = "estate"
_SERVING = "serving"
_REFUSED = "refused"
_GO = "go"

# Names the descriptor of the socket to the old gateway.
_VARIABLE = "FASTGW_HANDOVER"
# What it is in Linux's proc_ns.h (PROC_PID_INIT_INO).
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
# Loading and compiling 100,000 routes takes half of it, and then workers start.
_COME_UP_S = 120.0


class UpgradeError(Exception):
    """There is no upgrade; the message is for the user."""


@dataclass(frozen=True)
class Estate:
    """What one gateway leaves to the next; `control` is the socket for commands."""

    inherited: Inherited
    ticket_secret: TicketSecret
    # The endpoints whose checks fail, by upstream.
    unhealthy: Mapping[str, Iterable[str]]
    # Those that were found, by where they were looked for, in words.
    found: Mapping[str, tuple[Endpoint, ...]]
    # The endpoints that drain by hand, with their upstreams first.
    draining: Iterable[tuple[str, str]]
    control: socket.socket | None


class Successor:
    """The gateway that is to take our place, started as this one was, with `environment`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises UpgradeError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel = ours
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env={**environment, _VARIABLE: str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    stderr=subprocess.PIPE,
                )
            except OSError as error:
                ours.close()
                raise UpgradeError(f"{sys.executable} can't be started: {error.strerror}") from None
        self.pid = self._process.pid

    async def come_up(self, estate: Estate) -> frozenset[Address]:
        """Until it serves beside us; the addresses that it has taken. Raises UpgradeError, and it has ended then."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_COME_UP_S):
                # It says there what keeps it from reading its configuration, and closes it when it has.
                early = loop.run_in_executor(None, _copy_stderr, self._process)
                facts, descriptors = _packed(estate)
                await channel.send_later(loop, self._channel, (_ESTATE, facts), descriptors)
                answer = await channel.receive_later(loop, self._channel)
        except TimeoutError:
            raise await self._refused(f"it did not serve within {_COME_UP_S:g} s") from None
        except (EOFError, OSError):
            said = await early
            status = await asyncio.to_thread(self._process.wait)
            raise await self._refused(said or f"it ended with status {status} and said nothing") from None
        if answer[0] != _SERVING:
            raise await self._refused(str(answer[1]))
        return frozenset(Address(*address) for address in answer[1])

    async def _refused(self, why: str) -> UpgradeError:
        self.kill()
        await asyncio.to_thread(self._process.wait)
        self._channel.close()
        return UpgradeError(f"the new gateway does not come up: {why}")

    async def go(self, history: Iterable[Event]) -> None:
        """From now on it is the gateway. Raises UpgradeError when it is gone."""
        plain = [list(dataclasses.astuple(event)) for event in history]
        try:
            await channel.send_later(asyncio.get_running_loop(), self._channel, (_GO, plain))
        except OSError:
            raise await self._refused("it has ended in the last moment") from None
        self._channel.close()

    def kill(self) -> None:
        self._process.kill()


def _copy_stderr(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    with contextlib.suppress(OSError):
        sys.stderr.buffer.write(said)
        sys.stderr.flush()
    return said.decode(errors="replace").strip()


def _packed(estate: Estate) -> tuple[dict[str, object], list[int]]:
    pairs = [(address, sock) for address, sockets in estate.inherited.sockets.items() for sock in sockets]
    facts = {
        "addresses": [_plain(address) for address, _ in pairs],
        "lent": [_plain(address) for address in estate.inherited.lent],
        "ticket_secret": estate.ticket_secret.value,
        "ticket_period": estate.ticket_secret.period,
        "unhealthy": {upstream: list(names) for upstream, names in estate.unhealthy.items()},
        "found": {where: [_plain_endpoint(one) for one in endpoints] for where, endpoints in estate.found.items()},
        "draining": [list(pair) for pair in estate.draining],
        "has_control": estate.control is not None,
    }
    control = [] if estate.control is None else [estate.control.fileno()]
    return facts, [sys.stderr.fileno(), *control, *(sock.fileno() for _, sock in pairs)]


def _plain(address: Address) -> list[str | int]:
    return [address.host, address.port, address.path]


def _plain_endpoint(endpoint: Endpoint) -> list[object]:
    return [endpoint.name, _plain(endpoint.address), endpoint.weight, endpoint.backup]


class Predecessor:
    """The gateway whose place we are to take."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes what it leaves. Raises UpgradeError."""
        self._channel = sock
        # That we serve.
        self._is_told = False
        try:
            (_, facts), descriptors = channel.receive(sock)
            self.estate = _unpacked(facts, descriptors)
        except (EOFError, OSError) as error:
            raise UpgradeError(f"the gateway to take over from is gone: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise UpgradeError(f"the gateway to take over from is too different: {error!r}; restart it") from None

    def refuse(self, why: str) -> None:
        """We can't; it goes on."""
        with contextlib.suppress(OSError), self._channel:
            self._channel.setblocking(True)
            channel.send(self._channel, (_REFUSED, why))

    def withdraw(self) -> None:
        """We have been told to stop; it goes on."""
        if self._is_told:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)

    async def replace(self, addresses: Iterable[Address]) -> list[Event]:
        """We serve at these addresses; until it lets go of them, or has ended otherwise. What happened before."""
        loop = asyncio.get_running_loop()
        self._channel.setblocking(False)
        self._is_told = True
        with contextlib.suppress(EOFError, OSError), self._channel:
            await channel.send_later(loop, self._channel, (_SERVING, [_plain(address) for address in addresses]))
            _, history = await channel.receive_later(loop, self._channel)
            return [Event(*fields) for fields in history]
        return []


def _unpacked(facts: Mapping[str, Any], descriptors: Sequence[int]) -> Estate:
    rest = list(descriptors)
    stderr = rest.pop(0)
    os.dup2(stderr, sys.stderr.fileno())
    os.close(stderr)
    control = socket.socket(fileno=rest.pop(0)) if facts["has_control"] else None
    sockets: dict[Address, list[socket.socket]] = {}
    for address, descriptor in zip(facts["addresses"], rest, strict=True):
        sockets.setdefault(Address(*address), []).append(socket.socket(fileno=descriptor))
    lent = frozenset(Address(*address) for address in facts["lent"])
    secret = TicketSecret(facts["ticket_secret"], facts["ticket_period"])
    # Versions before discovery have found none.
    plain_found = facts.get("found", {})
    found = {where: tuple(_endpoint(*plain) for plain in endpoints) for where, endpoints in plain_found.items()}
    draining = [(upstream, endpoint) for upstream, endpoint in facts.get("draining", ())]
    return Estate(Inherited(sockets, lent), secret, facts["unhealthy"], found, draining, control)


def _endpoint(name: str, address: Sequence[Any], weight: int, backup: bool) -> Endpoint:
    return Endpoint(name, Address(*address), weight, backup)


def ends_a_container(has_other_parent: bool) -> bool:
    """Whether all would end with this process: it is process 1 of a container, or what process 1 waits for."""
    if os.getpid() == 1:
        return True
    is_in_container = os.stat("/proc/self/ns/pid").st_ino != _INITIAL_PID_NAMESPACE
    return is_in_container and os.getppid() == 1 and not has_other_parent


def predecessor(environment: MutableMapping[str, str]) -> Predecessor | None:
    """The gateway that has started this one, if it was one. Raises UpgradeError."""
    descriptor = environment.pop(_VARIABLE, "")
    if not descriptor:
        return None
    try:
        sock = socket.socket(fileno=int(descriptor))
    except (ValueError, OSError):
        raise UpgradeError(f"{_VARIABLE} is set, and not by a gateway that is replaced: unset it") from None
    sock.set_inheritable(False)
    return Predecessor(sock)
