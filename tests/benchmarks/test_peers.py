"""What the peers are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import choose_peers
from benchmarks.peers import Setup, all_peers
from benchmarks.peers.fastgw import COMPILED_PYTHON
from benchmarks.workloads import WORKLOADS, for_smoke, named
from fastgw.config.load import load_text


def configuration(peer: str, directory: Path, workers: int = 1) -> str:
    """The file that the peer is started with."""
    workload = replace(named("json-bare"), workers=workers)
    command = all_peers()[peer].command(Setup(workload, directory, 20_000, 20_001, 1024))
    return Path(command[-1]).read_text()


def test_every_workload_is_for_peers_that_there_are() -> None:
    assert {peer for workload in WORKLOADS for peer in workload.peers} == set(all_peers())


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ("fastgw", "workers = {}\n"),
        ("nginx", "worker_processes {};"),
        ("nginx-reuseport", "worker_processes {};"),
        ("haproxy", "nbthread {} "),
    ],
)
def test_a_peer_runs_as_many_workers_as_the_workload_says(peer: str, told: str, tmp_path: Path) -> None:
    for workers in (1, 2):
        assert told.format(workers) in configuration(peer, tmp_path, workers)


def test_a_guarded_fastgw_has_a_configuration_with_all_guards(tmp_path: Path) -> None:
    upstream = load_text(configuration("fastgw-guarded", tmp_path)).snapshot.upstreams["backend"]
    guards = (upstream.health, upstream.outliers, upstream.retry, upstream.breaker, upstream.concurrency)
    assert None not in guards
    assert not load_text(configuration("fastgw", tmp_path)).snapshot.upstreams["backend"].retry


def test_two_fastgws_differ_in_hedging_alone(tmp_path: Path) -> None:
    with_it = configuration("fastgw-hedging", tmp_path)
    without = configuration("fastgw-retries", tmp_path)
    assert with_it.replace("{ hedge = true }", "true") == without
    retry = load_text(with_it).snapshot.upstreams["backend"].retry
    assert retry is not None
    assert retry.hedge is not None


def test_a_compiled_fastgw_is_one_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "python"
    monkeypatch.delenv(COMPILED_PYTHON, raising=False)
    assert COMPILED_PYTHON in str(all_peers()["fastgw-compiled"].missing())
    monkeypatch.setenv(COMPILED_PYTHON, str(other))
    for hot_path, is_missing in (("interpreted", True), ("compiled", False)):
        other.write_text(f"#!/bin/sh\necho fastgw 0.1.0, hot path: {hot_path}")
        other.chmod(0o755)
        assert (all_peers()["fastgw-compiled"].missing() is not None) == is_missing
    workload = named("json-bare")
    command = all_peers()["fastgw-compiled-observed"].command(Setup(workload, tmp_path, 20_000, 20_001, 1024))
    assert command[:5] == ["env", "PYTHONSAFEPATH=1", str(other), "-m", "fastgw"]
    assert load_text(Path(command[-1]).read_text()).snapshot.counts_requests


def test_who_is_missing_matters_only_where_it_has_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMPILED_PYTHON, raising=False)
    assert "fastgw-compiled" in choose_peers(None, [named("compiled")])[1]
    peers, skipped = choose_peers(None, for_smoke())
    assert "fastgw-compiled" not in {*skipped, *(peer.name for peer in peers)}


def test_traces_of_a_fastgw_go_to_the_backend(tmp_path: Path) -> None:
    for peer, sample in (("fastgw-traced", 0.0), ("fastgw-recording", 1.0)):
        loaded = load_text(configuration(peer, tmp_path))
        assert loaded.snapshot.tracing is not None
        assert loaded.snapshot.tracing.sample == sample
        assert loaded.tracing is not None
        assert loaded.tracing.endpoint.startswith("http://127.0.0.1:")
    assert load_text(configuration("fastgw", tmp_path)).tracing is None


def test_nginx_has_a_log_unless_its_name_says_that_it_has_none(tmp_path: Path) -> None:
    assert f"access_log {tmp_path}/access.log json" in configuration("nginx", tmp_path)
    without = configuration("nginx-unobserved", tmp_path)
    assert [line.strip() for line in without.splitlines() if "access_log" in line] == ["access_log off;"]


def test_nginx_has_a_socket_for_each_worker_only_where_its_name_says_so(tmp_path: Path) -> None:
    assert " reuseport " in configuration("nginx-reuseport", tmp_path)
    assert "reuseport" not in configuration("nginx", tmp_path)


def test_an_observed_fastgw_counts_requests_and_an_unobserved_one_logs_nothing_either(tmp_path: Path) -> None:
    usual, observed, unobserved = (
        load_text(configuration(name, tmp_path)).snapshot for name in ("fastgw", "fastgw-observed", "fastgw-unobserved")
    )
    assert (usual.counts_requests, observed.counts_requests, unobserved.counts_requests) == (False, True, False)
    assert usual.access_log == observed.access_log
    assert unobserved.access_log.path == "off"
