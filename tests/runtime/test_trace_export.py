"""What becomes of records when a collector is well, away, busy, or not to be moved."""

from __future__ import annotations

import socket
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from fastgw.config.trace_settings import TraceExport
from fastgw.net.trace_record import TraceRecord
from fastgw.runtime import trace_export
from fastgw.runtime.events import DONE, FAILED
from fastgw.runtime.trace_export import Backlog, Exporter, Outcome
from fastgw.runtime.trace_export import Collector as Remote
from tests.runtime.test_otlp import RECORD
from tests.support.collector import Collector

EXPORT = TraceExport("http://collector.test:4318", "edge", (("api-key", "k"),))


def records(count: int, start: int = 0) -> list[TraceRecord]:
    return [RECORD._replace(started=start + number) for number in range(count)]


# The backlog.


def test_what_is_put_is_taken_in_its_order_and_as_much_as_is_wanted() -> None:
    backlog = Backlog()
    backlog.put(records(5))
    assert [one.started for one in backlog.take(3, 0)] == [0, 1, 2]
    assert [one.started for one in backlog.take(3, 0)] == [3, 4]
    assert backlog.take(3, 0) == []
    assert backlog.lost() == 0


def test_the_oldest_make_room_for_the_newest_and_are_counted() -> None:
    backlog = Backlog(size=10)
    backlog.put(records(25))
    assert [one.started for one in backlog.take(100, 0)] == list(range(15, 25))
    assert (backlog.lost(), backlog.lost()) == (15, 0)


def test_whoever_waits_is_woken_by_the_end() -> None:
    backlog = Backlog()
    taken: list[list[TraceRecord]] = []
    waiting = threading.Thread(target=lambda: taken.append(backlog.take(1, 60)))
    waiting.start()
    backlog.end()
    waiting.join(10)
    assert taken == [[]]


# The exporter, with a collector that does what it is told.


class Played:
    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.bodies: list[bytes] = []

    def offer(self, body: bytes) -> Outcome:
        self.bodies.append(body)
        return self.outcomes.pop(0) if self.outcomes else Outcome()

    def close(self) -> None:
        pass


class Rig:
    def __init__(self, *outcomes: Outcome, size: int = 1000) -> None:
        self.backlog = Backlog(size)
        self.pauses: list[float] = []
        self.exported = self.lost = 0
        self.told: list[tuple[str, str]] = []
        self.collector = Played(*outcomes)
        self.exporter = Exporter(self.backlog, self.pauses.append, self._count, lambda *event: self.told.append(event))

    def _count(self, exported: int, lost: int) -> None:
        self.exported += exported
        self.lost += lost

    def step(self) -> bool:
        return self.exporter.step(EXPORT, self.collector)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "_WAIT_S", 0.0)


AWAY = Outcome("connection refused", is_retried=True)


def test_records_are_offered_in_batches() -> None:
    rig = Rig()
    rig.backlog.put(records(300))
    assert [rig.step(), rig.step(), rig.step()] == [True, True, True]
    assert len(rig.collector.bodies) == 2
    assert (rig.exported, rig.lost, rig.told) == (300, 0, [])
    assert rig.exporter.is_empty


def test_what_is_not_taken_now_is_offered_again_less_and_less_often() -> None:
    rig = Rig(*([AWAY] * 7))
    rig.backlog.put(records(3))
    for _ in range(8):
        rig.step()
    assert rig.pauses == [1, 2, 4, 8, 16, 30, 30]
    assert len(set(rig.collector.bodies)) == 1
    assert (rig.exported, rig.lost) == (3, 0)
    # Once when it begins, and once when it ends.
    assert [outcome for outcome, _ in rig.told] == [FAILED, DONE]
    assert rig.told[0][1] == ("http://collector.test:4318 takes no traces: connection refused; they are offered again")
    rig.collector.outcomes.append(AWAY)
    rig.backlog.put(records(1))
    rig.step()
    assert rig.pauses[-1] == 1


def test_a_collector_says_for_how_long() -> None:
    rig = Rig(Outcome("it answers 503", is_retried=True, retry_after=20.0))
    rig.backlog.put(records(1))
    rig.step()
    assert rig.pauses == [20.0]


def test_what_comes_meanwhile_is_bounded_and_what_is_lost_is_counted() -> None:
    rig = Rig(AWAY, AWAY, size=10)
    rig.backlog.put(records(5))
    rig.step()
    rig.backlog.put(records(30, start=100))
    rig.step()
    assert rig.lost == 20
    for _ in range(2):
        rig.step()
    assert (rig.exported, rig.lost) == (15, 20)


def test_what_is_refused_is_lost_and_told_once() -> None:
    rig = Rig(Outcome("it answers 400"), Outcome("it answers 400"))
    for _ in range(2):
        rig.backlog.put(records(2))
        assert not rig.step()
    assert (rig.exported, rig.lost, rig.pauses) == (0, 4, [])
    assert len(rig.told) == 1
    assert "refuses traces: it answers 400; they are lost" in rig.told[0][1]


def test_what_nobody_waits_for_any_more_is_lost() -> None:
    rig = Rig(AWAY)
    rig.backlog.put(records(300))
    rig.step()
    rig.exporter.give_up()
    assert (rig.exported, rig.lost) == (0, 300)
    assert rig.exporter.is_empty


# Over HTTP.


def test_a_request_is_as_the_specification_has_it() -> None:
    with Collector() as collector:
        remote = Remote(TraceExport(collector.endpoint + "/otlp/", "edge", (("Api-Key", "k"),)))
        assert remote.offer(b"") == Outcome()
        assert remote.offer(b"") == Outcome()
        remote.close()
        path, headers, _ = collector.requests[0]
    assert path == "/otlp/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["api-key"] == "k"


@pytest.mark.parametrize(
    ("status", "is_retried"),
    [(429, True), (502, True), (503, True), (504, True), (400, False), (404, False), (500, False)],
)
def test_which_answers_mean_another_time(status: int, is_retried: bool) -> None:
    with Collector() as collector:
        collector.status = status
        collector.answer_headers = {"Retry-After": "7"}
        remote = Remote(TraceExport(collector.endpoint, "edge"))
        assert remote.offer(b"") == Outcome(f"it answers {status}", is_retried, 7.0)
        remote.close()


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon"])
def test_a_time_that_is_no_number_of_seconds_is_no_time(value: str) -> None:
    with Collector() as collector:
        collector.status, collector.answer_headers = 503, {"Retry-After": value}
        remote = Remote(TraceExport(collector.endpoint, "edge"))
        assert remote.offer(b"").retry_after == 0
        remote.close()


def test_spans_that_were_not_taken_are_counted() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 3
    with Collector() as collector:
        collector.body = answer.SerializeToString()
        remote = Remote(TraceExport(collector.endpoint, "edge"))
        assert remote.offer(b"") == Outcome(rejected=3)
        collector.body = b"\xff\xff ok"
        assert remote.offer(b"") == Outcome()
        remote.close()
    rig = Rig(Outcome(rejected=3))
    rig.backlog.put(records(1))
    rig.step()
    assert rig.told == [(FAILED, "http://collector.test:4318 has not taken 3 spans of a request")]


def test_a_connection_that_was_closed_meanwhile_says_nothing() -> None:
    with Collector() as collector:
        remote = Remote(TraceExport(collector.endpoint, "edge"))
        assert remote.offer(b"") == Outcome()
        assert remote._connection.sock is not None
        remote._connection.sock.shutdown(socket.SHUT_RDWR)
        assert remote.offer(b"") == Outcome()
        remote.close()
    gone = remote.offer(b"")
    assert gone.is_retried
    assert "refused" in gone.why


def test_whoever_speaks_no_http_is_offered_them_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-x\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        outcome = Remote(TraceExport(f"http://127.0.0.1:{listener.getsockname()[1]}", "edge")).offer(b"")
        answering.join()
    assert outcome.is_retried
    assert outcome.why
