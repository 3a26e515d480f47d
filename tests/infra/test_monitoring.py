"""The Prometheus rules and the Grafana dashboard: metrics, alerts and their sections."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from tests.documents import Document
from tests.golden.golden import EXPECTED
from tests.infra.check_monitoring import DASHBOARD, RULES, TESTS, dashboard_queries
from tests.infra.stacks import INFRA, resources
from worker.domain.outcome import OutcomeKind

ROOT: Final = INFRA.parent
RUNBOOK: Final = Document("infra/runbook.md")
GRID_WIDTH: Final = 24
# Prometheus itself records whether a scrape succeeded.
OF_PROMETHEUS: Final = {"up"}
_PROCESSES: Final = (ROOT / "worker" / "observability" / "prometheus.py").read_text()


def _rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((ROOT / RULES).read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _cases() -> Iterator[dict[str, Any]]:
    for test in yaml.safe_load((ROOT / TESTS).read_text())["tests"]:
        yield from test["alert_rule_test"]


def _known() -> set[str]:
    """Return the names of all metrics that a worker exports."""
    golden = (EXPECTED / "prometheus" / "metrics.txt").read_text()
    names = set(
        re.findall(r"^(\w+)", re.sub(r"^#.*$", "", golden, flags=re.MULTILINE), re.MULTILINE)
    )
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        names |= {sample.name for sample in family.samples}
    of_processes = re.findall(r"(Gauge|Counter)MetricFamily, \"(aup_process_\w+)\"", _PROCESSES)
    return names | {f"{name}_total" if kind == "Counter" else name for kind, name in of_processes}


def _used(query: str) -> set[str]:
    return set(re.findall(r"\b(?:aup|process|messaging|up)(?:_\w+)?(?=[{\[) ]|$)", query))


def test_every_metric_of_a_rule_and_of_the_dashboard_is_exported() -> None:
    used = set().union(*map(_used, [rule["expr"] for rule in _rules()]))
    shown = set().union(*map(_used, dashboard_queries()))
    assert len(used) >= 8
    assert len(shown) >= 15
    assert used | shown <= _known() | OF_PROMETHEUS


def test_every_outcome_and_every_kind_of_metric_is_on_the_dashboard() -> None:
    shown = set().union(*map(_used, dashboard_queries()))
    exported = {each for each in _known() if each.startswith("aup_")}
    assert exported - shown == {
        # Also shown by outcome or per process, by the metrics next to them.
        "aup_messages_abandoned_total", "aup_in_flight_bytes", "aup_process_ready",
        "aup_process_messages_held", "aup_process_event_loop_lag_seconds",
    }  # fmt: skip
    assert len(OutcomeKind) == 4, "one panel stacks the outcomes"


@pytest.mark.parametrize("rule", _rules(), ids=[rule["alert"] for rule in _rules()])
def test_alert_leads_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    anchor = rule["alert"].lower()
    assert rule["annotations"]["runbook"] == f"infra/runbook.md#{anchor}"
    assert anchor in RUNBOOK.anchors
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"warning", "critical"}


def test_alerts_have_the_names_of_the_alarms_on_aws() -> None:
    assert {rule["alert"] for rule in _rules()} <= resources(
        "alarms", "AWS::CloudWatch::Alarm"
    ).keys()


@pytest.mark.parametrize("alert", [rule["alert"] for rule in _rules()])
def test_every_alert_is_tested_to_fire_and_not_to_fire(alert: str) -> None:
    fires = {bool(each.get("exp_alerts")) for each in _cases() if each["alertname"] == alert}
    assert fires == {True, False}


def test_panels_of_the_dashboard_fill_rows_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    for panel in panels:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["description"].endswith("."), panel["title"]
    height = max(y for _, y in taken) + 1
    assert len(taken) == GRID_WIDTH * height
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_dashboard_names_only_existing_alerts_and_no_data_source_of_one_grafana() -> None:
    text = DASHBOARD.read_text()
    named = set(re.findall(r"Runbook: (\w+)\.", text))
    assert named == {rule["alert"] for rule in _rules()} - {"NoTasks"}
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"aup-worker", "${datasource}"}
