"""The line that logs are measured on: real answers, and the log that the name says."""

import json
from pathlib import Path

import pytest

from benchmarks import micro_access_log
from benchmarks.micro_access_log import LOGS, line_with, settings_of
from benchmarks.micro_policies import CLIENTS, NOTHING
from fastgw.exchange import Exchange
from fastgw.net.log_sink import LogSink, NoLog
from fastgw.policy.access_log import PHASES, LineEncoder
from fastgw.policy.kind import Kinds

_TURNS = 2


class Kept:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.recorded: list[Exchange] = []

    def record(self, exchange: Exchange) -> None:
        self.recorded.append(exchange)


@pytest.mark.parametrize("name", LOGS)
def test_every_request_is_answered_with_the_log_that_is_measured(name: str) -> None:
    line, log = line_with(name)
    assert isinstance(log, NoLog if name == NOTHING else LogSink)
    for _ in range(_TURNS):
        line.turn()
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in line.last_answers())
    log.close()
    assert log.dropped == 0


def lines(name: str) -> list[str]:
    """What the log makes of a turn."""
    (line, _), kept = line_with(name), Kept()
    line.gateway.log = kept
    line.turn()
    settings = settings_of(LOGS[name][0] or "")
    encoder = LineEncoder(settings.format, settings.fields, settings.redaction, settings.rule)
    return encoder.encode(Kinds().records(kept.recorded), 0.0).decode().splitlines()


def test_each_log_does_what_it_is_measured_for() -> None:
    assert len(lines("the default")) == CLIENTS
    assert len(json.loads(lines("all fields")[0])) > 30
    assert lines("combined")[0].endswith('"GET /items/1027 HTTP/1.1" 200 2 "-" "benchmark"')
    assert json.loads(lines("sampled, 1 %")[0])["sampled"] == 0.01
    assert not set(PHASES[:2]) & set(json.loads(lines("slow ones, but none is")[0]))
    assert json.loads(lines("default, a token in the query")[0])["path"].endswith("access_token=REDACTED")
    assert json.loads(lines("default, a query")[0])["path"].endswith("q=blue+chairs")


def test_the_table_and_the_json_have_every_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert micro_access_log.main(["--rounds", "2", "--turns", "2", "--json", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "out").read_text())
    assert found["base_us"] > 0
    assert list(found["added_us"]) == list(LOGS)
    assert [line[:34].strip() for line in printed[2:]] == list(LOGS)
