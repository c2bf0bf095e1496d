from __future__ import annotations

import pytest

from fastgw.config.load import load_text
from fastgw.config.trace_settings import TraceExport
from fastgw.policy.trace_context import TracingSettings
from tests.config.test_load import problems

ROUTE = '[[listeners]]\naddress = "127.0.0.1:0"\n[[routes]]\nrespond = {}\n'


def test_what_is_not_written_has_its_default() -> None:
    assert load_text(ROUTE).tracing is None
    assert load_text(ROUTE).snapshot.tracing is None
    plain = load_text("[tracing]\n" + ROUTE)
    assert plain.tracing == TraceExport("http://127.0.0.1:4318", "fastgw")
    assert plain.snapshot.tracing == TracingSettings()
    [route] = plain.snapshot.routes
    assert (route.is_traced, route.trace_sample) == (True, None)


def test_what_is_written_goes_where_it_is_needed() -> None:
    text = """
        [tracing]
        endpoint = "https://collector.test:4318/otlp"
        sample = "12.5%"
        parents = "all"
        propagation = ["b3multi", "w3c"]
        service_name = "edge"
        headers = { api-key = "${KEY}" }
        attributes = { "deployment.environment.name" = "test" }
    """
    loaded = load_text(text + ROUTE + "tracing = false\n", environment={"KEY": "hunter2"})
    assert loaded.tracing == TraceExport(
        "https://collector.test:4318/otlp",
        "edge",
        (("api-key", "hunter2"),),
        (("deployment.environment.name", "test"),),
    )
    assert "hunter2" not in repr(loaded.tracing)
    # Workers need not know where traces go.
    assert b"hunter2" not in repr(loaded.snapshot).encode()
    assert loaded.snapshot.tracing == TracingSettings(0.125, ("b3multi", "w3c"), "all")
    assert not loaded.snapshot.routes[0].is_traced


def test_a_route_s_share_is_its_own() -> None:
    loaded = load_text("[tracing]\n" + ROUTE + 'tracing = { sample = "0%" }\n')
    assert (loaded.snapshot.routes[0].is_traced, loaded.snapshot.routes[0].trace_sample) == (True, 0.0)


@pytest.mark.parametrize(
    "url", ["ftp://a:1", "http://", "http://a:0", "http://a:99999", "http://u:p@a:1", "http://a?b", "http://a#b", "a:1"]
)
def test_what_is_no_url_of_a_collector_is_refused(url: str) -> None:
    [found] = problems(f'[tracing]\nendpoint = "{url}"\n')
    assert "is no URL of an OTLP receiver" in found
