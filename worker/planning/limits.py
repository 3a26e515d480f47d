"""Which default quota a rate meets, and where the first limit lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from worker.aws.prices import Figures
from worker.planning.sizing import Demand, Fleet

_GBIT_BYTES: Final = 1e9 / 8


@dataclass(frozen=True, slots=True)
class Limit:
    """One quota beside what is needed.

    Attributes:
        needed: when the service has grown to its most.
        reached_at: messages a second, bursts included, at which the quota is used up.
        source: where AWS says so.
        why: how `needed` comes about.
    """

    name: str
    unit: str
    needed: float
    quota: float
    reached_at: float
    source: str
    why: str

    @property
    def to_raise(self) -> bool:
        """Say whether more must be asked for."""
        return self.needed > self.quota


def limits(
    demand: Demand, fleet: Fleet, figures: Figures, *, spot: bool, endpoints: bool
) -> list[Limit]:
    """Compare the most that is needed with the default quotas.

    Args:
        demand: what is asked for.
        fleet: the tasks for it.
        figures: the quotas, and what was measured.
        spot: whether the tasks run on Fargate Spot.
        endpoints: whether calls go through VPC endpoints.

    Returns:
        The quotas, the one that is met first coming first.
    """
    found = [
        _table(demand, figures),
        *_tasks(fleet, figures, spot=spot),
        _in_flight(fleet, figures),
    ]
    if endpoints:
        found.append(_endpoint(demand, figures))
    return sorted(found, key=lambda limit: limit.reached_at)


def _table(demand: Demand, figures: Figures) -> Limit:
    quota, units = figures.quotas.dynamodb_table_writes, demand.write_units
    return Limit(
        "DynamoDB: writes to a table on demand", "write units/s",
        warm_write_units(demand), quota, quota / units,
        'Amazon DynamoDB developer guide, "Quotas", per table',
        f"{demand.rate:,.0f}/s x {demand.burst:g} x {units} units: {demand.record_bytes:,} bytes",
    )  # fmt: skip


def warm_write_units(demand: Demand) -> int:
    """Give the write units a second that the table must take at once.

    Source: Amazon DynamoDB developer guide, "Warm throughput": a burst beyond it, or beyond twice
    the former peak, may be throttled for up to 30 minutes.
    """
    return math.ceil(demand.rate * demand.burst * demand.write_units - 1e-9)


def _tasks(fleet: Fleet, figures: Figures, *, spot: bool) -> list[Limit]:
    quotas, kind = figures.quotas, "Spot" if spot else "On-Demand"
    grown, vcpu, planned = fleet.tasks_max, fleet.task_vcpu, fleet.planned_rate
    return [
        Limit(
            f"Fargate: {kind} vCPU", "vCPU", grown * vcpu, quotas.fargate_vcpus,
            math.floor(quotas.fargate_vcpus / vcpu) * planned,
            f'AWS Fargate quotas, "Fargate {kind} vCPU resource count"; grows with use',
            f"{grown:,} tasks at most x {vcpu:g} vCPU",
        ),
        Limit(
            "ECS: tasks of a service", "tasks", grown, quotas.ecs_tasks_per_service,
            quotas.ecs_tasks_per_service * planned,
            'Amazon ECS quotas, "Tasks per service"', f"{grown:,} tasks at most",
        ),
        Limit(
            "ECS: tasks launched a minute", "tasks", grown - fleet.tasks,
            quotas.ecs_launches_per_minute,
            (quotas.ecs_launches_per_minute + fleet.tasks) * planned,
            'Amazon ECS quotas, "Rate of tasks launched by a service on AWS Fargate"',
            f"{grown - fleet.tasks:,} tasks more than usual; beyond it, growing takes longer",
        ),
        Limit(
            "VPC: network interfaces", "interfaces", grown, quotas.network_interfaces,
            quotas.network_interfaces * planned,
            'Amazon VPC quotas, "Network interfaces per Region"', f"one a task, {grown:,} at most",
        ),
    ]  # fmt: skip


def _in_flight(fleet: Fleet, figures: Figures) -> Limit:
    quota = figures.quotas.sqs_in_flight
    return Limit(
        "SQS: messages in flight", "messages", fleet.tasks_max * fleet.slots, quota,
        math.floor(quota / fleet.slots) * fleet.planned_rate,
        'Amazon SQS developer guide, "Standard queue quotas"; beyond it long polls come back empty',
        f"{fleet.tasks_max:,} tasks x AUP_SLOTS={fleet.slots:,} in a backlog; "
        f"{fleet.in_flight:,.0f} without one (rate x {1000 * fleet.held_seconds:.0f} ms)",
    )  # fmt: skip


def _endpoint(demand: Demand, figures: Figures) -> Limit:
    quotas, zones = figures.quotas, figures.deployment.zones
    each = wire_bytes(demand, figures) / _GBIT_BYTES / zones
    return Limit(
        "PrivateLink: SQS endpoint, each zone", "Gbit/s", demand.rate * demand.burst * each,
        quotas.endpoint_gbit_per_zone, quotas.endpoint_gbit_per_zone / each,
        "AWS PrivateLink quotas; 10 at first, and it grows by itself",
        f"{wire_bytes(demand, figures):,} bytes a message over {zones} zones",
    )  # fmt: skip


def wire_bytes(demand: Demand, figures: Figures) -> int:
    """Give the bytes that a message moves between SQS and the worker."""
    return demand.record_bytes + figures.measured.sqs_bytes_beside_record
