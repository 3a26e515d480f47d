"""What a rate costs in a month, by part."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning.limits import warm_write_units, wire_bytes
from worker.planning.sizing import Demand, Fleet

# As AWS's own calculator has it.
HOURS: Final = 730
SECONDS: Final = HOURS * 3600
_GB: Final = 1e9
_BILLED_BYTES: Final = 65_536
_RECEIVED_BY_A_CALL: Final = 10
# DynamoDB adds 100 bytes to an item for its index: developer guide, "Storage".
_INDEX_BYTES: Final = 100
_PROVISIONED_USE: Final = 0.7


class Cost(NamedTuple):
    """One part of the bill.

    Attributes:
        amount: in the currency of the prices.
        why: how it comes about.
    """

    name: str
    amount: float
    why: str


def monthly(
    demand: Demand,
    fleet: Fleet,
    figures: Figures,
    *,
    architecture: str,
    spot: bool,
    network: str,
) -> list[Cost]:
    """Give the parts of a month's bill.

    Args:
        demand: what is asked for, at every hour of the month.
        fleet: the tasks for it.
        figures: prices, and what was measured.
        architecture: `x86_64` or `arm64`.
        spot: whether all tasks but one run on Fargate Spot.
        network: `endpoints`, `nat` or `public`.
    """
    return [
        _sqs(demand, figures),
        *_dynamodb(demand, figures),
        _fargate(fleet, figures, architecture, spot=spot),
        *_cloudwatch(fleet, figures),
        _network(demand, fleet, figures, network),
    ]


def tiered(amount: float, tiers: tuple[tuple[float, float], ...]) -> float:
    """Add up what an amount costs when its price falls with it.

    Args:
        amount: in units.
        tiers: up to how many units, and the price of one.
    """
    total = below = 0.0
    for upto, price in tiers:
        total += max(0.0, min(amount, upto) - below) * price
        below = upto
    return total


def sqs_requests_per_message(demand: Demand, figures: Figures) -> float:
    """Give the requests that SQS bills for a message: one for each 64 KiB of a call."""
    measured = figures.measured
    body = max(1, demand.record_bytes - measured.record_bytes_beside_body)
    billed = max(1.0, _RECEIVED_BY_A_CALL * body / _BILLED_BYTES)
    return measured.receives_per_message * math.ceil(billed) + measured.deletes_per_message


def _sqs(demand: Demand, figures: Figures) -> Cost:
    prices, each = figures.prices, sqs_requests_per_message(demand, figures)
    requests = demand.rate * SECONDS * each
    million = 1e6
    amount = tiered(
        requests,
        (
            (100e9, prices.sqs_million_requests / million),
            (200e9, prices.sqs_million_requests_above_100_billion / million),
            (math.inf, prices.sqs_million_requests_above_200_billion / million),
        ),
    )
    return Cost(
        "SQS requests",
        amount,
        f"{each:.2f} a message = {requests / 1e6:,.0f} million at {prices.sqs_million_requests:g}"
        + (", less beyond 100 billion" if requests > 100e9 else ""),  # noqa: PLR2004 - the tier
    )


def _dynamodb(demand: Demand, figures: Figures) -> list[Cost]:
    prices, millions = figures.prices, demand.rate * SECONDS / 1e6
    writes = millions * demand.write_units
    reads = millions * figures.measured.read_units_per_message
    gigabytes = millions * 1e6 * (demand.record_bytes + _INDEX_BYTES) / _GB
    stored = prices.dynamodb_storage_gb_month + prices.dynamodb_recovery_gb_month
    return [
        Cost(
            "DynamoDB writes",
            writes * prices.dynamodb_million_write_units,
            f"{writes:,.0f} million units at {prices.dynamodb_million_write_units:g}",
        ),
        Cost(
            "DynamoDB reads",
            reads * prices.dynamodb_million_read_units,
            f"{reads:,.3f} million units at {prices.dynamodb_million_read_units:g}: policies",
        ),
        Cost(
            "DynamoDB storage",
            gigabytes * stored,
            f"{gigabytes:,.0f} GB at {stored:g} with recovery; as much again each month",
        ),
    ]


def _fargate(fleet: Fleet, figures: Figures, architecture: str, *, spot: bool) -> Cost:
    prices = figures.prices.model_dump()
    vcpu = prices[f"fargate_{architecture}_vcpu_hour"]
    gigabyte = prices[f"fargate_{architecture}_gb_hour"]
    hour = fleet.task_vcpu * vcpu + fleet.task_memory_mib / 1024 * gigabyte
    dear = 1 + (fleet.tasks - 1) * figures.prices.fargate_spot_share if spot else fleet.tasks
    told = f"{fleet.tasks:,} x {HOURS} h x {hour:.5f}, {architecture}"
    if architecture != "x86_64":
        told += ", taken to be as fast as x86-64"
    if spot:
        told += f"; all but one on Spot at {figures.prices.fargate_spot_share:g}"
    return Cost("Fargate", dear * HOURS * hour, told)


def _cloudwatch(fleet: Fleet, figures: Figures) -> list[Cost]:
    prices, made, measured = figures.prices, figures.deployment, figures.measured
    summaries = fleet.tasks * SECONDS / made.summary_seconds
    gigabytes = summaries * measured.log_bytes_per_summary / _GB
    metrics = made.own_metrics + made.container_insights_metrics
    return [
        Cost(
            "CloudWatch logs",
            gigabytes * prices.cloudwatch_log_gb,
            f"{gigabytes:,.1f} GB: {measured.log_bytes_per_summary:,} bytes a task every "
            f"{made.summary_seconds} s",
        ),
        Cost(
            "CloudWatch metrics, alarms",
            metrics * prices.cloudwatch_metric_month
            + made.alarm_metrics * prices.cloudwatch_alarm_metric_month,
            f"{made.own_metrics} own and {made.container_insights_metrics} of Container Insights "
            f"at {prices.cloudwatch_metric_month:g}, {made.alarm_metrics} in alarms at "
            f"{prices.cloudwatch_alarm_metric_month:g}",
        ),
    ]


def _network(demand: Demand, fleet: Fleet, figures: Figures, network: str) -> Cost:
    prices, made = figures.prices, figures.deployment
    gigabytes = demand.rate * SECONDS * wire_bytes(demand, figures) / _GB
    if network == "public":
        return Cost(
            "Network: public addresses",
            fleet.tasks * HOURS * prices.public_ipv4_hour,
            f"{fleet.tasks:,} at {prices.public_ipv4_hour:g} an hour; a region's traffic is free",
        )
    if network == "nat":
        return Cost(
            "Network: NAT gateways",
            made.zones * HOURS * prices.nat_hour + gigabytes * prices.nat_gb,
            f"{made.zones} at {prices.nat_hour:g} an hour, {gigabytes:,.0f} GB of SQS at "
            f"{prices.nat_gb:g}; DynamoDB by its free endpoint",
        )
    moved = tiered(
        gigabytes,
        (
            (1e6, prices.endpoint_gb),
            (5e6, prices.endpoint_gb_above_1_pb),
            (math.inf, prices.endpoint_gb_above_5_pb),
        ),
    )
    return Cost(
        "Network: VPC endpoints",
        made.endpoints * made.zones * HOURS * prices.endpoint_zone_hour + moved,
        f"{made.endpoints} in {made.zones} zones at {prices.endpoint_zone_hour:g} an hour, "
        f"{gigabytes:,.0f} GB of SQS at {prices.endpoint_gb:g}",
    )


def warming(demand: Demand, figures: Figures) -> Cost:
    """Give what it costs once to warm a new table.

    Source: Amazon DynamoDB pricing, "Warm throughput".
    """
    wanted, has = warm_write_units(demand), figures.quotas.dynamodb_new_table_writes
    price = figures.prices.dynamodb_warm_write_unit
    more = max(0, wanted - has)
    why = f"{more:,} units beyond {has:,} at {price:g}"
    return Cost("once: warming the table", more * price, why)


def provisioned_writes(demand: Demand, figures: Figures) -> Cost:
    """Give what the writes would cost with provisioned capacity, for a rate that is steady."""
    units = demand.rate * demand.write_units / _PROVISIONED_USE
    price = figures.prices.dynamodb_provisioned_write_unit_hour
    return Cost(
        "DynamoDB writes, if provisioned",
        units * HOURS * price,
        f"{units:,.0f} units, {_PROVISIONED_USE:.0%} used, x {HOURS} h x {price:g}",
    )
