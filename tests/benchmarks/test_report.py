"""The tables, the JSON and the picture."""

import json
from xml.etree import ElementTree

from benchmarks import picture, report
from benchmarks.profiling import top
from benchmarks.results import (
    CAPACITY,
    CONNECTIONS_OF_64,
    CONNECTIONS_OF_1000,
    CPU_US,
    CPU_US_OF_ONE,
    CPU_US_OF_TWO,
    MEMORY_BYTES,
    OTHERS_SHARE,
    P50_US,
    REQUESTS_NEW,
    Sample,
    summarize,
)

SAMPLES = [
    Sample("json-bare", "fastgw", 1, {CPU_US: 27.04, P50_US: 1500.0, OTHERS_SHARE: 0.0}),
    Sample("json-bare", "nginx", 1, {CPU_US: 30.0, P50_US: 1700.0, OTHERS_SHARE: 0.4}),
    Sample("idle-memory", "fastgw", 1, {MEMORY_BYTES: 9000.0}),
    Sample("idle-memory", "nginx", 1, {MEMORY_BYTES: 600.0}, ("10 idle connections were closed",)),
]


def test_the_plain_table_is_aligned() -> None:
    first, dashes, *rows = report.plain(summarize(SAMPLES)).split("\n\n")[0].splitlines()
    assert first.split()[:2] == ["workload", "peer"]
    assert all(len(row) <= len(dashes) for row in rows)
    assert {row.index(figure) + len(figure) for row, figure in zip(rows, ("27.0", "30.0"), strict=True)} == {
        first.index("CPU µs/request") + len("CPU µs/request")
    }


def test_an_invalid_row_is_marked_and_its_reason_told() -> None:
    text = report.plain(summarize(SAMPLES))
    assert "nginx (INVALID)" in text
    assert "INVALID idle-memory nginx: round 1: 10 idle connections were closed" in text


def test_figures_taken_beside_strangers_are_distrusted() -> None:
    notes = report.plain(summarize(SAMPLES)).splitlines()[-1]
    assert "json-bare nginx" in notes
    assert "json-bare fastgw" not in notes


def test_markdown_rows_have_as_many_cells_as_their_heading() -> None:
    for table in report.markdown(summarize(SAMPLES)).split("\n\n")[:2]:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_two_workers_and_balance_have_tables_of_their_own() -> None:
    samples = [
        *SAMPLES,
        Sample("two-workers", "fastgw", 1, {CPU_US_OF_ONE: 23.04, CPU_US_OF_TWO: 24.0, CAPACITY: 1.92}),
        Sample("two-workers", "fastgw", 2, {CPU_US_OF_ONE: 23.04, CPU_US_OF_TWO: 23.04, CAPACITY: 2.0}),
        Sample("balance", "fastgw", 1, {CONNECTIONS_OF_64: 1.06, CONNECTIONS_OF_1000: 1.01, REQUESTS_NEW: 1.02}),
    ]
    load, idle, scaling, balance = report.markdown(summarize(samples)).split("\n\n")[:4]
    assert "requests/s" in load
    assert "MiB without them" in idle
    assert scaling.splitlines()[-1] == "| two-workers | fastgw | 23.0 | 23.5 | 1.96 (1.92-2.00) | - |"
    assert balance.splitlines()[-1] == "| balance | fastgw | 1.06 | 1.01 | 1.02 |"


def test_json_holds_every_round() -> None:
    machine = {"cpu": "one"}
    text = report.as_json(machine, {"rounds": 1}, SAMPLES, summarize(SAMPLES), {"haproxy": "not installed"})
    found = json.loads(text)
    assert len(found["rounds"]) == len(SAMPLES)
    assert found["skipped"] == {"haproxy": "not installed"}
    assert found["summaries"][0]["ratio"] == 27.04 / 30.0


def test_the_picture_is_well_formed_and_draws_valid_rows_only() -> None:
    bad = Sample("broken", "fastgw", 1, {CPU_US: 1.0}, ("3 read errors",))
    root = ElementTree.fromstring(picture.svg(summarize([*SAMPLES, bad]), 'A <machine> & "more"'))
    bars = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert bars == ["json-bare, fastgw", "json-bare, nginx"]


def test_a_picture_of_nothing_is_still_well_formed() -> None:
    assert ElementTree.fromstring(picture.svg([], "nothing")).tag.endswith("svg")


def test_a_very_long_bar_is_cut_and_says_so() -> None:
    samples = [Sample("json", "nginx", 1, {CPU_US: 10.0}), Sample("json", "haproxy", 1, {CPU_US: 90.0})]
    text = picture.svg(summarize(samples), "")
    assert "9.00 »" in text
    widths = [float(bar.get("width", "0")) for bar in ElementTree.fromstring(text).iter() if bar.get("x") == "150"]
    assert max(widths) < picture.WIDTH


def test_a_profile_counts_where_samples_ended_and_what_they_passed_through() -> None:
    stacks = ["run (a.py:1);parse (b.py:10) 30", "run (a.py:2);parse (b.py:12) 30", "run (a.py:3) 40"]
    text = top("\n".join([*stacks, "run (c.py:1);Condition.wait (threading.py:3) 99"]))
    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows == [["60.0%", "60.0%", "parse", "(b.py)"], ["40.0%", "100.0%", "run", "(a.py)"]]
