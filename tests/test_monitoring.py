"""The alerting rules and the dashboard in fastgw/deploy: Prometheus takes them, and what they ask for is there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml

from fastgw.counters import COLUMN_SIZE
from fastgw.runtime.events import Events
from fastgw.runtime.exposition import COUNTER, HISTOGRAM, INFO
from fastgw.runtime.metrics import Collector, WorkerFacts
from fastgw.runtime.row_layout import LayoutKeeper, keys_of
from fastgw.runtime.traces import TraceKeeper
from tests.fakes import snapshot_of
from tests.support.programs import program

DEPLOY = Path(__file__).parents[1] / "fastgw" / "deploy"
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ALERTS = DEPLOY / "alerts.yml"
_NAME = re.compile(r"\bfastgw_[a-z_]+")
_SUFFIXES = {COUNTER: ("_total",), INFO: ("_info",), HISTOGRAM: ("_bucket", "_sum", "_count")}


def exposed_names() -> set[str]:
    snapshot = snapshot_of(
        '[admin]\naddress = "127.0.0.1:1"\n[upstreams.a]\nendpoints = ["h:1"]\n[[routes]]\nupstream = "a"\n'
    )
    layout = LayoutKeeper(1)
    layout.adopt(keys_of(snapshot), 0.0)
    traces = cast(TraceKeeper, SimpleNamespace(exported=0, lost=0))
    families = Collector(layout.counted(), Events(), traces).families([WorkerFacts(0, 1, [0] * COLUMN_SIZE)], {}, ())
    return {family.name + suffix for family in families for suffix in _SUFFIXES.get(family.kind, ("",))}


def dashboard_queries() -> Iterator[str]:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [program("promtool", "prometheus"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_they_ask_for_is_there() -> None:
    names = exposed_names()
    asked = {name for rule in rules() for name in _NAME.findall(rule["expr"])}
    asked |= {name for query in dashboard_queries() for name in _NAME.findall(query)}
    assert len(asked) > 20
    assert asked - names == set()


def test_the_readme_names_each_metric_and_no_others() -> None:
    section = README[README.index("### Metrics") : README.index("## Signals and exit statuses")]
    told = {
        f"fastgw_{name}"
        for cell in re.findall(r"^\| (`.*?`) \|", section, re.M)
        for name in re.findall(r"`(\w+)`", cell)
    }
    # A histogram is told by its name, and has three kinds of lines.
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed_names()}
    assert told == bare


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS), cwd=DEPLOY)


def test_prometheus_can_read_the_dashboard_s_queries(tmp_path: Path) -> None:
    """As rules, with what Grafana puts in the place of its variables."""
    queries = [query for query in dashboard_queries() if "label_values" not in query and query != "prometheus"]
    for name, value in (("$__rate_interval", "1m"), ("$__range", "1h"), ("$job", ".*"), ("$route", ".*")):
        queries = [query.replace(name, value) for query in queries]
    found = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": found}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text())
    series = {
        'fastgw_requests_total{job="g",route="bad",status="2xx"}': "0+60x30",
        'fastgw_requests_total{job="g",route="bad",status="5xx"}': "0+60x30",
        'fastgw_requests_total{job="g",route="well",status="2xx"}': "0+600x30",
        'fastgw_requests_total{job="g",route="well",status="5xx"}': "0+1x30",
        'fastgw_endpoint_healthy{upstream="a",endpoint="h:1"}': "1x10 0x20",
        'fastgw_endpoint_healthy{upstream="a",endpoint="h:2"}': "1x30",
        'fastgw_certificate_expiry_timestamp_seconds{listener="in",file="a.pem"}': "500000x30",
        'fastgw_certificate_expiry_timestamp_seconds{listener="in",file="b.pem"}': "5000000x30",
        'fastgw_events_total{instance="i",kind="reload",outcome="refused"}': "0x15 1x15",
        'fastgw_worker_lost_traces_total{job="g",instance="i",worker="0"}': "0x15 7x15",
        'fastgw_traces_lost_total{job="g",instance="well"}': "0x30",
    }

    def expected(name: str, at: str, *labels: dict[str, str]) -> dict[str, Any]:
        return {"eval_time": at, "alertname": name, "exp_alerts": [{"exp_labels": one} for one in labels]}

    fails = {"severity": "critical", "job": "g", "route": "bad"}
    ill = {"severity": "warning", "upstream": "a", "endpoint": "h:1"}
    ends = {"severity": "critical", "listener": "in", "file": "a.pem"}
    refused = {"severity": "warning", "instance": "i", "kind": "reload", "outcome": "refused"}
    untraced = {"severity": "warning", "job": "g", "instance": "i"}
    checks = [
        expected("FastgwTracesLost", "14m"),
        expected("FastgwTracesLost", "18m", untraced),
        expected("FastgwRequestsFail", "3m"),
        expected("FastgwRequestsFail", "20m", fails),
        expected("FastgwEndpointUnhealthy", "11m"),
        expected("FastgwEndpointUnhealthy", "14m", ill),
        expected("FastgwCertificateExpires", "1m", ends),
        expected("FastgwReloadRefused", "14m"),
        expected("FastgwReloadRefused", "18m", refused),
        expected("FastgwNoEndpoint", "20m"),
    ]
    # What they say is not compared, but that it can be said is.
    summaries = {rule["alert"]: rule["annotations"]["summary"] for rule in rules()}
    assert all(summary for summary in summaries.values())
    stripped = yaml.safe_load(ALERTS.read_text())
    for rule in stripped["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(stripped))
    test = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": checks,
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in promtool("test", "rules", "test.yml", cwd=tmp_path)
