"""Capacity plan: requirements, limits and costs, each with its calculation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning import cost
from worker.planning.cost import Cost
from worker.planning.limits import Limit, limits
from worker.planning.sizing import (
    ACCEPTABLE_WAIT_SECONDS,
    IN_COOLDOWN_SECONDS,
    OUT_COOLDOWN_SECONDS,
    Demand,
    Fleet,
    size,
)

_WORTHWHILE_SAVING: Final = 100.0


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
        costs: Items of a monthly bill.
        once: One-time cost.
        provisioned: Monthly cost of the writes with provisioned capacity.
    """

    demand: Demand
    fleet: Fleet
    figures: Figures
    limits: list[Limit]
    costs: list[Cost]
    once: Cost
    provisioned: Cost

    @property
    def total(self) -> float:
        """Monthly cost."""
        return sum(each.amount for each in self.costs)

    @property
    def per_million(self) -> float:
        """Cost per million messages."""
        return self.total / (self.demand.rate * cost.SECONDS / 1e6)


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
        costs=cost.monthly(
            demand, fleet, figures, architecture=architecture, spot=spot, network=network
        ),
        once=cost.warming(demand, figures),
        provisioned=cost.provisioned_writes(demand, figures),
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
        "limits": [{**asdict(each), "to_raise": each.to_raise} for each in plan.limits],
        "first_limit": {"name": first.name, "messages_per_second": first.reached_at},
        "month": {
            "currency": plan.figures.prices.currency,
            "total": plan.total,
            "per_million_messages": plan.per_million,
            "parts": [each._asdict() for each in plan.costs],
        },
        "once": plan.once._asdict(),
        "provisioned": plan.provisioned._asdict(),
        "prices": plan.figures.prices.model_dump(),
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
            f"{figure(fleet.cpu_us)} µs per message, `make bench` on {measured.measured_on}, "
            "x86-64",
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


def remarks(plan: Plan) -> list[str]:
    """Return notes on limits and prices, one sentence each."""
    demand, quotas = plan.demand, plan.figures.quotas
    per_user = quotas.dynamodb_partition_writes // demand.write_units
    unwarmed = quotas.dynamodb_new_table_writes // demand.write_units
    lines = [
        _first_limit(plan),
        (
            f"limit per user: {per_user:,} records/s, not adjustable; the partition key is the "
            "user, so load spreads evenly"
        ),
        (
            "SQS standard queues have no request quota; a new table sustains "
            f"{unwarmed:,} messages/s until its warm throughput is increased"
        ),
    ]
    writes = next(each.amount for each in plan.costs if each.name == "DynamoDB writes")
    if writes - plan.provisioned.amount > _WORTHWHILE_SAVING:
        lines.append(
            f"for a constant rate, provisioned writes are cheaper: "
            f"{money(plan.provisioned.amount)} instead of {money(writes)} ({plan.provisioned.why})"
        )
    lines.append(
        f"list prices of {plan.figures.prices.date}, without free tier; not included: producers' "
        "requests, KMS, taxes, support"
    )
    return lines


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


def figure(number: float) -> str:
    """Return a number with three significant digits, or as an integer."""
    if number >= 100 or number == int(number):  # noqa: PLR2004 - three digits
        return f"{number:,.0f}"
    return f"{number:.3g}"


def money(amount: float) -> str:
    """Return an amount of money, with cents below 1,000."""
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"  # noqa: PLR2004 - see above
