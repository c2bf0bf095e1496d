from __future__ import annotations

import os
from itertools import pairwise

from fastgw.counters import ENDPOINT, LISTENER, ROUTE, SIZES, UPSTREAM, WORKER
from fastgw.rows import Key, Rows
from fastgw.runtime.row_layout import LayoutKeeper, RowMemory, keys_of
from tests.fakes import snapshot_of

A, B, C = [(ROUTE, "", name) for name in "abc"]


def worker(keeper: LayoutKeeper, number: int) -> Rows:
    """As one sees the memory through its own mapping."""
    memory, rows = RowMemory(os.dup(keeper.memory.fd)), Rows()
    memory.grow(keeper.layout.size)
    rows.adopt(keeper.layout.places, memory.cells, number)
    return rows


def count(rows: Rows, key: Key, value: int) -> None:
    rows.row(key[0], key[2], key[1])[0] += value
    rows.flush()


def test_what_workers_count_is_summed_up() -> None:
    keeper = LayoutKeeper(3)
    keeper.adopt([A, B], 0.0)
    for number in range(3):
        count(worker(keeper, number), A, 10**number)
    assert keeper.sums(A)[0] == 111
    assert [row[0] for row in keeper.of_each_worker(A)] == [1, 10, 100]
    assert not any(keeper.sums(B))


def test_no_two_rows_overlap() -> None:
    keeper = LayoutKeeper(2)
    keys = [A, (LISTENER, "", "l"), (UPSTREAM, "", "u"), (ENDPOINT, "u", "e"), (WORKER, "", ""), B]
    layout = keeper.adopt(keys, 0.0)
    taken = sorted((place, place + 2 * SIZES[key[0]]) for key, place in layout.places.items())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(taken))
    assert taken[-1][1] == layout.size


def test_who_stays_keeps_its_place_and_its_counts() -> None:
    keeper = LayoutKeeper(1)
    keeper.adopt([A, B], 0.0)
    count(worker(keeper, 0), B, 5)
    place = keeper.layout.places[B]
    keeper.adopt([C, B], 1.0)
    assert keeper.layout.places[B] == place
    assert keeper.sums(B)[0] == 5


def test_a_place_lies_fallow_before_it_is_another_s_and_is_empty_then() -> None:
    keeper = LayoutKeeper(2)
    keeper.adopt([A], 0.0)
    count(worker(keeper, 1), A, 5)
    place = keeper.layout.places[A]
    keeper.adopt([B], 10.0)
    assert keeper.layout.places[B] != place
    keeper.adopt([B, C], 60.0)
    assert keeper.layout.places[C] != place
    keeper.adopt([B, C, (ROUTE, "", "d")], 80.0)
    assert keeper.layout.places[ROUTE, "", "d"] == place
    assert not any(keeper.sums((ROUTE, "", "d")))


def test_the_memory_does_not_grow_with_every_change() -> None:
    keeper = LayoutKeeper(1)
    for number in range(1000):
        keeper.adopt([(ROUTE, "", f"{number}-{one}") for one in range(10)], 100.0 * number)
    assert keeper.layout.size <= 20 * SIZES[ROUTE]
    assert os.fstat(keeper.memory.fd).st_size == keeper.layout.size * 8


def test_all_that_a_configuration_names_is_counted_where_somebody_may_read_it() -> None:
    text = (
        '[[listeners]]\nname = "in"\naddress = "127.0.0.1:0"\n[upstreams.u]\nendpoints = ["e:1", "e:2"]\n'
        '[[routes]]\nname = "r"\nupstream = "u"\n'
    )
    admin = '[admin]\naddress = "127.0.0.1:1"\n'
    assert keys_of(snapshot_of(text)) == []
    requests = {(ROUTE, "", ""), (ROUTE, "", "r"), (LISTENER, "", "in")}
    assert requests.isdisjoint(keys_of(snapshot_of(text + admin + "metrics = false\n")))
    assert set(keys_of(snapshot_of(text + admin))) == requests | {
        (WORKER, "", ""),
        (UPSTREAM, "", "u"),
        (ENDPOINT, "u", "e:1"),
        (ENDPOINT, "u", "e:2"),
    }
