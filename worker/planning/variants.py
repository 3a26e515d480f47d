"""Other ways to run and to pay for the same work, and what they cost in each month."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning.cost import (
    HOURS,
    PROVISIONED_UTILISATION,
    Cost,
    Terms,
    monthly,
    stored_gb,
)
from worker.planning.formats import figure
from worker.planning.functions import BATCHINGS, Batching, function_load, function_monthly
from worker.planning.sizing import Demand, Fleet

# The first month, the end of the first year, and of the third.
MONTHS: Final = (1, 12, 36)
TABLE_MONTHS: Final = 12
INFREQUENT: Final = "table class Standard-IA"
LAMBDA: Final = "Lambda"
_YEARS: Final = 10
_MONTHS_COMPARED: Final = 12 * _YEARS


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run and to pay for the work.

    Attributes:
        why: What it changes, what it assumes and what it requires.
        bill: Returns the items of the bill of a month.
    """

    name: str
    why: str
    bill: Callable[[int], list[Cost]]

    def total(self, month: int) -> float:
        """Return the cost of a month."""
        return sum(each.amount for each in self.bill(month))

    @property
    def prices(self) -> set[str]:
        """Names of the prices that the bills of `MONTHS` depend on."""
        return {name for month in MONTHS for each in self.bill(month) for name in each.prices}

    def cheaper_from(self, other: Variant) -> int | None:
        """Return the first month that costs less than with another variant, within ten years."""
        return next(
            (
                month
                for month in range(1, _MONTHS_COMPARED + 1)
                if self.total(month) < other.total(month)
            ),
            None,
        )


def variants(demand: Demand, fleet: Fleet, figures: Figures, terms: Terms) -> list[Variant]:
    """Return the plan itself, then one variant for each change of its terms, then Lambda."""

    def changed(name: str, why: str, **changes: Any) -> Variant:
        other = replace(terms, **changes)
        return Variant(name, why, lambda month: monthly(demand, fleet, figures, other, month))

    plan = changed("this plan", "on demand, table class Standard, nothing is deleted")
    infrequent = changed(INFREQUENT, "", infrequent_access=True)
    return [
        plan,
        replace(infrequent, why=_break_even(demand, figures, plan, infrequent)),
        *(changed(each.name, each.why, **each.terms) for each in _changes(figures)),
        *_functions(demand, figures, terms),
    ]


class _Change(NamedTuple):
    """Change of the terms.

    Attributes:
        why: Explanation.
        terms: Fields of the terms that differ.
    """

    name: str
    why: str
    terms: dict[str, Any]


def _changes(figures: Figures) -> list[_Change]:
    return [
        _Change(
            "Database Savings Plan, 1 year",
            f"saves {figures.prices.database_savings_plan_on_demand:.0%} of reads and writes, "
            "nothing of storage; nothing upfront",
            {"database_plan": True},
        ),
        _Change(
            "Compute Savings Plan, 1 year",
            f"saves {figures.prices.compute_savings_plan_fargate:.0%} of Fargate on demand; "
            "nothing upfront; applies to Lambda, too",
            {"compute_plan": True},
        ),
        _Change("provisioned, auto scaling", _provisioned(figures), {"provisioned": True}),
        _Change(
            f"expiry in {TABLE_MONTHS} months",
            "one more write unit to delete a record: the worker writes no TTL attribute and has no "
            "permission to delete; only if no law or dispute requires the evidence for longer",
            {"table_months": TABLE_MONTHS},
        ),
        _Change(
            f"S3 export, expiry in {TABLE_MONTHS} months",
            "incremental exports (they need point-in-time recovery) keep all evidence in S3; "
            "`accepted` reads the table only",
            {"table_months": TABLE_MONTHS, "exported": True},
        ),
        _Change(
            "all savings combined",
            "Standard-IA, provisioned capacity, both Savings Plans, and export to S3",
            {
                "infrequent_access": True, "provisioned": True, "database_plan": True,
                "compute_plan": True, "table_months": TABLE_MONTHS, "exported": True,
            },
        ),
    ]  # fmt: skip


def _functions(demand: Demand, figures: Figures, terms: Terms) -> list[Variant]:
    quotas, found = figures.quotas, []
    for batching in BATCHINGS:
        load = function_load(demand, figures, batching)
        why = (
            f"{figure(load.messages)} messages per invocation of {load.milliseconds:,} ms, "
            f"{figure(load.concurrency)} at the same time (quota {quotas.lambda_concurrency:,}; "
            f"a new account may have {quotas.lambda_new_account_concurrency:,} *); no VPC; "
            "assumptions: [function] in worker/aws/prices.toml"
        )

        def bill(month: int, batching: Batching = batching) -> list[Cost]:
            return function_monthly(demand, figures, terms, batching, month)

        found.append(Variant(f"{LAMBDA}, {batching}", why, bill))
    return found


def _break_even(demand: Demand, figures: Figures, plan: Variant, infrequent: Variant) -> str:
    month = infrequent.cheaper_from(plan)
    prices = figures.prices
    saved = prices.dynamodb_storage_gb_month - prices.dynamodb_infrequent_storage_gb_month
    difference = infrequent.total(1) - plan.total(1) + stored_gb(demand) * saved
    why = f"{saved:g} less per GB and dearer writes"
    if month is None:
        return f"{why}: does not cost less within {_YEARS} years"
    return (
        f"{why}: costs less from {max(0.0, difference / saved):,.0f} GB on, in month {month}; a "
        "table can change its class, twice in 30 days"
    )


def _provisioned(figures: Figures) -> str:
    prices = figures.prices
    hour_on_demand = 3600 / 1e6 * prices.dynamodb_million_write_units
    share = prices.dynamodb_provisioned_write_unit_hour / hour_on_demand
    return (
        f"for a steady rate: at {PROVISIONED_UTILISATION:.0%} of the capacity, cheaper than on "
        f"demand above {share:.0%} on average of all {HOURS} h; auto scaling follows within "
        "minutes, and the worker holds what is throttled meanwhile"
    )
