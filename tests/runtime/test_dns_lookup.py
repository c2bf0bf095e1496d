from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fastgw.runtime import dns_lookup
from fastgw.runtime.dns_lookup import LookUp, LookUpError
from fastgw.snapshot import Discovery, Endpoint
from tests.support.dns import NameServer


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def look_up(server: NameServer, kind: str = "dns", name: str = "app.test") -> LookUp:
    return LookUp(Discovery(kind, name, 8080 if kind == "dns" else 0, server.address))


def found(lookup: LookUp) -> tuple[tuple[Endpoint, ...], float]:
    return asyncio.run(lookup.endpoints())


def names(lookup: LookUp) -> list[str]:
    return [endpoint.name for endpoint in found(lookup)[0]]


def test_each_address_is_an_endpoint_and_the_least_ttl_counts(server: NameServer) -> None:
    server.serve("app.test. 30 A 10.0.0.2\napp.test. 30 A 10.0.0.1\napp.test. 7 AAAA fd00::1")
    endpoints, ttl_s = found(look_up(server))
    assert [(one.name, str(one.address)) for one in endpoints] == [
        (name, name) for name in ("10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080")
    ]
    assert ttl_s == 7.0


def test_aliases_are_followed_and_their_ttl_counts(server: NameServer) -> None:
    server.serve("app.test. 5 CNAME real.test.\nreal.test. 60 A 10.0.0.1")
    endpoints, ttl_s = found(look_up(server))
    assert ([one.name for one in endpoints], ttl_s) == (["10.0.0.1:8080"], 5.0)


def test_an_address_that_is_there_twice_is_one_endpoint(server: NameServer) -> None:
    server.serve("app.test. 30 A 10.0.0.1\napp.test. 30 A 10.0.0.1\napp.test. 30 A 10.0.0.2")
    assert names(look_up(server)) == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_no_such_name_and_no_addresses_are_both_nothing(server: NameServer) -> None:
    assert found(look_up(server))[0] == ()
    server.serve('app.test. 30 TXT "hello"')
    assert found(look_up(server))[0] == ()


def test_a_server_that_fails_is_no_empty_answer(server: NameServer) -> None:
    server.broken = {"A", "AAAA"}
    with pytest.raises(LookUpError, match="DNS server returned general failure"):
        found(look_up(server))


def test_one_that_does_not_answer_fails_in_time(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_lookup, "_TIMEOUT_S", 0.1)
    server.silent = True
    with pytest.raises(LookUpError, match=r"(?i)timeout"):
        found(look_up(server))


def test_a_kind_of_address_that_fails_counts_when_there_have_been_some(server: NameServer) -> None:
    lookup = look_up(server)
    server.serve("app.test. 30 A 10.0.0.1")
    server.broken = {"AAAA"}
    assert names(lookup) == ["10.0.0.1:8080"]
    server.broken = {"A"}
    server.serve("app.test. 30 A 10.0.0.1\napp.test. 30 AAAA fd00::1")
    with pytest.raises(LookUpError):
        found(lookup)
    # Gone for good, then broken: that takes away nothing.
    server.broken = set()
    server.serve("app.test. 30 AAAA fd00::1")
    assert names(lookup) == ["[fd00::1]:8080"]
    server.broken = {"A"}
    assert names(lookup) == ["[fd00::1]:8080"]


def test_an_empty_answer_is_no_reason_to_forget_which_kinds_there_have_been(server: NameServer) -> None:
    both = "app.test. 30 A 10.0.0.1\napp.test. 30 AAAA fd00::1"
    lookup = look_up(server)
    server.serve(both)
    assert len(names(lookup)) == 2
    server.serve("")
    assert names(lookup) == []
    server.serve(both)
    server.broken = {"AAAA"}
    with pytest.raises(LookUpError):
        found(lookup)


SERVICE = "_http._tcp.app.test"


def test_the_lowest_priority_is_primary_and_the_others_are_backups(server: NameServer) -> None:
    server.serve(
        f"""
        {SERVICE}. 30 SRV 20 1 8003 c.test.
        {SERVICE}. 30 SRV 10 3 8001 a.test.
        {SERVICE}. 30 SRV 10 0 8002 b.test.
        a.test. 9 A 10.0.0.1
        b.test. 30 A 10.0.0.2
        b.test. 30 AAAA fd00::2
        c.test. 30 A 10.0.0.3
        """
    )
    endpoints, ttl_s = found(look_up(server, "srv", SERVICE))
    assert [(one.name, one.weight, one.backup) for one in endpoints] == [
        ("10.0.0.1:8001", 300, False),
        ("10.0.0.2:8002", 1, False),
        ("[fd00::2]:8002", 1, False),
        ("10.0.0.3:8003", 100, True),
    ]
    assert ttl_s == 9.0


def test_a_target_s_weight_is_shared_by_its_addresses(server: NameServer) -> None:
    server.serve(f"{SERVICE}. 30 SRV 1 1 80 a.test.\na.test. 30 A 10.0.0.1\na.test. 30 A 10.0.0.2")
    assert [one.weight for one in found(look_up(server, "srv", SERVICE))[0]] == [50, 50]


def test_targets_without_addresses_are_left_out_and_backups_take_their_place(server: NameServer) -> None:
    server.serve(f"{SERVICE}. 30 SRV 1 1 80 a.test.\n{SERVICE}. 30 SRV 2 1 80 b.test.\nb.test. 30 A 10.0.0.2")
    (endpoint,) = found(look_up(server, "srv", SERVICE))[0]
    assert (endpoint.name, endpoint.backup) == ("10.0.0.2:80", False)


def test_a_service_that_is_said_not_to_be_there_has_no_endpoints(server: NameServer) -> None:
    server.serve(f"{SERVICE}. 30 SRV 0 0 0 .")
    assert found(look_up(server, "srv", SERVICE))[0] == ()


def test_a_target_that_fails_counts_when_it_has_had_addresses(server: NameServer) -> None:
    lookup = look_up(server, "srv", SERVICE)
    both = f"{SERVICE}. 30 SRV 1 1 80 a.test.\n{SERVICE}. 30 SRV 1 1 80 b.test.\n"
    server.serve(both + "a.test. 30 A 10.0.0.1\nb.test. 30 A 10.0.0.2")
    server.failing = {"a.test.", "b.test."}
    with pytest.raises(LookUpError):
        found(lookup)
    server.failing = {"b.test."}
    endpoints, ttl_s = found(lookup)
    assert ([one.name for one in endpoints], ttl_s) == (["10.0.0.1:80"], 0.0)
    server.failing = set()
    assert names(lookup) == ["10.0.0.1:80", "10.0.0.2:80"]
    server.failing = {"b.test."}
    with pytest.raises(LookUpError):
        found(lookup)


def test_targets_that_are_gone_are_forgotten(server: NameServer) -> None:
    lookup = look_up(server, "srv", SERVICE)
    for number in range(3):
        server.serve(f"{SERVICE}. 30 SRV 1 1 80 t{number}.test.\nt{number}.test. 30 A 10.0.0.{number}")
        assert names(lookup) == [f"10.0.0.{number}:80"]
    assert lookup._had == {("t2.test", "A")}
