from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from fastgw.counters import BUCKETS, HISTOGRAM
from fastgw.runtime.exposition import BOUNDS, COUNTER, GAUGE, INFO, Family, exposed, labels
from fastgw.runtime.exposition import HISTOGRAM as HISTOGRAM_KIND


def families() -> list[Family]:
    requests = Family("x_requests", COUNTER, "Ended.")
    requests.add(3, route='say "a\\b"\nagain', status="2xx")
    requests.add(0, route="b", status="5xx")
    level = Family("x_level", GAUGE, "A level.")
    level.add(1.5)
    build = Family("x_build", INFO, "What runs.")
    build.add(1, version="0.1")
    took = Family("x_took_seconds", HISTOGRAM_KIND, "Of all.", "seconds")
    cells = [0] * HISTOGRAM
    cells[0], cells[3], cells[BUCKETS - 1], cells[BUCKETS] = 2, 1, 4, 5_000_001
    took.add_histogram(cells, labels({"route": "a"}))
    took.add_histogram([0] * HISTOGRAM, labels({"route": "silent"}))
    return [requests, level, build, took, Family("x_nothing", GAUGE, "Has no samples.")]


@pytest.mark.parametrize(
    ("read", "openmetrics"), [(read_prometheus, False), (read_openmetrics, True)], ids=["prometheus", "openmetrics"]
)
def test_the_reference_s_parser_reads_the_same(read: Any, openmetrics: bool) -> None:
    found = {family.name: family for family in read(exposed(families(), openmetrics).decode())}
    samples = {
        (sample.name, *sample.labels.values()): sample.value for family in found.values() for sample in family.samples
    }
    assert samples["x_requests_total", 'say "a\\b"\nagain', "2xx"] == 3
    assert samples["x_requests_total", "b", "5xx"] == 0
    assert samples["x_level",] == 1.5
    assert samples["x_build_info", "0.1"] == 1
    buckets = {float(key[2]): value for key, value in samples.items() if key[0] == "x_took_seconds_bucket"}
    assert list(buckets) == [*BOUNDS, math.inf]
    assert (buckets[BOUNDS[0]], buckets[BOUNDS[2]], buckets[BOUNDS[3]], buckets[BOUNDS[-1]]) == (2, 2, 3, 3)
    assert (buckets[math.inf], samples["x_took_seconds_count", "a"], samples["x_took_seconds_sum", "a"]) == (
        7,
        7,
        5.000001,
    )
    assert not any("silent" in key for key in samples)
    assert "x_nothing" not in found
    kinds = {name: family.type for name, family in found.items()}
    assert (kinds["x_requests"], kinds["x_level"], kinds["x_took_seconds"]) == ("counter", "gauge", "histogram")


def test_bounds_are_where_the_cells_end() -> None:
    assert BOUNDS[0] == 16e-6
    assert BOUNDS[-1] == pytest.approx(67.108864)
    assert len(BOUNDS) == BUCKETS - 1
