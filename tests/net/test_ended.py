from __future__ import annotations

from fastgw.exchange import Exchange
from fastgw.net.ended import Ended
from fastgw.policy.kind import Record
from tests.fakes import FakeClient, Line

CONFIG = '[[routes]]\nname = "r"\nrespond.body = "x"\n'


def ended(count: int) -> list[Exchange]:
    line = Line(CONFIG)
    exchanges = []
    for number in range(count):
        line.client = FakeClient()
        exchanges.append(line.get(f"/{number}"))
    return exchanges


def test_all_takers_get_each_exchange_once_and_in_order() -> None:
    one: list[Record] = []
    other: list[Record] = []
    collected = Ended([one.extend, other.extend])
    exchanges = ended(100)
    for exchange in exchanges:
        collected.record(exchange)
    assert one == other
    assert [record[0] for record in one] == exchanges[: len(one)]
    # Full batches come by themselves, and the rest when it is asked for.
    assert 50 < len(one) < 100
    collected.flush()
    collected.flush()
    assert one == other
    assert [record[0] for record in one] == exchanges


def test_a_batch_that_is_taken_is_not_added_to() -> None:
    batches: list[list[Record]] = []
    collected = Ended([batches.append])
    for exchange in ended(70):
        collected.record(exchange)
    collected.flush()
    assert sum(map(len, batches)) == 70
    assert len({id(record[0]) for batch in batches for record in batch}) == 70
