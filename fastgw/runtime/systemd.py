"""What systemd wants to know and has to give: sd_notify(3) and sd_listen_fds(3), which are a datagram and a number."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

from fastgw.runtime.sockets import CannotListen, Inherited
from fastgw.snapshot import Address

_FIRST_DESCRIPTOR = 3


class Notifier:
    """Tells the service manager how this program is, where there is one.

    `watchdog_s` is how often at the least it wants to hear of us; 0: it does not. What was in `environment` for us is
    taken out of it, so that our children don't speak in our name.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._watchdog_us = environment.pop("WATCHDOG_USEC", "")
        is_meant = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        is_watched = self._address and is_meant and self._watchdog_us.isdigit()
        self.is_there = bool(self._address)
        self.watchdog_s = int(self._watchdog_us) / 1e6 if is_watched else 0.0

    def for_successor(self, environment: MutableMapping[str, str]) -> dict[str, str]:
        """An environment for the program that takes our place."""
        ours = {"NOTIFY_SOCKET": self._address} if self._address else {}
        if self.watchdog_s:
            ours["WATCHDOG_USEC"] = self._watchdog_us
        return {**environment, **ours}

    def ready(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def replaced_by(self, pid: int) -> None:
        """Another process is the service from now on."""
        self._tell(f"MAINPID={pid}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, *state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(state).encode(), address)


def lent_sockets(environment: MutableMapping[str, str]) -> Inherited | None:
    """The listening sockets that we were started with (LISTEN_FDS); None: there were none. Raises CannotListen."""
    count = environment.pop("LISTEN_FDS", "")
    meant = environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if meant != str(os.getpid()) or not count.isdigit():
        return None
    found: dict[Address, list[socket.socket]] = {}
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)):
        try:
            sock = socket.socket(fileno=descriptor)
            sock.set_inheritable(False)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise CannotListen(f"LISTEN_FDS={count}, but descriptor {descriptor} is no socket: {why}") from None
        found.setdefault(_address_of(sock), []).append(sock)
    return Inherited(found, frozenset(found))


def _address_of(sock: socket.socket) -> Address:
    """Where a socket listens, as a configuration writes it."""
    name = sock.getsockname()
    return Address(path=os.fsdecode(name)) if sock.family == socket.AF_UNIX else Address(name[0], name[1])
