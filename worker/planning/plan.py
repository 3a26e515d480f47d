"""Capacity plan: requirements, limits and costs, each with its calculation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning.cost import SECONDS, Cost, Terms, stored_gb, warming
from worker.planning.formats import figure, money
from worker.planning.limits import Limit, limits
from worker.planning.sizing import (
    ACCEPTABLE_WAIT_SECONDS,
    IN_COOLDOWN_SECONDS,
    OUT_COOLDOWN_SECONDS,
    Demand,
    Fleet,
    size,
)
from worker.planning.variants import INFREQUENT, LAMBDA, MONTHS, Variant, variants

# Shows the quota that a new account most often has less of than the documented default.
_SHOW_QUOTA: Final = (
    "aws service-quotas get-service-quota --service-code fargate --quota-code L-3032A538"
)


class Row(NamedTuple):
    """One requirement: a name, a value and how the value is calculated."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete plan.

    Attributes:
        limits: Quotas, lowest message rate first.
        variants: The plan itself, then other ways to run and to pay for it.
        once: One-time cost.
    """

    demand: Demand
    fleet: Fleet
    figures: Figures
    limits: list[Limit]
    variants: list[Variant]
    once: Cost

    @property
    def costs(self) -> list[Cost]:
        """Items of the bill of the first month."""
        return self.variants[0].bill(1)

    @property
    def total(self) -> float:
        """Cost of the first month."""
        return self.variants[0].total(1)

    @property
    def growth(self) -> float:
        """What each further month costs more than the one before."""
        return self.variants[0].total(2) - self.total

    @property
    def per_million(self) -> float:
        """Cost per million messages in the first month."""
        return self.total / (self.demand.rate * SECONDS / 1e6)

    @property
    def unconfirmed(self) -> list[str]:
        """Names of the prices and quotas in the plan that no AWS document confirmed."""
        used = {name for each in self.variants for name in each.prices} | {*self.once.prices}
        quotas = {each.figure for each in self.limits} | {"lambda_new_account_concurrency"}
        return self.figures.unconfirmed(used | quotas)


def make_plan(
    demand: Demand,
    figures: Figures,
    *,
    architecture: str,
    network: str,
    spot: bool,
) -> Plan:
    """Return the plan for a demand.

    Args:
        demand: Demand to plan for.
        figures: Prices, quotas and measurements.
        architecture: `x86_64` or `arm64`.
        network: `endpoints`, `nat` or `public`.
        spot: Whether all tasks but one run on Fargate Spot.
    """
    fleet = size(demand, figures.measured)
    return Plan(
        demand=demand,
        fleet=fleet,
        figures=figures,
        limits=limits(demand, fleet, figures, spot=spot, endpoints=network == "endpoints"),
        variants=variants(
            demand, fleet, figures, Terms(architecture=architecture, network=network, spot=spot)
        ),
        once=warming(demand, figures),
    )


def report(plan: Plan) -> dict[str, Any]:
    """Return the JSON report."""
    first = plan.limits[0]
    return {
        "demand": {**asdict(plan.demand), "write_units": plan.demand.write_units},
        "fleet": asdict(plan.fleet),
        "warm_write_units": plan.demand.warm_write_units,
        "parameters": parameters(plan),
        "needs": [each._asdict() for each in requirements(plan)],
        "limits": [_limit_report(plan, each) for each in plan.limits],
        "first_limit": {"name": first.name, "messages_per_second": first.reached_at},
        "month": {
            "currency": plan.figures.prices.currency,
            "total": plan.total,
            "per_million_messages": plan.per_million,
            "parts": [each._asdict() for each in plan.costs],
        },
        "growth_per_month": plan.growth,
        "variants": [_variant_report(plan, each) for each in plan.variants],
        "once": plan.once._asdict(),
        "unconfirmed": plan.unconfirmed,
        "prices": plan.figures.prices.model_dump(),
        "quotas": plan.figures.quotas.model_dump(),
        "function": plan.figures.function.model_dump(),
        "sources": [each.model_dump() for each in plan.figures.sources],
    }


def _limit_report(plan: Plan, limit: Limit) -> dict[str, Any]:
    source = plan.figures.source(limit.figure)
    return {**asdict(limit), "to_raise": limit.to_raise, "source": source.title}


def _variant_report(plan: Plan, variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "why": variant.why,
        "unconfirmed": plan.figures.unconfirmed(variant.prices),
        "months": [{"month": month, "total": variant.total(month)} for month in MONTHS],
        "parts_of_first_month": [each._asdict() for each in variant.bill(1)],
    }


def parameters(plan: Plan) -> dict[str, dict[str, int]]:
    """Return the parameters of the templates in `infra/`."""
    warm = plan.demand.warm_write_units
    exceeds = warm > plan.figures.quotas.dynamodb_new_table_writes
    return {
        "data.yaml": {"WarmWriteUnits": warm if exceeds else 0},
        "service.yaml": {
            "CpuUnits": int(1024 * plan.fleet.task_vcpu),
            "MemoryMiB": plan.fleet.task_memory_mib,
        },
        "scaling.yaml": {
            "MinTasks": 1,
            "MaxTasks": plan.fleet.tasks_max,
            "BacklogPerTask": plan.fleet.backlog_per_task,
            "CpuPercent": round(100 * plan.demand.utilisation),
            "ScaleOutCooldownSeconds": OUT_COOLDOWN_SECONDS,
            "ScaleInCooldownSeconds": IN_COOLDOWN_SECONDS,
        },
    }


def requirements(plan: Plan) -> list[Row]:
    """Return the requirements of the service, the table and the templates."""
    return [*_tasks(plan), *_services(plan), *_templates(plan)]


def _tasks(plan: Plan) -> list[Row]:
    demand, fleet, measured = plan.demand, plan.fleet, plan.figures.measured
    rates = f"maximum {figure(fleet.task_rate)}/s each, planned {figure(fleet.planned_rate)}/s"
    return [
        Row(
            "messages/s",
            f"{figure(demand.rate)}, peak {figure(demand.rate * demand.burst)}",
            f"--burst {demand.burst:g}: required at least to catch up after a stop",
        ),
        Row(
            "CPU",
            f"{figure(fleet.cores)} vCPU busy",
            f"{figure(fleet.cpu_us)} µs per message: {measured.slow_core_factor:g} times that of "
            f"`make bench` on {measured.measured_on}, for slower cores",
        ),
        Row(
            "tasks",
            f"{fleet.tasks:,} of {fleet.task_vcpu:g} vCPU and {fleet.task_memory_mib:,} MiB",
            f"{rates} at {demand.utilisation:.0%}; one process per vCPU",
        ),
        Row(
            "memory",
            f"{fleet.process_mb:.0f} MB per task at most",
            f"{measured.rss_mb:g} MB measured x {fleet.processes} plus AUP_HELD_MIB; Fargate's "
            "minimum size is larger",
        ),
    ]


def _services(plan: Plan) -> list[Row]:
    demand, fleet = plan.demand, plan.fleet
    settings = " ".join(f"{name}={number}" for name, number in fleet.settings.items())
    units = figure(demand.rate * demand.write_units)
    table = plan.figures.quotas.dynamodb_new_table_writes
    return [
        Row(
            "DynamoDB",
            f"{units} write units/s, warm throughput {demand.warm_write_units:,}",
            f"{demand.write_units} for {demand.record_bytes:,} bytes, x {demand.burst:g}; a new "
            f"table sustains {table:,} immediately",
        ),
        Row(
            "in flight",
            f"{figure(fleet.in_flight)} messages, {fleet.tasks * fleet.slots:,} with a backlog",
            f"rate x {1000 * fleet.held_seconds:.0f} ms (Little's law); processes x AUP_SLOTS",
        ),
        Row(
            "settings",
            settings or "defaults",
            f"Little's law at {demand.sqs_ms:g} ms for SQS, {demand.dynamodb_ms:g} for DynamoDB, "
            "times four because batches are not always full",
        ),
    ]


def _templates(plan: Plan) -> list[Row]:
    explanations = {
        "data.yaml": "0 keeps the default; more has a one-time cost and cannot be reduced",
        "service.yaml": "the smallest size that sustains the rate with one task, or one vCPU",
        "scaling.yaml": f"maximum tasks x {plan.demand.burst:g}, at least 10; backlog of "
        f"{ACCEPTABLE_WAIT_SECONDS} s at the planned rate; cooldowns: tests/scaling/RESULTS.md",
    }
    return [
        Row(
            f"infra/{name}",
            " ".join(f"{key}={value}" for key, value in values.items()),
            explanations[name],
        )
        for name, values in parameters(plan).items()
    ]


def decision(plan: Plan) -> list[str]:
    """Return the cost and the tasks of the plan, in one line each."""
    prices, fleet = plan.figures.prices, plan.fleet
    costs = [f"{plan.variants[0].total(month):,.0f} in month {month}" for month in MONTHS]
    noun = "task" if fleet.tasks == 1 else "tasks"
    return [
        f"{figure(plan.demand.rate)} messages/s, {prices.currency}: {', '.join(costs)}",
        (
            f"{prices.region}, {fleet.tasks:,} {noun} of {fleet.task_vcpu:g} vCPU and "
            f"{fleet.task_memory_mib:,} MiB, at most {fleet.tasks_max:,}"
        ),
    ]


def remarks(plan: Plan) -> list[str]:
    """Return notes on growth, quotas and prices, one sentence each."""
    infrequent = next(each for each in plan.variants if each.name == INFREQUENT)
    lines = [
        (
            f"each month adds {money(plan.growth)}: {figure(stored_gb(plan.demand))} GB of records "
            "and their point-in-time recovery; nothing deletes records"
        ),
        f"{INFREQUENT}: {infrequent.why}",
        _function(plan),
        _first_limit(plan),
        (
            f"list prices of {plan.figures.prices.date}, without free tier; not included: "
            "producers' requests, fair queues, KMS, taxes, support"
        ),
    ]
    if plan.unconfirmed:
        lines.append(f"* AWS does not confirm {', '.join(plan.unconfirmed)}")
    return lines


def requests(plan: Plan) -> list[tuple[str, str]]:
    """Return a sentence and a command, or what to do instead, for the quotas of a new account."""
    exceeded = [each for each in plan.limits if each.to_raise]
    found = [
        (
            f"{each.name}: {figure(math.ceil(each.needed))} needed, {each.quota:,} by default",
            each.request,
        )
        for each in exceeded
    ]
    if not exceeded:
        found.append(("no default quota is exceeded; a new account may have less", _SHOW_QUOTA))
    return found


def functions(plan: Plan) -> list[Variant]:
    """Return the variants that run in a Lambda function."""
    return [each for each in plan.variants if each.name.startswith(LAMBDA)]


def _function(plan: Plan) -> str:
    """Compare the plan with the cheapest Lambda function."""
    best = min(functions(plan), key=lambda each: each.total(1))
    difference = best.total(1) - plan.total
    comparison = "more" if difference > 0 else "less"
    return (
        f"{best.name}: {money(abs(difference))} {comparison} in every month, without VPC and with "
        "the worker's CPU per message"
    )


def limit_remarks(plan: Plan) -> list[str]:
    """Return notes on limits that are no quotas, one sentence each."""
    demand, quotas = plan.demand, plan.figures.quotas
    per_user = quotas.dynamodb_partition_writes // demand.write_units
    unwarmed = quotas.dynamodb_new_table_writes // demand.write_units
    return [
        (
            f"limit per user: {per_user:,} records/s, not adjustable; the partition key is the "
            "user, so load spreads evenly"
        ),
        (
            "SQS standard queues have no request quota; a new table sustains "
            f"{unwarmed:,} messages/s until its warm throughput is increased"
        ),
    ]


def _first_limit(plan: Plan) -> str:
    first, rate = plan.limits[0], plan.demand.rate
    if first.reached_at < rate:
        comparison = "below this rate"
    elif first.to_raise:
        comparison = "above this rate, but exceeded by the maximum number of tasks"
    else:
        comparison = "above this rate and its bursts"
    return (
        f"first limit: {first.name}, default {first.quota:,.0f}, reached at "
        f"{figure(first.reached_at)} messages/s, {comparison}"
    )
