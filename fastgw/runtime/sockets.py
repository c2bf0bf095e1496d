"""The listening sockets: bound by the supervisor, kept for its life, and lent to the workers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastgw.runtime.report import report
from fastgw.snapshot import Address

if TYPE_CHECKING:
    from fastgw.snapshot import Listener

# Connections that the kernel may hold until they are accepted; it cuts this to net.core.somaxconn.
BACKLOG = 4096


# Ports below it need a privilege (ip(7)).
_PRIVILEGED_PORTS = 1024


class CannotListen(Exception):
    """A listening socket can't be had; the message is for the user."""


@dataclass(frozen=True)
class Inherited:
    """Listening sockets that somebody else has bound. Those at the addresses `lent` stay their owner's, who listens
    on when we are gone; the others are ours alone from now on."""

    sockets: dict[Address, list[socket.socket]]
    lent: frozenset[Address]


class SocketTable:
    """The sockets of each address: one or more for each worker, which share its port (SO_REUSEPORT), or one for all."""

    def __init__(self, workers: int, inherited: Inherited | None = None) -> None:
        self._workers = workers
        self._sockets: dict[Address, list[socket.socket]] = {}
        # No listener's: not yet, or no more.
        self._spare = {} if inherited is None else dict(inherited.sockets)
        self.inherited = frozenset(self._spare)
        self.lent: frozenset[Address] = frozenset() if inherited is None else inherited.lent

    def add(self, listeners: Iterable[Listener]) -> list[Address]:
        """Binds what is not bound yet, all or nothing; gives the addresses that are new. Raises CannotListen."""
        bound: dict[Address, list[socket.socket]] = {}
        try:
            for listener in listeners:
                if listener.address not in self._sockets and listener.address not in bound:
                    bound[listener.address] = self._missing(listener)
        except CannotListen:
            for address, sockets in bound.items():
                _close(sockets)
                if sockets:
                    _unlink(address)
            raise
        for address, sockets in bound.items():
            self._sockets[address] = self._spare.pop(address, []) + sockets
        return list(bound)

    def _missing(self, listener: Listener) -> list[socket.socket]:
        """Bound anew: those of a listener that were not inherited."""
        address = listener.address
        had = self._spare.get(address, [])
        missing = self._workers - len(had)
        if had and (address in self.lent or address.path or missing <= 0):
            return []
        return _bind(listener, _bound_as(address, had), missing, is_ours=bool(had))

    def remove(self, addresses: Iterable[Address]) -> None:
        """Closes sockets, and removes the file of a Unix socket; those that are lent may be wanted again."""
        for address in tuple(addresses):
            sockets = self._sockets.pop(address, [])
            if address in self.lent:
                self._spare[address] = sockets
                continue
            _close(sockets)
            _unlink(address)

    def spare(self) -> list[Address]:
        """The addresses that were inherited and are no listener's."""
        return list(self._spare)

    def dual_stack(self) -> list[Address]:
        """The addresses of those that take IPv4 clients on an IPv6 socket; we bind none like that ourselves."""
        return [
            address
            for address in self.lent
            for sock in self._sockets.get(address, ())[:1]
            if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        ]

    def addresses(self) -> frozenset[Address]:
        """Those of the listeners."""
        return frozenset(self._sockets)

    def drop_spare(self) -> None:
        """Closes sockets that were inherited and are no listener's, unless they are lent."""
        for address in [address for address in self._spare if address not in self.lent]:
            _close(self._spare.pop(address))

    def close(self) -> None:
        """Closes all sockets; the files of Unix sockets stay."""
        for sockets in (*self._sockets.values(), *self._spare.values()):
            _close(sockets)
        self._sockets.clear()
        self._spare.clear()

    def unlink(self, kept: Collection[Address] = ()) -> None:
        """Removes the files of Unix sockets but for those that are `kept`, so that they may be another gateway's."""
        for address in self._sockets:
            if address not in self.lent and address not in kept:
                _unlink(address)

    def bound(self, address: Address) -> Address:
        """The address with the port that the kernel has chosen, where any will do."""
        return _bound_as(address, self._sockets[address])

    def of(self, address: Address, worker: int) -> list[socket.socket]:
        """Those which this worker accepts from: its share, or else one that it shares with others."""
        sockets = self._sockets[address]
        return sockets[worker :: self._workers] or [sockets[worker % len(sockets)]]

    def for_successor(self) -> Inherited:
        """All of them; they stay ours, too."""
        return Inherited({**self._sockets, **self._spare}, self.lent)


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _bound_as(address: Address, sockets: Sequence[socket.socket]) -> Address:
    if address.path or address.port or not sockets:
        return address
    return replace(address, port=sockets[0].getsockname()[1])


def _bind(listener: Listener, address: Address, count: int, is_ours: bool) -> list[socket.socket]:
    """New sockets at an address; `is_ours`: where we have some already."""
    try:
        if address.path:
            return [_bind_unix(address.path)]
        return _bind_tcp(address.host, address.port, count, is_ours)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        where = f"listener '{listener.name}': can't listen on {address}"
        raise CannotListen(f"{where}: {why}{_hint(address, error)}") from None


def _hint(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        if address.path and not stat.S_ISSOCK(os.stat(address.path).st_mode):
            return "; the file is no socket: move it away, or choose another path"
        return "; stop the program that has it, or choose another address"
    if error.errno == errno.EACCES and not address.path and address.port < _PRIVILEGED_PORTS:
        return "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
    return ""


def _bind_tcp(host: str, port: int, count: int, is_ours: bool) -> list[socket.socket]:
    if not is_ours:
        # Sockets that share a port would share it with another gateway too: this tells.
        _listening(host, port, shared=False).close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            # Even a single one: after an upgrade there may be more.
            sockets.append(_listening(host, port, shared=True))
            # Where any free port will do, it is the same one for all workers.
            port = sockets[0].getsockname()[1]
    except OSError:
        _close(sockets)
        raise
    return sockets


def _listening(host: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    """A Unix socket is one for all workers: the kernel gives each connection to one of them."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unlink(address: Address) -> None:
    if not address.path:
        return
    try:
        os.unlink(address.path)
    except FileNotFoundError:
        return
    except OSError as error:
        report(f"can't remove {address}: {os.strerror(error.errno or 0).lower()}")


def _remove_stale(path: str) -> None:
    """Removes a socket that a program left behind; one that somebody listens on stays."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


# A filter on a socket that listens (classic BPF, filter.rst in the kernel's documentation): it lets everything pass
# but a SYN without an ACK, by the flags in byte 13 of the TCP header (RFC 9293 §3.1).
_ALL_BUT_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # A = the flags
        (0x54, 0, 0, 0x12),  # A &= SYN | ACK
        (0x15, 0, 1, 0x02),  # if A == SYN
        (0x06, 0, 0, 0),  # then drop it,
        (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
    )
)
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27


def hold_off(sock: socket.socket) -> None:
    """Lets no new client in on a TCP socket that listens; those that have come, or whose handshake is under way, can
    still be accepted. Who comes now tries again after a second, and learns then what has become of the socket: it is
    refused, and never reset."""
    instructions = ctypes.create_string_buffer(_ALL_BUT_SYN)
    program = struct.pack("HL", len(_ALL_BUT_SYN) // 8, ctypes.addressof(instructions))
    # Where the kernel can't do it, a client that comes in this very moment is reset.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def shut(sock: socket.socket) -> None:
    """Closes a TCP socket that listens for all processes that have it, so that new clients are refused, and not left
    waiting. Whoever listens on it again takes clients again."""
    with sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
