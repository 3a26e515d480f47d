"""Tests that the template's defaults are the simulated policy."""

from __future__ import annotations

import re
from pathlib import Path

from tests.scaling.variants import TEMPLATE_RATE, case_for
from worker.aws.prices import shipped
from worker.planning.plan import make_plan, parameters

INFRA = Path(__file__).parents[2] / "infra"


def defaults(template: str) -> dict[str, str]:
    text = (INFRA / template).read_text()
    section = text.partition("\nParameters:\n")[2].partition("\nResources:\n")[0]
    found = re.findall(
        r"^  (\w+):\n(?:    (?!Default:).*\n)*?    Default: \"?([^\"\n]*)\"?$",
        section,
        re.MULTILINE,
    )
    return dict(found)


def test_defaults_are_those_of_the_policy_for_tasks_of_one_vcpu() -> None:
    plan = make_plan(
        case_for(TEMPLATE_RATE).demand,
        shipped(),
        architecture="arm64",
        network="endpoints",
        spot=False,
    )
    for template, chosen in parameters(plan).items():
        given = defaults(template)
        assert chosen.keys() <= given.keys(), template
        # The warm throughput depends on the rate; by default it is not set.
        wanted = {name: str(value) for name, value in chosen.items() if name != "WarmWriteUnits"}
        assert {name: given[name] for name in wanted} == wanted, template


def test_template_has_the_parameters_of_a_plan_and_both_policies() -> None:
    text = (INFRA / "scaling.yaml").read_text()
    assert "ECSServiceAverageCPUUtilization" in text
    assert text.count("PolicyType: TargetTrackingScaling") == 2
    assert defaults("data.yaml")["WarmWriteUnits"] == "0"
