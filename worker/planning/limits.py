"""Default AWS quotas, compared with what a message rate needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from worker.aws.prices import Figures
from worker.planning.sizing import Demand, Fleet

_GBIT_BYTES: Final = 1e9 / 8
# MaximumPercent of infra/service.yaml: old and new tasks run at the same time.
_DEPLOYMENT: Final = 2
_DEPLOYING: Final = f"x {_DEPLOYMENT} in a deployment"


@dataclass(frozen=True, slots=True)
class Limit:
    """One quota and the need for it.

    Attributes:
        needed: Need at the maximum number of tasks, during a deployment.
        reached_at: Messages per second, bursts included, at which the quota is exhausted.
        figure: Name of the quota in `Quotas`; its source is in `Figures.sources`.
        request: How to request an increase, or why there is none.
        why: How `needed` is calculated.
    """

    name: str
    unit: str
    needed: float
    quota: float
    reached_at: float
    figure: str
    request: str
    why: str

    @property
    def to_raise(self) -> bool:
        """Whether a quota increase is required."""
        return self.needed > self.quota


def limits(
    demand: Demand, fleet: Fleet, figures: Figures, *, spot: bool, endpoints: bool
) -> list[Limit]:
    """Compare the maximum need with the default quotas.

    Args:
        demand: Demand to plan for.
        fleet: Tasks for the demand.
        figures: Quotas and measurements.
        spot: Whether the tasks run on Fargate Spot.
        endpoints: Whether calls go through VPC endpoints.

    Returns:
        The quotas, lowest message rate first.
    """
    found = [
        _table(demand, figures),
        *_tasks(fleet, figures, spot=spot),
        _in_flight(fleet, figures),
    ]
    if endpoints:
        found.append(_endpoint(demand, figures))
    return sorted(found, key=lambda limit: limit.reached_at)


def _request(service: str, code: str, needed: float) -> str:
    """Return the command that requests an increase of a quota."""
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} "
        f"--quota-code {code} --desired-value {math.ceil(needed)}"
    )


def _table(demand: Demand, figures: Figures) -> Limit:
    quota, units = figures.quotas.dynamodb_table_writes, demand.write_units
    needed = demand.warm_write_units
    return Limit(
        "DynamoDB: on-demand table writes", "write units/s", needed, quota, quota / units,
        "dynamodb_table_writes", _request("dynamodb", "L-AB614373", needed),
        f"{demand.rate:,.0f}/s x {demand.burst:g} x {units} units: {demand.record_bytes:,} bytes",
    )  # fmt: skip


def _tasks(fleet: Fleet, figures: Figures, *, spot: bool) -> list[Limit]:
    quotas, kind = figures.quotas, "Spot" if spot else "On-Demand"
    tasks, vcpu, planned = fleet.tasks_max, fleet.task_vcpu, fleet.planned_rate
    deployed = tasks * _DEPLOYMENT
    return [
        Limit(
            f"Fargate: {kind} vCPU", "vCPU", deployed * vcpu, quotas.fargate_vcpus,
            math.floor(quotas.fargate_vcpus / vcpu / _DEPLOYMENT) * planned, "fargate_vcpus",
            _request("fargate", "L-36FBB829" if spot else "L-3032A538", deployed * vcpu),
            f"at most {tasks:,} tasks x {vcpu:g} vCPU, {_DEPLOYING}; increases with use",
        ),
        Limit(
            "ECS: tasks per service", "tasks", tasks, quotas.ecs_tasks_per_service,
            quotas.ecs_tasks_per_service * planned, "ecs_tasks_per_service",
            "open a case with AWS Support", f"at most {tasks:,} tasks",
        ),
        Limit(
            "ECS: tasks launched per minute", "tasks", tasks - fleet.tasks,
            quotas.ecs_launches_per_minute,
            (quotas.ecs_launches_per_minute + fleet.tasks) * planned, "ecs_launches_per_minute",
            "not adjustable",
            f"{tasks - fleet.tasks:,} additional tasks; beyond the quota, scaling out takes longer",
        ),
        Limit(
            "VPC: network interfaces", "interfaces", deployed, quotas.network_interfaces,
            quotas.network_interfaces // _DEPLOYMENT * planned, "network_interfaces",
            _request("vpc", "L-DF5E4CA3", deployed),
            f"one per task, at most {tasks:,}, {_DEPLOYING}",
        ),
    ]  # fmt: skip


def _in_flight(fleet: Fleet, figures: Figures) -> Limit:
    quota = figures.quotas.sqs_in_flight
    return Limit(
        "SQS: messages in flight", "messages", fleet.tasks_max * _DEPLOYMENT * fleet.slots, quota,
        math.floor(quota / fleet.slots / _DEPLOYMENT) * fleet.planned_rate, "sqs_in_flight",
        "open a case with AWS Support",
        f"{fleet.tasks_max:,} tasks x {fleet.slots:,} slots with a backlog, {_DEPLOYING}; "
        f"{fleet.in_flight:,.0f} without (rate x {1000 * fleet.held_seconds:.0f} ms); beyond the "
        "quota, polls return nothing",
    )  # fmt: skip


def _endpoint(demand: Demand, figures: Figures) -> Limit:
    quotas, zones = figures.quotas, figures.deployment.zones
    per_message = network_bytes(demand, figures) / _GBIT_BYTES / zones
    return Limit(
        "PrivateLink: SQS endpoint, per zone", "Gbit/s", demand.rate * demand.burst * per_message,
        quotas.endpoint_gbit_per_zone, quotas.endpoint_gbit_per_zone / per_message,
        "endpoint_gbit_per_zone", "open a case with AWS Support",
        f"{network_bytes(demand, figures):,} bytes per message across {zones} zones; 10 at first, "
        "scales automatically",
    )  # fmt: skip


def network_bytes(demand: Demand, figures: Figures) -> int:
    """Return the bytes transferred between SQS and the worker per message."""
    return demand.record_bytes + figures.measured.sqs_overhead_bytes
