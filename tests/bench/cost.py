"""What AWS asks for a million messages, from the price table."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from tests.bench.results import Measured

TABLE: Final = Path(__file__).with_name("prices.toml")


class PerMillion(BaseModel):
    """Prices for a million of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sqs_requests: float
    write_units: float
    read_units: float


class Prices(BaseModel):
    """The price table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str
    per_million: PerMillion


def read_prices(table: Path = TABLE) -> Prices:
    """Read the price table.

    Raises:
        ValueError: it is no TOML, or a price is missing or misspelt.
    """
    return Prices.model_validate(tomllib.loads(table.read_text()))


def cost_per_million_messages(measured: Measured, prices: Prices) -> dict[str, float]:
    """Give what a million messages cost, by part."""
    price = prices.per_million
    return {
        "sqs_requests": measured.sqs_requests_per_message * price.sqs_requests,
        "write_units": measured.write_units_per_message * price.write_units,
        "read_units": measured.read_units_per_message * price.read_units,
    }
