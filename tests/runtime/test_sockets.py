from __future__ import annotations

import errno
import select
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fastgw.config.load import load_text
from fastgw.runtime.sockets import CannotListen, Inherited, SocketTable, hold_off, shut
from fastgw.snapshot import Snapshot
from tests.support.gateway import free_port


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


def table_of(snapshot: Snapshot) -> SocketTable:
    table = SocketTable(snapshot.workers)
    table.add(snapshot.listeners)
    return table


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_told_in_one_sentence(workers: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            table_of(listening_on(f"127.0.0.1:{port}", workers))
    assert str(caught.value) == (
        f"listener 'public': can't listen on 127.0.0.1:{port}: address already in use; "
        "stop the program that has it, or choose another address"
    )


def test_the_workers_share_a_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    snapshot = listening_on(f"127.0.0.1:{port}", workers=2)
    table = table_of(snapshot)
    address = snapshot.listeners[0].address
    (first,), (second,) = table.of(address, 0), table.of(address, 1)
    assert first is not second
    assert [sock.getsockname() for sock in (first, second)] == [("127.0.0.1", port)] * 2
    table.close()


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (1, 1)])
def test_inherited_sockets_are_shared_out_and_missing_ones_are_bound(before: int, after: int) -> None:
    listener = listening_on(f"127.0.0.1:{free_port()}").listeners[0]
    old = SocketTable(before)
    old.add([listener])
    new = SocketTable(after, old.for_successor())
    new.add([listener])
    had = [sock for worker in range(before) for sock in old.of(listener.address, worker)]
    shared_out = [new.of(listener.address, worker) for worker in range(after)]
    assert all(shared_out)
    every = [sock for sockets in shared_out for sock in sockets]
    assert len(set(every)) == len(every) == max(before, after)
    assert set(had) <= set(every)
    new.close()


def test_a_lent_socket_is_all_workers_own_and_outlives_its_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as lent:
        listener = listening_on(f"127.0.0.1:{lent.getsockname()[1]}").listeners[0]
        table = SocketTable(2, Inherited({listener.address: [lent]}, frozenset([listener.address])))
        assert table.spare() == [listener.address]
        table.drop_spare()
        table.add([listener])
        assert [table.of(listener.address, worker) for worker in range(2)] == [[lent], [lent]]
        table.remove([listener.address])
        assert table.spare() == [listener.address]
        socket.create_connection(lent.getsockname()).close()


def test_inherited_sockets_that_no_listener_wants_are_closed() -> None:
    listener = listening_on(f"127.0.0.1:{free_port()}").listeners[0]
    old = SocketTable(2)
    old.add([listener])
    new = SocketTable(2, old.for_successor())
    assert new.spare() == [listener.address]
    new.drop_spare()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((listener.address.host, listener.address.port)).close()


def test_an_ipv6_socket_that_takes_ipv4_clients_is_told() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as lent:
        listener = listening_on(f"[::]:{lent.getsockname()[1]}").listeners[0]
        table = SocketTable(1, Inherited({listener.address: [lent]}, frozenset([listener.address])))
        table.add([listener])
        assert table.dual_stack() == [listener.address]


def test_what_is_bound_already_stays_and_a_failure_leaves_nothing_behind() -> None:
    before = listening_on("127.0.0.1:0").listeners[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        new = [
            replace(before, address=replace(before.address, port=port))
            for port in (free_port(), taken.getsockname()[1])
        ]
        table = SocketTable(1)
        assert table.add([before]) == [before.address]
        sock = table.of(before.address, 0)
        with pytest.raises(CannotListen):
            table.add([before, *new])
    assert table.of(before.address, 0) == sock
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", new[0].address.port)).close()
    table.close()


def test_a_unix_socket_that_a_dead_program_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    snapshot = listening_on(f"unix:{path}")
    table = table_of(snapshot)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    table.close()
    assert path.exists()
    table = table_of(snapshot)
    table.unlink()
    table.close()
    assert not path.exists()


def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(CannotListen, match="address already in use"):
            table_of(listening_on(f"unix:{path}"))
        assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    with pytest.raises(CannotListen):
        table_of(listening_on(f"unix:{path}"))
    assert path.read_text() == "precious"


def test_while_a_socket_closes_who_has_come_is_accepted_and_who_comes_is_refused_and_not_reset() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    snapshot = listening_on(f"127.0.0.1:{port}")
    (listening,) = table_of(snapshot).of(snapshot.listeners[0].address, 0)
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
