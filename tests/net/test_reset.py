from __future__ import annotations

import asyncio
import socket

import pytest

from fastgw.net.reset import reset


class Closing(asyncio.Transport):
    """A transport on a socket, of which it can only be closed."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        sock = self.get_extra_info("socket")
        if sock is not None:
            sock.close()


def test_the_other_end_is_told_of_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.settimeout(10)
        client.connect(listener.getsockname())
        reset(Closing(listener.accept()[0]))
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_socket_that_is_closed_already_is_let_go() -> None:
    sock = socket.socket()
    sock.close()
    transport = Closing(sock)
    reset(transport)
    assert transport.aborted


def test_a_transport_without_a_socket_is_aborted() -> None:
    transport = Closing(None)
    reset(transport)
    assert transport.aborted
