from __future__ import annotations

from fastgw.counters import ENDPOINT, LISTENER, ROUTE, SIZES
from fastgw.rows import Rows


def memory_of(cells: int) -> memoryview:
    return memoryview(bytearray(8 * cells)).cast("Q")


def test_each_name_has_a_row_of_its_own_and_always_the_same() -> None:
    rows = Rows()
    row = rows.route("a")
    row[3] += 1
    assert rows.route("a") is row
    assert len({id(rows.row(kind, "a", of)) for kind, of in ((ROUTE, ""), (LISTENER, ""), (ENDPOINT, "u"))}) == 3
    assert len(row) == SIZES[ROUTE]


def test_what_was_counted_goes_into_the_place_of_its_worker() -> None:
    rows, size = Rows(), SIZES[LISTENER]
    memory = memory_of(10 + 3 * size)
    rows.adopt({(LISTENER, "", "a"): 10}, memory, 1)
    rows.row(LISTENER, "a")[2] += 7
    assert not any(memory)
    rows.flush()
    assert memory[10 + size + 2] == 7
    assert sum(memory) == 7


def test_what_was_counted_before_there_was_a_place_is_not_lost() -> None:
    rows, memory = Rows(), memory_of(SIZES[ROUTE])
    row = rows.route("new")
    row[0] += 2
    rows.flush()
    rows.adopt({(ROUTE, "", "new"): 0}, memory, 0)
    assert memory[0] == 2
    rows.route("new")[0] += 1
    rows.flush()
    assert memory[0] == 3


def test_a_worker_goes_on_from_what_another_had_counted_in_its_place() -> None:
    memory, places = memory_of(2 * SIZES[ROUTE]), {(ROUTE, "", "a"): 0, (ROUTE, "", "b"): SIZES[ROUTE]}
    dead, early, late = Rows(), Rows(), Rows()
    dead.adopt(places, memory, 0)
    for name in ("a", "b"):
        dead.route(name)[5] += 100
    dead.flush()
    # One has begun to count before it knew the places, one after.
    row = early.route("a")
    row[5] += 1
    early.adopt(places, memory, 0)
    late.adopt(places, memory, 0)
    late.route("b")[5] += 1
    late.flush()
    assert (memory[5], memory[SIZES[ROUTE] + 5]) == (101, 101)


def test_who_has_no_place_any_more_is_forgotten_and_harms_nobody_in_its_place() -> None:
    rows, memory = Rows(), memory_of(SIZES[LISTENER])
    rows.adopt({(LISTENER, "", "old"): 0}, memory, 0)
    old = rows.row(LISTENER, "old")
    old[0] += 5
    rows.adopt({}, memory, 0)
    assert memory[0] == 5
    memory[0] = 0
    rows.adopt({(LISTENER, "", "new"): 0}, memory, 0)
    # By an exchange that has begun long ago.
    old[0] += 1
    rows.row(LISTENER, "new")[0] += 1
    rows.flush()
    assert memory[0] == 1


def test_a_route_that_has_no_place_any_more_harms_nobody_in_its_place() -> None:
    rows, memory = Rows(), memory_of(SIZES[ROUTE])
    rows.adopt({(ROUTE, "", "old"): 0}, memory, 0)
    rows.route("old")[0] += 5
    rows.adopt({}, memory, 0)
    rows.route("old")[0] += 1
    memory[0] = 0
    rows.adopt({(ROUTE, "", "new"): 0}, memory, 0)
    rows.route("old")[0] += 1
    rows.route("new")[0] += 1
    rows.flush()
    assert memory[0] == 1


def test_others_keep_their_rows_when_the_memory_is_another() -> None:
    rows, small, key = Rows(), memory_of(SIZES[LISTENER]), (LISTENER, "", "a")
    rows.adopt({key: 0}, small, 0)
    row = rows.row(LISTENER, "a")
    row[1] += 4
    large = memory_of(3 * SIZES[LISTENER])
    rows.adopt({key: 0, (LISTENER, "", "b"): SIZES[LISTENER]}, large, 0)
    assert rows.row(LISTENER, "a") is row
    assert (small[1], large[1]) == (4, 4)


def test_a_route_is_counted_in_the_memory_itself() -> None:
    rows, size = Rows(), SIZES[ROUTE]
    memory = memory_of(10 + 3 * size)
    rows.adopt({(ROUTE, "", "a"): 10}, memory, 1)
    rows.route("a")[2] += 7
    assert memory[10 + size + 2] == 7
    assert sum(memory) == 7
