"""Monthly cost of a message rate, by service."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from worker.aws.prices import Figures, Prices
from worker.planning.limits import network_bytes
from worker.planning.sizing import MESSAGES_PER_CALL, Demand, Fleet, body_bytes, messages_per_call

# As in the AWS Pricing Calculator.
HOURS: Final = 730
SECONDS: Final = HOURS * 3600
GB: Final = 2**30
_BILLED_BYTES: Final = 65_536
# DynamoDB adds 100 bytes to an item for its index: developer guide, "Storage".
_INDEX_BYTES: Final = 100
# The target of auto scaling: Amazon DynamoDB developer guide, "Managing throughput capacity
# automatically with DynamoDB auto scaling".
PROVISIONED_UTILISATION: Final = 0.7
# A worker polls for as long as AUP_WAIT_SECONDS at most; empty polls are billed, too.
_POLL_SECONDS: Final = 20


class Cost(NamedTuple):
    """One item of a bill.

    Attributes:
        amount: In the currency of the prices.
        why: How the amount is calculated.
        prices: Names of the prices that it depends on.
    """

    name: str
    amount: float
    why: str
    prices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """How the resources run, are paid for, and how long the table keeps records.

    Attributes:
        architecture: `x86_64` or `arm64`.
        network: `endpoints`, `nat` or `public`.
        spot: Whether all tasks but one run on Fargate Spot.
        infrequent_access: Whether the table of acceptances has the class Standard-IA.
        provisioned: Whether its writes have provisioned capacity with auto scaling.
        database_plan: Whether a Database Savings Plan covers all reads and writes.
        compute_plan: Whether a Compute Savings Plan covers Fargate, except on Spot.
        table_months: Months after which a record is deleted from the table; None for never.
        exported: Whether new records are exported to S3, and kept there.
    """

    architecture: str = "arm64"
    network: str = "endpoints"
    spot: bool = False
    infrequent_access: bool = False
    provisioned: bool = False
    database_plan: bool = False
    compute_plan: bool = False
    table_months: int | None = None
    exported: bool = False


def monthly(
    demand: Demand, fleet: Fleet, figures: Figures, terms: Terms, month: int = 1
) -> list[Cost]:
    """Return the items of a monthly bill.

    Args:
        demand: Constant demand since the first month.
        fleet: Tasks for the demand.
        figures: Prices and measurements.
        terms: How the resources run and are paid for.
        month: Month since the start; storage is billed as it is at the end of the month.
    """
    return [
        _sqs(demand, fleet, figures),
        *dynamodb(demand, figures, terms, month),
        _fargate(fleet, figures, terms),
        _logs(fleet, figures),
        metrics(figures, container_insights=True),
        _network(demand, fleet, figures, terms.network),
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


def receives_per_second(demand: Demand, figures: Figures, pollers: int) -> float:
    """Return the billed ReceiveMessage requests of pollers that poll again without a pause."""
    messages = messages_per_call(demand.rate / pollers, demand.sqs_ms / 1000)
    billed = math.ceil(messages * body_bytes(demand.record_bytes, figures.measured) / _BILLED_BYTES)
    calls = max(1 / messages, figures.measured.receives_per_message)
    return max(demand.rate * calls * billed, pollers / _POLL_SECONDS)


def sqs_requests_per_message(demand: Demand, fleet: Fleet, figures: Figures) -> float:
    """Return the billed SQS requests of the worker per message.

    Under load, batches are full, as measured. At a low rate each process has one poll and one batch
    of deletes in flight, and they contain what has come meanwhile: with the stub of the benchmark,
    1.17 requests per message were counted at 10,000 a minute and 8 ms, where this returns 1.25.
    """
    processes = fleet.tasks * fleet.processes
    deleted = messages_per_call(demand.rate / processes, demand.sqs_ms / 1000)
    deletes = max(1 / deleted, figures.measured.deletes_per_message)
    return receives_per_second(demand, figures, processes) / demand.rate + deletes


def sqs_cost(requests: float, why: str, prices: Prices) -> Cost:
    """Return the cost of a number of SQS requests per month."""
    names = (
        "sqs_million_requests",
        "sqs_million_requests_above_100_billion",
        "sqs_million_requests_above_200_billion",
    )
    bounds = (100e9, 200e9, math.inf)
    tiers = tuple(
        (bound, getattr(prices, name) / 1e6) for name, bound in zip(names, bounds, strict=True)
    )
    why = f"{why} = {requests / 1e6:,.0f} million at {prices.sqs_million_requests:g}"
    if requests > bounds[0]:
        why += ", less above 100 billion"
    used = 1 + sum(requests > bound for bound in bounds)
    return Cost("SQS requests", _tiered(requests, tiers), why, names[:used])


def _sqs(demand: Demand, fleet: Fleet, figures: Figures) -> Cost:
    per_message = sqs_requests_per_message(demand, fleet, figures)
    why = f"{per_message:.2f} per message"
    if per_message > figures.measured.receives_per_message + figures.measured.deletes_per_message:
        why += f", as batches of {MESSAGES_PER_CALL} are not full at this rate,"
    return sqs_cost(demand.rate * SECONDS * per_message, why, figures.prices)


def stored_gb(demand: Demand) -> float:
    """Return the GB of records of one month."""
    return demand.rate * SECONDS * (demand.record_bytes + _INDEX_BYTES) / GB


def dynamodb(demand: Demand, figures: Figures, terms: Terms, month: int) -> list[Cost]:
    """Return the cost of both tables, and of an export."""
    costs = [
        _writes(demand, figures.prices, terms, month),
        _reads(demand, figures, terms),
        _storage(demand, figures.prices, terms, month),
    ]
    if terms.exported:
        costs.append(_export(demand, figures.prices, month))
    return costs


def _is_deleting(terms: Terms, month: int) -> bool:
    return terms.table_months is not None and month > terms.table_months


def _writes(demand: Demand, prices: Prices, terms: Terms, month: int) -> Cost:
    # A delete consumes as many units as the write did.
    per_record = demand.write_units * (2 if _is_deleting(terms, month) else 1)
    class_name = "infrequent_" if terms.infrequent_access else ""
    if terms.provisioned:
        name = f"dynamodb_{class_name or 'provisioned_'}write_unit_hour"
        plan, share = "database_savings_plan_provisioned", prices.database_savings_plan_provisioned
        capacity = demand.rate * per_record / PROVISIONED_UTILISATION
        units = capacity * HOURS
        why = f"{capacity:,.0f} units, {PROVISIONED_UTILISATION:.0%} utilised, x {HOURS} h x "
    else:
        name = f"dynamodb_{class_name}million_write_units"
        plan, share = "database_savings_plan_on_demand", prices.database_savings_plan_on_demand
        units = demand.rate * SECONDS / 1e6 * per_record
        why = f"{units:,.0f} million units at "
    price = getattr(prices, name)
    why += f"{price:g}"
    if _is_deleting(terms, month):
        why += ", half of them to delete"
    if not terms.database_plan:
        return Cost("DynamoDB writes", units * price, why, (name,))
    why += f", {share:.0%} less"
    return Cost("DynamoDB writes", units * price * (1 - share), why, (name, plan))


def _reads(demand: Demand, figures: Figures, terms: Terms) -> Cost:
    """Return the cost of reading policies, which have a table of their own, on demand."""
    prices = figures.prices
    units = demand.rate * SECONDS / 1e6 * figures.measured.read_units_per_message
    name, plan = "dynamodb_million_read_units", "database_savings_plan_on_demand"
    amount = units * prices.dynamodb_million_read_units
    why = f"{units:,.3f} million units at {prices.dynamodb_million_read_units:g}: policies"
    if not terms.database_plan:
        return Cost("DynamoDB reads", amount, why, (name,))
    share = prices.database_savings_plan_on_demand
    return Cost("DynamoDB reads", amount * (1 - share), f"{why}, {share:.0%} less", (name, plan))


def _storage(demand: Demand, prices: Prices, terms: Terms, month: int) -> Cost:
    months = month if terms.table_months is None else min(month, terms.table_months)
    class_name = "infrequent_" if terms.infrequent_access else ""
    name = f"dynamodb_{class_name}storage_gb_month"
    price = getattr(prices, name) + prices.dynamodb_recovery_gb_month
    gigabytes = stored_gb(demand) * months
    why = f"{gigabytes:,.0f} GB at {price:g} with point-in-time recovery"
    why += "; grows each month" if terms.table_months is None else f"; {months} months kept"
    return Cost("DynamoDB storage", gigabytes * price, why, (name, "dynamodb_recovery_gb_month"))


def _export(demand: Demand, prices: Prices, month: int) -> Cost:
    new = stored_gb(demand)
    exporting = new * prices.dynamodb_export_gb
    keeping = new * month * prices.s3_archive_gb_month
    why = (
        f"{new:,.0f} GB exported at {prices.dynamodb_export_gb:g}, {new * month:,.0f} GB kept at "
        f"{prices.s3_archive_gb_month:g} in S3 Glacier Instant Retrieval, not compressed"
    )
    return Cost(
        "Export to S3", exporting + keeping, why, ("dynamodb_export_gb", "s3_archive_gb_month")
    )


def _fargate(fleet: Fleet, figures: Figures, terms: Terms) -> Cost:
    prices = figures.prices
    names = [f"fargate_{terms.architecture}_{unit}_hour" for unit in ("vcpu", "gb")]
    vcpu, gigabyte = (getattr(prices, name) for name in names)
    hour = fleet.task_vcpu * vcpu + fleet.task_memory_mib / 1024 * gigabyte
    on_demand = 1 if terms.spot else fleet.tasks
    on_spot = fleet.tasks - on_demand
    why = f"{fleet.tasks:,} x {HOURS} h x {hour:.5f}, {terms.architecture}"
    if terms.architecture != "x86_64":
        why += ", assumed to be as fast as x86-64"
    billed_tasks = float(on_demand)
    if terms.compute_plan:
        names.append("compute_savings_plan_fargate")
        billed_tasks *= 1 - prices.compute_savings_plan_fargate
        why += f"; {prices.compute_savings_plan_fargate:.0%} less on demand"
    if terms.spot:
        why += f"; all but one on Spot at {prices.fargate_spot_share:g}"
    if on_spot:
        names.append("fargate_spot_share")
        billed_tasks += on_spot * prices.fargate_spot_share
    return Cost("Fargate", billed_tasks * HOURS * hour, why, tuple(names))


def _logs(fleet: Fleet, figures: Figures) -> Cost:
    seconds, measured = figures.deployment.summary_seconds, figures.measured
    summaries = fleet.tasks * SECONDS / seconds
    why = f"{measured.log_bytes_per_summary:,} bytes per task every {seconds} s"
    return log_cost(summaries * measured.log_bytes_per_summary, why, figures.prices)


def log_cost(log_bytes: float, why: str, prices: Prices) -> Cost:
    """Return the cost of ingesting logs."""
    gigabytes = log_bytes / GB
    amount = gigabytes * prices.cloudwatch_log_gb
    return Cost("CloudWatch logs", amount, f"{gigabytes:,.1f} GB: {why}", ("cloudwatch_log_gb",))


def metrics(figures: Figures, *, container_insights: bool) -> Cost:
    """Return the cost of metrics and alarms."""
    prices, deployment = figures.prices, figures.deployment
    insights = deployment.container_insights_metrics if container_insights else 0
    return Cost(
        "CloudWatch metrics, alarms",
        (deployment.own_metrics + insights) * prices.cloudwatch_metric_month
        + deployment.alarm_metrics * prices.cloudwatch_alarm_metric_month,
        f"{deployment.own_metrics} custom and {insights} Container Insights at "
        f"{prices.cloudwatch_metric_month:g}, {deployment.alarm_metrics} in alarms at "
        f"{prices.cloudwatch_alarm_metric_month:g}",
        ("cloudwatch_metric_month", "cloudwatch_alarm_metric_month"),
    )


def _network(demand: Demand, fleet: Fleet, figures: Figures, network: str) -> Cost:
    prices, deployment = figures.prices, figures.deployment
    gigabytes = demand.rate * SECONDS * network_bytes(demand, figures) / GB
    if network == "public":
        return Cost(
            "Network: public addresses",
            fleet.tasks * HOURS * prices.public_ipv4_hour,
            f"{fleet.tasks:,} at {prices.public_ipv4_hour:g} per hour; regional traffic is free",
            ("public_ipv4_hour",),
        )
    if network == "nat":
        return Cost(
            "Network: NAT gateways",
            deployment.zones * HOURS * prices.nat_hour + gigabytes * prices.nat_gb,
            f"{deployment.zones} at {prices.nat_hour:g} per hour, {gigabytes:,.0f} GB of SQS "
            f"traffic at {prices.nat_gb:g}; DynamoDB through its free gateway endpoint",
            ("nat_hour", "nat_gb"),
        )
    names = ("endpoint_gb", "endpoint_gb_above_1_pb", "endpoint_gb_above_5_pb")
    bounds = (2**20, 5 * 2**20, math.inf)
    tiers = tuple((bound, getattr(prices, name)) for name, bound in zip(names, bounds, strict=True))
    hours = deployment.endpoints * deployment.zones * HOURS
    return Cost(
        "Network: VPC endpoints",
        hours * prices.endpoint_zone_hour + _tiered(gigabytes, tiers),
        f"{deployment.endpoints} in {deployment.zones} zones at {prices.endpoint_zone_hour:g} per "
        f"hour, {gigabytes:,.0f} GB of SQS traffic at {prices.endpoint_gb:g}",
        ("endpoint_zone_hour", *names[: 1 + sum(gigabytes > bound for bound in bounds)]),
    )


def warming(demand: Demand, figures: Figures) -> Cost:
    """Return the one-time cost of warm throughput for a new table."""
    needed, included = demand.warm_write_units, figures.quotas.dynamodb_new_table_writes
    price = figures.prices.dynamodb_warm_write_unit
    additional = max(0, needed - included)
    why = f"{additional:,} units above {included:,} at {price:g}"
    used = ("dynamodb_warm_write_unit",) if additional else ()
    return Cost("one-time: warm throughput", additional * price, why, used)
