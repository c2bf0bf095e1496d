from __future__ import annotations

import errno
import select
import socket
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from fastgw.runtime.sockets import CannotListen, bind_all, hold_off, shut, unlink_unix_sockets
from fastgw.snapshot import Snapshot


def listening_on(address: str, workers: int = 1) -> Snapshot:
    return load_text(
        f"""
        [server]
        workers = {workers}
        [[listeners]]
        name = "public"
        address = "{address}"
        [[routes]]
        path = "/*"
        respond = {{ status = 204 }}
        """
    ).snapshot


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_told_in_one_sentence(workers: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            bind_all(listening_on(f"127.0.0.1:{port}", workers), 0)
    assert str(caught.value) == (
        f"listener 'public': can't listen on 127.0.0.1:{port}: address already in use; "
        "stop the program that has it, or choose another address"
    )


def test_the_workers_share_a_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    snapshot = listening_on(f"127.0.0.1:{port}", workers=2)
    first, second = bind_all(snapshot, 0), bind_all(snapshot, 1)
    assert [sock.getsockname() for sock in first + second] == [("127.0.0.1", port)] * 2
    close(first + second)


def test_a_unix_socket_that_a_dead_program_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    snapshot = listening_on(f"unix:{path}")
    sockets = bind_all(snapshot, 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(sockets)
    unlink_unix_sockets(snapshot)
    assert not path.exists()


def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(CannotListen, match="address already in use"):
            bind_all(listening_on(f"unix:{path}"), 0)
        assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    with pytest.raises(CannotListen):
        bind_all(listening_on(f"unix:{path}"), 0)
    assert path.read_text() == "precious"


def test_while_a_socket_closes_who_has_come_is_accepted_and_who_comes_is_refused_and_not_reset() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (listening,) = bind_all(listening_on(f"127.0.0.1:{port}"), 0)
    address = listening.getsockname()
    with socket.create_connection(address) as early, socket.socket() as late:
        hold_off(listening)
        late.setblocking(False)
        assert late.connect_ex(address) == errno.EINPROGRESS
        accepted, _ = listening.accept()
        with accepted:
            early.sendall(b"x")
            assert accepted.recv(1) == b"x"
        assert select.select([], [late], [], 0)[1] == []
        shut(listening.dup())
        select.select([], [late], [], 10)
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    # Whoever listens on it again takes clients again.
    listening.listen()
    socket.create_connection(address, 10).close()
    listening.close()
