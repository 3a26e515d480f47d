"""The figures of the documents are those of the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.planning.test_variants import FIGURES, plan_of
from worker.planning.variants import MONTHS, Variant

ROOT = Path(__file__).parents[3]
RATES = {
    "10,000 per minute": 10_000 / 60,
    "10,000 per second": 10_000,
    "1,000,000 per second": 1_000_000,
}


def cells(variant: Variant) -> str:
    return " | ".join(f"${variant.total(month):,.0f}" for month in MONTHS)


def rows(document: str) -> list[str]:
    lines = (ROOT / document).read_text("utf-8").splitlines()
    return [line for line in lines if line.startswith("| ")]


@pytest.mark.parametrize("rate", RATES)
def test_tasks_and_cost_of_each_rate(rate: str) -> None:
    plan = plan_of(RATES[rate])
    [row] = [line for line in rows("infra/README.md") if line.startswith(f"| {rate} |")]
    vcpu = "¼" if plan.fleet.task_vcpu == 0.25 else "1"
    expected = f"| {rate} | {plan.fleet.tasks} with {vcpu} vCPU | {cells(plan.variants[0])} |"
    assert row.startswith(expected)


def test_every_variant_is_in_the_table_of_capacity() -> None:
    plan = plan_of(RATES["10,000 per minute"])
    table = rows("infra/README.md")
    for variant in plan.variants[1:]:
        mark = " *" if FIGURES.unconfirmed(variant.prices) else ""
        assert any(
            line.startswith(f"| {variant.name}{mark} | {cells(variant)} |") for line in table
        ), variant.name
    text = (ROOT / "infra/README.md").read_text("utf-8")
    assert f"by ${plan.growth:,.0f}. Tasks" in text.replace("\n", " ")


def test_readme_has_the_three_months() -> None:
    plan = plan_of(RATES["10,000 per minute"]).variants[0]
    first, twelfth, last = (f"${plan.total(month):,.0f} in month {month}" for month in MONTHS)
    bill = f"- AWS bills {first}, {twelfth}, {last} for [10,000 a minute]"
    assert bill in (ROOT / "README.md").read_text("utf-8")
