"""A whole plan: what is needed, how far it goes, what it costs, and how each number comes about."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning import cost
from worker.planning.cost import Cost
from worker.planning.limits import Limit, limits, warm_write_units
from worker.planning.sizing import (
    ACCEPTABLE_WAIT_SECONDS,
    IN_COOLDOWN_SECONDS,
    OUT_COOLDOWN_SECONDS,
    Demand,
    Fleet,
    size,
)

_WORTH_TELLING: Final = 100.0


class Row(NamedTuple):
    """Something that is needed."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is told.

    Attributes:
        limits: the one that is met first coming first.
        costs: parts of a month's bill.
        once: what is paid once.
        provisioned: what the writes would cost with provisioned capacity.
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
        """A month's bill."""
        return sum(each.amount for each in self.costs)

    @property
    def per_million(self) -> float:
        """What a million messages cost."""
        return self.total / (self.demand.rate * cost.SECONDS / 1e6)


def make(
    demand: Demand,
    figures: Figures,
    *,
    architecture: str,
    network: str,
    spot: bool,
) -> Plan:
    """Plan for a demand.

    Args:
        demand: what is asked for.
        figures: what is reckoned with.
        architecture: `x86_64` or `arm64`.
        network: `endpoints`, `nat` or `public`.
        spot: whether all tasks but one run on Fargate Spot.
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
    """Give everything, for JSON."""
    first = plan.limits[0]
    return {
        "demand": {**asdict(plan.demand), "write_units": plan.demand.write_units},
        "fleet": asdict(plan.fleet),
        "warm_write_units": warm_write_units(plan.demand),
        "parameters": parameters(plan),
        "needs": [each._asdict() for each in needs(plan)],
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
    """Give what the templates in `infra/` are told."""
    warm = warm_write_units(plan.demand)
    beyond = warm > plan.figures.quotas.dynamodb_new_table_writes
    return {
        "data.yaml": {"WarmWriteUnits": warm if beyond else 0},
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


def needs(plan: Plan) -> list[Row]:
    """Give what the service, the table and the templates need."""
    return [*_tasks(plan), *_services(plan), *_templates(plan)]


def _tasks(plan: Plan) -> list[Row]:
    demand, fleet, measured = plan.demand, plan.fleet, plan.figures.measured
    rates = f"each takes {figure(fleet.task_rate)}/s, planned {figure(fleet.planned_rate)}/s"
    return [
        Row(
            "messages/s",
            f"{figure(demand.rate)}, growing to {figure(demand.rate * demand.burst)}",
            f"--burst {demand.burst:g}: what it must catch up with after a stop, at least",
        ),
        Row(
            "CPU",
            f"{figure(fleet.cores)} vCPU busy",
            f"{figure(fleet.cpu_us)} µs a message, `make bench` of {measured.measured_on}, x86-64",
        ),
        Row(
            "tasks",
            f"{fleet.tasks:,} of {fleet.task_vcpu:g} vCPU and {fleet.task_memory_mib:,} MiB",
            f"{rates} at {demand.utilisation:.0%}; one process uses one vCPU",
        ),
        Row(
            "memory",
            f"{fleet.process_mb:.0f} MB a task at most",
            f"{measured.rss_mb:g} MB measured and AUP_HELD_MIB; the rest is Fargate's least size",
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
            f"{units} write units/s, warm for {warm_write_units(demand):,}",
            f"{demand.write_units} for {demand.record_bytes:,} bytes, x {demand.burst:g}; a new "
            f"table takes {table:,} at once",
        ),
        Row(
            "in flight",
            f"{figure(fleet.in_flight)} messages, {fleet.tasks * fleet.slots:,} in a backlog",
            f"rate x {1000 * fleet.held_seconds:.0f} ms (Little's law); tasks x AUP_SLOTS",
        ),
        Row(
            "settings",
            settings or "the defaults",
            f"Little's law at {demand.sqs_ms:g} ms of SQS, {demand.dynamodb_ms:g} of DynamoDB, "
            "four times over, for batches are not always full",
        ),
    ]


def _templates(plan: Plan) -> list[Row]:
    why = {
        "data.yaml": "0 leaves a new table as it is; more is paid once, and never shrinks",
        "service.yaml": "the smallest that carries the rate alone, or one vCPU",
        "scaling.yaml": f"at most tasks x {plan.demand.burst:g}, or 10; {ACCEPTABLE_WAIT_SECONDS} "
        "s of a task's planned rate; cooldowns by tests/scaling/RESULTS.md",
    }
    return [
        Row(
            f"infra/{name}",
            " ".join(f"{key}={value}" for key, value in values.items()),
            why[name],
        )
        for name, values in parameters(plan).items()
    ]


def remarks(plan: Plan) -> list[str]:
    """Say in sentences where it ends, and what else is to be known."""
    demand, quotas = plan.demand, plan.figures.quotas
    alone = quotas.dynamodb_partition_writes // demand.write_units
    unwarmed = quotas.dynamodb_new_table_writes // demand.write_units
    lines = [
        _first_limit(plan),
        (
            f"one user: {alone:,} records/s, which no quota raises; the key is the user, so that "
            "users spread evenly"
        ),
        (
            "SQS has no quota on requests of standard queues; a new table takes "
            f"{unwarmed:,} messages/s until it is warmed"
        ),
    ]
    writes = next(each.amount for each in plan.costs if each.name == "DynamoDB writes")
    if writes - plan.provisioned.amount > _WORTH_TELLING:
        lines.append(
            f"a steady rate is cheaper with provisioned writes: {money(plan.provisioned.amount)} "
            f"for {money(writes)} ({plan.provisioned.why})"
        )
    prices = plan.figures.prices
    return [
        *lines,
        (
            f"list prices of {prices.date}, no free tier; not in it: what producers send, KMS, "
            "taxes, support"
        ),
    ]


def _first_limit(plan: Plan) -> str:
    first, rate = plan.limits[0], plan.demand.rate
    if first.reached_at < rate:
        met = "which this rate passes"
    elif first.to_raise:
        met = "which this rate does not pass, but the most tasks do"
    else:
        met = "beyond this rate and its bursts"
    return (
        f"the first limit: {first.name}, {first.quota:,.0f} by default, used up at "
        f"{figure(first.reached_at)} messages/s, {met}"
    )


def figure(number: float) -> str:
    """Write a number with three digits that count, or whole."""
    if number >= 100 or number == int(number):  # noqa: PLR2004 - three digits
        return f"{number:,.0f}"
    return f"{number:.3g}"


def money(amount: float) -> str:
    """Write an amount with cents, as long as they count."""
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"  # noqa: PLR2004 - as it says
