"""What the busiest worker has, to the mean; and whose connections are whose, on sockets of this very process."""

import os
import socket

import pytest

from benchmarks.balance import max_to_mean, seen
from benchmarks.measure import PROC
from benchmarks.results import CONNECTIONS_OF_1000, Sample, summarize
from benchmarks.workloads import WORKLOADS, Kind


@pytest.mark.parametrize(
    ("shares", "expected"), [([5, 5], 1.0), ([10, 0], 2.0), ([3, 1, 0, 0], 3.0), ([7], 1.0), ([0, 0], 0.0)]
)
def test_one_is_even_and_the_number_of_workers_is_all_for_one(shares: list[int], expected: float) -> None:
    assert max_to_mean(shares) == expected


@pytest.mark.skipif(not PROC.joinpath("net/tcp").exists(), reason="needs Linux's /proc")
def test_connections_of_the_same_port_at_two_addresses_are_two() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as one, socket.socket() as other:
        port = listener.getsockname()[1]
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.2", one.getsockname()[1]))
        before = len(seen(os.getpid()))
        accepted = []
        for client in (one, other):
            client.connect(listener.getsockname())
            accepted.append(listener.accept()[0])
        found = seen(os.getpid())
        assert sum(each.local_port == port for each in found) == len(accepted)
        assert sum(each.remote_port == port for each in found) == len(accepted)
        assert len(found) == before + 4
        for sock in accepted:
            sock.close()


def test_balance_is_compared_by_connections() -> None:
    (row,) = summarize([Sample("accept-balance-2", "fastgw", 1, {CONNECTIONS_OF_1000: 1.02})])
    assert (row.compared, row.least) == (CONNECTIONS_OF_1000, 1.02)


def test_balance_is_of_several_workers() -> None:
    assert {workload.workers for workload in WORKLOADS if workload.kind is Kind.BALANCE} == {2, 4}
