"""The listening sockets: bound by the supervisor, inherited by the workers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgw.snapshot import Listener, Snapshot

# Connections that the kernel may hold until they are accepted; it cuts this to net.core.somaxconn.
BACKLOG = 4096


class CannotListen(Exception):
    """A listening socket can't be had; the message is for the user."""


def bind_all(snapshot: Snapshot, worker_number: int) -> list[socket.socket]:
    """The listening sockets of one worker. Raises CannotListen."""
    return [_bind(listener, worker_number, snapshot.workers) for listener in snapshot.listeners]


def with_ports(snapshot: Snapshot, sockets: list[socket.socket]) -> Snapshot:
    """The snapshot with the ports that the kernel chose where its listeners have port 0."""
    listeners = tuple(
        listener
        if listener.address.path or listener.address.port
        else replace(listener, address=replace(listener.address, port=sock.getsockname()[1]))
        for listener, sock in zip(snapshot.listeners, sockets, strict=True)
    )
    return replace(snapshot, listeners=listeners)


def _bind(listener: Listener, worker_number: int, workers: int) -> socket.socket:
    address = listener.address
    try:
        if address.path:
            return _bind_unix(address.path, worker_number)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        if worker_number == 0 and workers > 1:
            # Sockets that share a port would share it with another gateway too: this tells.
            _listening(family, address.host, address.port, shared=False).close()
        return _listening(family, address.host, address.port, shared=workers > 1)
    except OSError as error:
        what = f"listener '{listener.name}': can't listen on {address}: {os.strerror(error.errno or 0).lower()}"
        if error.errno == errno.EADDRINUSE:
            what += "; stop the program that has it, or choose another address"
        elif error.errno == errno.EACCES:
            what += "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        raise CannotListen(what) from None


def _listening(family: socket.AddressFamily, host: str, port: int, shared: bool) -> socket.socket:
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


_unix_sockets: dict[str, socket.socket] = {}


def _bind_unix(path: str, worker_number: int) -> socket.socket:
    """A Unix socket is one for all workers: the kernel gives each connection to one of them."""
    if worker_number:
        return _unix_sockets[path].dup()
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    _unix_sockets[path] = sock
    return sock


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


def unlink_unix_sockets(snapshot: Snapshot) -> None:
    for listener in snapshot.listeners:
        if listener.address.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(listener.address.path)
