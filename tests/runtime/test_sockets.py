from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from fastgw.runtime.sockets import CannotListen, bind_all, unlink_unix_sockets
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
