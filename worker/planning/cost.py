"""Monthly cost of a message rate, by service."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning.limits import network_bytes
from worker.planning.sizing import Demand, Fleet, body_bytes

# As in the AWS Pricing Calculator.
HOURS: Final = 730
SECONDS: Final = HOURS * 3600
_GB: Final = 1e9
_BILLED_BYTES: Final = 65_536
_MESSAGES_PER_RECEIVE: Final = 10
# DynamoDB adds 100 bytes to an item for its index: developer guide, "Storage".
_INDEX_BYTES: Final = 100
_PROVISIONED_UTILISATION: Final = 0.7


class Cost(NamedTuple):
    """One item of the bill.

    Attributes:
        amount: In the currency of the prices.
        why: How the amount is calculated.
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
    """Return the items of a monthly bill.

    Args:
        demand: Constant demand throughout the month.
        fleet: Tasks for the demand.
        figures: Prices and measurements.
        architecture: `x86_64` or `arm64`.
        spot: Whether all tasks but one run on Fargate Spot.
        network: `endpoints`, `nat` or `public`.
    """
    return [
        _sqs(demand, figures),
        *_dynamodb(demand, figures),
        _fargate(fleet, figures, architecture, spot=spot),
        *_cloudwatch(fleet, figures),
        _network(demand, fleet, figures, network),
    ]


def _tiered(amount: float, tiers: tuple[tuple[float, float], ...]) -> float:
    """Return the price of an amount with tiered pricing.

    Args:
        amount: Number of units.
        tiers: Upper bound and unit price of each tier, in ascending order.
    """
    total = below = 0.0
    for bound, price in tiers:
        total += max(0.0, min(amount, bound) - below) * price
        below = bound
    return total


def sqs_requests_per_message(demand: Demand, figures: Figures) -> float:
    """Return the billed SQS requests per message: one for each 64 KiB of a call."""
    measured = figures.measured
    received_bytes = _MESSAGES_PER_RECEIVE * body_bytes(demand.record_bytes, measured)
    billed = math.ceil(received_bytes / _BILLED_BYTES)
    return measured.receives_per_message * billed + measured.deletes_per_message


def _sqs(demand: Demand, figures: Figures) -> Cost:
    prices, per_message = figures.prices, sqs_requests_per_message(demand, figures)
    requests = demand.rate * SECONDS * per_message
    tiers = (
        (100e9, prices.sqs_million_requests / 1e6),
        (200e9, prices.sqs_million_requests_above_100_billion / 1e6),
        (math.inf, prices.sqs_million_requests_above_200_billion / 1e6),
    )
    why = (
        f"{per_message:.2f} per message = {requests / 1e6:,.0f} million at "
        f"{prices.sqs_million_requests:g}"
    )
    if requests > tiers[0][0]:
        why += ", less above 100 billion"
    return Cost("SQS requests", _tiered(requests, tiers), why)


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
            f"{gigabytes:,.0f} GB at {stored:g} with point-in-time recovery; grows each month",
        ),
    ]


def _fargate(fleet: Fleet, figures: Figures, architecture: str, *, spot: bool) -> Cost:
    prices = figures.prices.model_dump()
    vcpu = prices[f"fargate_{architecture}_vcpu_hour"]
    gigabyte = prices[f"fargate_{architecture}_gb_hour"]
    hour = fleet.task_vcpu * vcpu + fleet.task_memory_mib / 1024 * gigabyte
    billed_tasks = (
        1 + (fleet.tasks - 1) * figures.prices.fargate_spot_share if spot else fleet.tasks
    )
    why = f"{fleet.tasks:,} x {HOURS} h x {hour:.5f}, {architecture}"
    if architecture != "x86_64":
        why += ", assumed to be as fast as x86-64"
    if spot:
        why += f"; all but one on Spot at {figures.prices.fargate_spot_share:g}"
    return Cost("Fargate", billed_tasks * HOURS * hour, why)


def _cloudwatch(fleet: Fleet, figures: Figures) -> list[Cost]:
    prices, deployment, measured = figures.prices, figures.deployment, figures.measured
    summaries = fleet.tasks * SECONDS / deployment.summary_seconds
    gigabytes = summaries * measured.log_bytes_per_summary / _GB
    metrics = deployment.own_metrics + deployment.container_insights_metrics
    return [
        Cost(
            "CloudWatch logs",
            gigabytes * prices.cloudwatch_log_gb,
            f"{gigabytes:,.1f} GB: {measured.log_bytes_per_summary:,} bytes per task every "
            f"{deployment.summary_seconds} s",
        ),
        Cost(
            "CloudWatch metrics, alarms",
            metrics * prices.cloudwatch_metric_month
            + deployment.alarm_metrics * prices.cloudwatch_alarm_metric_month,
            f"{deployment.own_metrics} custom and {deployment.container_insights_metrics} "
            f"Container Insights at {prices.cloudwatch_metric_month:g}, "
            f"{deployment.alarm_metrics} in alarms at {prices.cloudwatch_alarm_metric_month:g}",
        ),
    ]


def _network(demand: Demand, fleet: Fleet, figures: Figures, network: str) -> Cost:
    prices, deployment = figures.prices, figures.deployment
    gigabytes = demand.rate * SECONDS * network_bytes(demand, figures) / _GB
    if network == "public":
        return Cost(
            "Network: public addresses",
            fleet.tasks * HOURS * prices.public_ipv4_hour,
            f"{fleet.tasks:,} at {prices.public_ipv4_hour:g} per hour; regional traffic is free",
        )
    if network == "nat":
        return Cost(
            "Network: NAT gateways",
            deployment.zones * HOURS * prices.nat_hour + gigabytes * prices.nat_gb,
            f"{deployment.zones} at {prices.nat_hour:g} per hour, {gigabytes:,.0f} GB of SQS "
            f"traffic at {prices.nat_gb:g}; DynamoDB through its free gateway endpoint",
        )
    tiers = (
        (1e6, prices.endpoint_gb),
        (5e6, prices.endpoint_gb_above_1_pb),
        (math.inf, prices.endpoint_gb_above_5_pb),
    )
    hours = deployment.endpoints * deployment.zones * HOURS
    return Cost(
        "Network: VPC endpoints",
        hours * prices.endpoint_zone_hour + _tiered(gigabytes, tiers),
        f"{deployment.endpoints} in {deployment.zones} zones at {prices.endpoint_zone_hour:g} per "
        f"hour, {gigabytes:,.0f} GB of SQS traffic at {prices.endpoint_gb:g}",
    )


def warming(demand: Demand, figures: Figures) -> Cost:
    """Return the one-time cost of warm throughput for a new table.

    Source: Amazon DynamoDB pricing, "Warm throughput".
    """
    needed, included = demand.warm_write_units, figures.quotas.dynamodb_new_table_writes
    price = figures.prices.dynamodb_warm_write_unit
    additional = max(0, needed - included)
    why = f"{additional:,} units above {included:,} at {price:g}"
    return Cost("one-time: warm throughput", additional * price, why)


def provisioned_writes(demand: Demand, figures: Figures) -> Cost:
    """Return the cost of the writes with provisioned capacity, for a constant rate."""
    units = demand.rate * demand.write_units / _PROVISIONED_UTILISATION
    price = figures.prices.dynamodb_provisioned_write_unit_hour
    return Cost(
        "DynamoDB writes, if provisioned",
        units * HOURS * price,
        f"{units:,.0f} units, {_PROVISIONED_UTILISATION:.0%} utilised, x {HOURS} h x {price:g}",
    )
