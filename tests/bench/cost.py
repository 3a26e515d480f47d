"""AWS costs of a million messages at the prices that `aup-worker plan` uses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tests.bench.results import Measured
from worker.aws.prices import shipped


class PerMillion(BaseModel):
    """Prices per million."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sqs_requests: float
    write_units: float
    read_units: float


class Prices(BaseModel):
    """Prices that the benchmark uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str
    per_million: PerMillion


def read_prices() -> Prices:
    """Read the price table."""
    prices = shipped().prices
    return Prices(
        currency=prices.currency,
        per_million=PerMillion(
            sqs_requests=prices.sqs_million_requests,
            write_units=prices.dynamodb_million_write_units,
            read_units=prices.dynamodb_million_read_units,
        ),
    )


def cost_per_million_messages(measured: Measured, prices: Prices) -> dict[str, float]:
    """Return the costs of a million messages by part."""
    price = prices.per_million
    return {
        "sqs_requests": measured.sqs_requests_per_message * price.sqs_requests,
        "write_units": measured.write_units_per_message * price.write_units,
        "read_units": measured.read_units_per_message * price.read_units,
    }
