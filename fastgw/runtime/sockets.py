"""The listening sockets: bound by the supervisor, kept for its life, and lent to the workers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastgw.snapshot import Address

if TYPE_CHECKING:
    from fastgw.snapshot import Listener

# Connections that the kernel may hold until they are accepted; it cuts this to net.core.somaxconn.
BACKLOG = 4096


class CannotListen(Exception):
    """A listening socket can't be had; the message is for the user."""


class SocketTable:
    """The sockets of each address: one for each worker, which share its port (SO_REUSEPORT), or one for all of them."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._sockets: dict[Address, list[socket.socket]] = {}

    def add(self, listeners: Iterable[Listener]) -> list[Address]:
        """Binds what is not bound yet, all or nothing; gives the addresses that are new. Raises CannotListen."""
        added: list[Address] = []
        try:
            for listener in listeners:
                if listener.address not in self._sockets:
                    self._sockets[listener.address] = _bind(listener, self._workers)
                    added.append(listener.address)
        except CannotListen:
            self.remove(added)
            raise
        return added

    def remove(self, addresses: Iterable[Address]) -> None:
        """Closes sockets, and removes the file of a Unix socket."""
        for address in tuple(addresses):
            for sock in self._sockets.pop(address, ()):
                sock.close()
            _unlink(address)

    def close(self) -> None:
        """Closes all sockets; the files of Unix sockets stay."""
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()

    def unlink(self) -> None:
        """Removes the files of Unix sockets, so that they may be another gateway's."""
        for address in self._sockets:
            _unlink(address)

    def bound(self, address: Address) -> Address:
        """The address with the port that the kernel has chosen, where any will do."""
        if address.path or address.port:
            return address
        return replace(address, port=self._sockets[address][0].getsockname()[1])

    def of(self, address: Address, worker: int) -> socket.socket:
        """That which this worker accepts from."""
        sockets = self._sockets[address]
        return sockets[worker % len(sockets)]


def _bind(listener: Listener, workers: int) -> list[socket.socket]:
    address = listener.address
    try:
        return [_bind_unix(address.path)] if address.path else _bind_tcp(address.host, address.port, workers)
    except OSError as error:
        what = f"listener '{listener.name}': can't listen on {address}: {os.strerror(error.errno or 0).lower()}"
        if error.errno == errno.EADDRINUSE:
            what += "; stop the program that has it, or choose another address"
        elif error.errno == errno.EACCES:
            what += "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        raise CannotListen(what) from None


def _bind_tcp(host: str, port: int, workers: int) -> list[socket.socket]:
    if workers > 1:
        # Sockets that share a port would share it with another gateway too: this tells.
        _listening(host, port, shared=False).close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(workers):
            sockets.append(_listening(host, port, shared=workers > 1))
            # Where any free port will do, it is the same one for all workers.
            port = sockets[0].getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
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
    if address.path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.path)


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
