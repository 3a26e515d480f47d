"""Monthly cost of the same work in a Lambda function with an SQS trigger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from worker.aws.prices import Figures
from worker.planning.cost import (
    SECONDS,
    Cost,
    Terms,
    dynamodb,
    log_cost,
    metrics,
    receives_per_second,
    sqs_cost,
)
from worker.planning.formats import figure
from worker.planning.sizing import (
    MESSAGES_PER_CALL,
    Demand,
    body_bytes,
    cpu_us_per_message,
    messages_per_call,
)

# Of a synchronous invocation: AWS Lambda developer guide, "Lambda quotas".
_PAYLOAD_BYTES: Final = 6 * 2**20


class Batching(NamedTuple):
    """Settings of the trigger.

    Attributes:
        size: Maximum number of messages of an invocation.
        window_seconds: Time to collect them; above ten messages at least one second.
    """

    size: int
    window_seconds: int

    def __str__(self) -> str:
        return f"batch {self.size:,}, window {self.window_seconds} s"


# The defaults of a trigger first.
BATCHINGS: Final = (Batching(10, 0), Batching(10, 1), Batching(100, 5))


@dataclass(frozen=True, slots=True)
class FunctionLoad:
    """Invocations for a demand.

    Attributes:
        messages: Average messages per invocation.
        per_second: Invocations per second.
        milliseconds: Billed duration of an invocation.
        concurrency: Average number of concurrent invocations.
    """

    messages: float
    per_second: float
    milliseconds: int

    @property
    def concurrency(self) -> float:
        """Average number of concurrent invocations."""
        return self.per_second * self.milliseconds / 1000


def function_load(demand: Demand, figures: Figures, batching: Batching) -> FunctionLoad:
    """Return the invocations for a demand.

    Each poller gets an equal share of the messages. Without a window it invokes the function with
    what one receive returned.
    """
    function, measured = figures.function, figures.measured
    rate = demand.rate / function.pollers
    received = messages_per_call(rate, demand.sqs_ms / 1000)
    bytes_each = body_bytes(demand.record_bytes, measured) + measured.sqs_overhead_bytes
    most = max(1, min(batching.size, _PAYLOAD_BYTES // bytes_each))
    messages = min(float(most), max(received, rate * batching.window_seconds))
    slower = max(1.0, function.full_vcpu_mib / function.memory_mib)
    cpu_ms = messages * cpu_us_per_message(demand.record_bytes, measured) / 1000 * slower
    milliseconds = math.ceil(function.overhead_ms + demand.dynamodb_ms + cpu_ms)
    return FunctionLoad(messages, demand.rate / messages, milliseconds)


def function_monthly(
    demand: Demand, figures: Figures, terms: Terms, batching: Batching, month: int = 1
) -> list[Cost]:
    """Return the items of a monthly bill; a function needs no VPC and therefore no endpoints."""
    load = function_load(demand, figures, batching)
    invocations = load.per_second * SECONDS
    prices, function = figures.prices, figures.function
    compute = f"lambda_{terms.architecture}_gb_second"
    gb_seconds = invocations * load.milliseconds / 1000 * function.memory_mib / 1024
    price = getattr(prices, compute)
    return [
        _polls(demand, figures, load),
        *dynamodb(demand, figures, terms, month),
        Cost(
            "Lambda requests",
            invocations / 1e6 * prices.lambda_million_requests,
            f"{figure(load.messages)} messages each = {invocations / 1e6:,.1f} million at "
            f"{prices.lambda_million_requests:g}",
            ("lambda_million_requests",),
        ),
        Cost(
            "Lambda duration",
            gb_seconds * price,
            f"{load.milliseconds:,} ms x {function.memory_mib:,} MiB = {gb_seconds:,.0f} GB-s at "
            f"{price:g}, {terms.architecture}; {function.overhead_ms:g} ms each, "
            f"{demand.dynamodb_ms:g} of DynamoDB, the worker's CPU per message",
            (compute,),
        ),
        log_cost(
            invocations * function.log_bytes_per_invocation,
            f"{function.log_bytes_per_invocation} bytes per invocation",
            prices,
        ),
        metrics(figures, container_insights=False),
    ]


def _polls(demand: Demand, figures: Figures, load: FunctionLoad) -> Cost:
    receives = receives_per_second(demand, figures, figures.function.pollers)
    deletes = demand.rate * max(1 / load.messages, 1 / MESSAGES_PER_CALL)
    per_message = (receives + deletes) / demand.rate
    why = f"{per_message:.2f} per message, {figures.function.pollers} pollers,"
    return sqs_cost((receives + deletes) * SECONDS, why, figures.prices)
