"""Other ways to pay for the work, compared with manual calculations, and their properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.aws.prices import Figures, Prices, shipped
from worker.planning.cost import Cost, Terms, monthly
from worker.planning.plan import Plan, make_plan, remarks
from worker.planning.sizing import Demand, size
from worker.planning.variants import MONTHS, Variant, variants

FIGURES = shipped()
RATES = st.floats(1e-3, 1e6)


def demand(rate: float, **changes: Any) -> Demand:
    usual = {"record_bytes": 801, "utilisation": 0.6, "burst": 2, "sqs_ms": 8, "dynamodb_ms": 5}
    return Demand(rate=rate, **{**usual, **changes})


def plan_of(rate: float, figures: Figures = FIGURES, **options: Any) -> Plan:
    usual = {"architecture": "arm64", "network": "endpoints", "spot": False}
    return make_plan(demand(rate), figures, **{**usual, **options})


def variant(plan: Plan, name: str) -> Variant:
    return next(each for each in plan.variants if each.name.startswith(name))


class TestTenThousandAMinute:
    """438 million messages a month; 743.75 in month 1, and 367.535 GB more in each month."""

    PLAN = plan_of(10_000 / 60)

    @pytest.mark.parametrize(
        ("name", "first", "twelfth", "last"),
        [
            # Each month adds 367.535 x (0.25 + 0.20) = 165.39.
            ("this plan", 743.75, 743.75 + 11 * 165.391, 743.75 + 35 * 165.391),
            # 438 x (0.78 - 0.625) = 67.89 more, 367.535 x 0.15 = 55.13 less for each month.
            (
                "table class Standard-IA",
                743.75 + 67.89 - 55.13,
                743.75 + 67.89 + 11 * 165.391 - 12 * 55.130,
                743.75 + 67.89 + 35 * 165.391 - 36 * 55.130,
            ),
            # 18 % of 273.75.
            (
                "Database Savings Plan",
                743.75 - 49.28,
                743.75 - 49.28 + 11 * 165.391,
                743.75 - 49.28 + 35 * 165.391,
            ),
            # 20 % of 7.21.
            (
                "Compute Savings Plan",
                743.75 - 1.44,
                743.75 - 1.44 + 11 * 165.391,
                743.75 - 1.44 + 35 * 165.391,
            ),
            # 166.667 / 0.7 x 730 h x 0.00065 = 112.98 instead of 273.75.
            (
                "provisioned",
                743.75 - 160.77,
                743.75 - 160.77 + 11 * 165.391,
                743.75 - 160.77 + 35 * 165.391,
            ),
            # Twelve months are kept; from the thirteenth on, as many records are deleted.
            (
                "expiry",
                743.75,
                743.75 + 11 * 165.391,
                743.75 + 11 * 165.391 + 273.75,
            ),
            # 367.535 x 0.10 each month, and 367.535 x 0.004 for each month.
            (
                "S3 export",
                743.75 + 36.75 + 1.47,
                743.75 + 11 * 165.391 + 36.75 + 12 * 1.470,
                743.75 + 11 * 165.391 + 273.75 + 36.75 + 36 * 1.470,
            ),
        ],
    )
    def test_each_month_costs_what_it_takes(
        self, name: str, first: float, twelfth: float, last: float
    ) -> None:
        found = [variant(self.PLAN, name).total(month) for month in (1, 12, 36)]
        assert found == pytest.approx([first, twelfth, last], abs=0.03)

    def test_all_savings_combined(self) -> None:
        parts = {each.name: each.amount for each in variant(self.PLAN, "all").bill(36)}
        assert parts == pytest.approx(
            {
                "SQS requests": 219.42,
                # Twice 166.667 / 0.7 units: half of them delete.
                "DynamoDB writes": 2 * 238.095 * 730 * 0.00081 * 0.88,
                "DynamoDB reads": 438 * 7.5e-5 * 0.125 * 0.82,
                "DynamoDB storage": 12 * 367.535 * 0.30,
                "Export to S3": 367.535 * 0.10 + 36 * 367.535 * 0.004,
                "Fargate": 7.20875 * 0.8,
                "CloudWatch logs": 0.0653,
                "CloudWatch metrics, alarms": 12.9,
                "Network: VPC endpoints": 65.012,
            },
            abs=0.005,
        )

    def test_standard_ia_breaks_even_at_453_gb(self) -> None:
        # 67.89 / 0.15 = 452.6 GB, stored in month 2.
        infrequent = variant(self.PLAN, "table class")
        assert "from 453 GB on, in month 2" in infrequent.why
        plan = self.PLAN.variants[0]
        assert infrequent.total(1) > plan.total(1)
        assert infrequent.total(2) < plan.total(2)
        assert any(infrequent.why in each for each in remarks(self.PLAN))

    def test_what_was_not_confirmed_is_marked(self) -> None:
        assert self.PLAN.unconfirmed == [
            "compute_savings_plan_fargate",
            "database_savings_plan_on_demand",
            "database_savings_plan_provisioned",
            "dynamodb_export_gb",
            "lambda_new_account_concurrency",
        ]
        marked = {each.name for each in self.PLAN.variants if FIGURES.unconfirmed(each.prices)}
        assert marked == {
            "Database Savings Plan, 1 year",
            "Compute Savings Plan, 1 year",
            "S3 export, expiry in 12 months",
            "all savings combined",
        }
        assert "fargate_spot_share" in plan_of(10_000, spot=True).unconfirmed
        assert "dynamodb_warm_write_unit" in plan_of(10_000).unconfirmed

    def test_a_table_class_that_saves_nothing_is_said_to(self) -> None:
        prices = FIGURES.prices.model_copy(update={"dynamodb_infrequent_storage_gb_month": 0.25})
        plan = plan_of(100, FIGURES.model_copy(update={"prices": prices}))
        assert "does not cost less within 10 years" in variant(plan, "table class").why


class TestProperties:
    @settings(max_examples=60, deadline=None)
    @given(RATES, st.floats(1, 100), st.sampled_from(MONTHS), st.integers(1, 100_000))
    def test_no_variant_costs_less_at_a_higher_rate(
        self, rate: float, factor: float, month: int, record_bytes: int
    ) -> None:
        lower, higher = (
            _variants(demand(each, record_bytes=record_bytes)) for each in (rate, rate * factor)
        )
        for less, more in zip(lower, higher, strict=True):
            assert less.total(month) <= more.total(month) * (1 + 1e-9), less.name

    @settings(max_examples=60, deadline=None)
    @given(RATES, st.integers(1, 60))
    def test_no_variant_costs_less_in_a_later_month(self, rate: float, month: int) -> None:
        for each in _variants(demand(rate)):
            assert each.total(month) <= each.total(month + 1) * (1 + 1e-9), each.name

    @settings(max_examples=60, deadline=None)
    @given(RATES, st.integers(1, 300_000), st.integers(0, 100_000), st.sampled_from(MONTHS))
    def test_no_variant_costs_less_with_larger_records(
        self, rate: float, record_bytes: int, more_bytes: int, month: int
    ) -> None:
        smaller, larger = (
            _variants(demand(rate, record_bytes=each))
            for each in (record_bytes, record_bytes + more_bytes)
        )
        for less, more in zip(smaller, larger, strict=True):
            if not less.name.startswith("Lambda"):  # larger payloads make smaller batches
                assert less.total(month) <= more.total(month) * (1 + 1e-9), less.name

    @settings(max_examples=60, deadline=None)
    @given(RATES, st.sampled_from(MONTHS))
    def test_a_commitment_or_an_expiry_never_costs_more(self, rate: float, month: int) -> None:
        plan, _, database, compute, *_ = _variants(demand(rate))
        assert database.total(month) <= plan.total(month)
        assert compute.total(month) <= plan.total(month)

    @settings(max_examples=60, deadline=None)
    @given(RATES)
    def test_the_break_even_is_the_first_cheaper_month(self, rate: float) -> None:
        plan, infrequent, *_ = _variants(demand(rate))
        month = infrequent.cheaper_from(plan)
        assert month is not None
        assert infrequent.total(month) < plan.total(month)
        assert all(infrequent.total(each) >= plan.total(each) for each in range(1, month))


def _variants(needed: Demand) -> list[Variant]:
    return variants(needed, size(needed, FIGURES.measured), FIGURES, Terms())


def test_each_item_names_exactly_the_prices_that_it_depends_on() -> None:
    names = set(Prices.model_fields) - {"region", "date", "currency", "dynamodb_warm_write_unit"}
    choices: tuple[dict[str, Any], ...] = (
        {},
        {"spot": True, "architecture": "x86_64", "network": "nat"},
        {"network": "public"},
    )
    plans = [(rate, options) for rate in (100.0, 1e6, 1e7) for options in choices]
    seen: set[str] = set()
    for rate, options in plans:
        usual = _bills(plan_of(rate, **options))
        declared = [set(each.prices) for each in usual]
        actual: list[set[str]] = [set() for _ in usual]
        for name in names:
            price = getattr(FIGURES.prices, name) * 0.9
            prices = FIGURES.prices.model_copy(update={name: price})
            changed = _bills(
                plan_of(rate, FIGURES.model_copy(update={"prices": prices}), **options)
            )
            for index, (before, after) in enumerate(zip(usual, changed, strict=True)):
                if before.amount != after.amount:
                    actual[index].add(name)
        assert declared == actual
        seen |= set().union(*actual)
    assert seen == names


def _bills(plan: Plan) -> list[Cost]:
    return [part for each in plan.variants for part in each.bill(36)]


def test_expiry_limits_what_the_table_stores() -> None:
    needed = demand(100)
    fleet, terms = size(needed, FIGURES.measured), Terms(table_months=3)
    storage = [monthly(needed, fleet, FIGURES, terms, each)[3].amount for each in (1, 3, 4, 40)]
    assert storage[1:] == pytest.approx([3 * storage[0]] * 3)
