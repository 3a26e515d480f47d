"""Prices of AWS, quotas and measured values, used for planning."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Container, Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import UsageError
from worker.runtime.validation import describe

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
# Fields of the prices that are not prices.
_DESCRIPTION: Final = {"region", "date", "currency"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Section):
    """Resources per message, measured by the benchmark."""

    measured_on: str
    cpu_us_per_message: Amount
    slow_core_factor: Amount
    cpu_us_per_further_kib: Amount
    body_bytes: int
    record_overhead_bytes: int
    receives_per_message: Amount
    deletes_per_message: Amount
    writes_per_message: Amount
    read_units_per_message: Amount
    rss_mb: Amount
    settling_ms: Amount
    sqs_ms: Amount
    dynamodb_ms: Amount
    sqs_overhead_bytes: int
    log_bytes_per_summary: int
    start_seconds: Amount


class Prices(_Section):
    """List prices of AWS in one region on one date."""

    region: str
    date: str
    currency: str
    sqs_million_requests: Amount
    sqs_million_requests_above_100_billion: Amount
    sqs_million_requests_above_200_billion: Amount
    dynamodb_million_write_units: Amount
    dynamodb_million_read_units: Amount
    dynamodb_infrequent_million_write_units: Amount
    dynamodb_provisioned_write_unit_hour: Amount
    dynamodb_infrequent_write_unit_hour: Amount
    dynamodb_warm_write_unit: Amount
    dynamodb_storage_gb_month: Amount
    dynamodb_infrequent_storage_gb_month: Amount
    dynamodb_recovery_gb_month: Amount
    dynamodb_export_gb: Amount
    database_savings_plan_on_demand: Share
    database_savings_plan_provisioned: Share
    s3_archive_gb_month: Amount
    fargate_x86_64_vcpu_hour: Amount
    fargate_x86_64_gb_hour: Amount
    fargate_arm64_vcpu_hour: Amount
    fargate_arm64_gb_hour: Amount
    fargate_spot_share: Annotated[float, Field(gt=0, le=1)]
    compute_savings_plan_fargate: Share
    lambda_million_requests: Amount
    lambda_x86_64_gb_second: Amount
    lambda_arm64_gb_second: Amount
    cloudwatch_log_gb: Amount
    cloudwatch_metric_month: Amount
    cloudwatch_alarm_metric_month: Amount
    public_ipv4_hour: Amount
    endpoint_zone_hour: Amount
    endpoint_gb: Amount
    endpoint_gb_above_1_pb: Amount
    endpoint_gb_above_5_pb: Amount
    nat_hour: Amount
    nat_gb: Amount


class Quotas(_Section):
    """Default quotas of an account."""

    dynamodb_table_writes: int
    dynamodb_new_table_writes: int
    dynamodb_partition_writes: int
    fargate_vcpus: int
    sqs_in_flight: int
    ecs_tasks_per_service: int
    ecs_launches_per_minute: int
    network_interfaces: int
    endpoint_gbit_per_zone: int
    lambda_concurrency: int
    lambda_new_account_concurrency: int


class Deployment(_Section):
    """Resources of `infra/` that cost money."""

    zones: int
    endpoints: int
    own_metrics: int
    container_insights_metrics: int
    alarm_metrics: int
    summary_seconds: int


class Function(_Section):
    """A Lambda function that does the work of the worker; prices.toml states the assumptions."""

    memory_mib: int
    full_vcpu_mib: int
    overhead_ms: Amount
    log_bytes_per_invocation: int
    pollers: int
    poll_seconds: int


class Source(_Section):
    """Document that states prices or quotas.

    Attributes:
        title: AWS document, or the file that overrides prices.
        date: Month in which it was last read.
        confirmed: Whether AWS states the figures in it; otherwise only others do, or AWS states a
            maximum.
        figures: Names of prices and quotas.
    """

    title: str
    date: str
    confirmed: bool
    figures: tuple[str, ...]


class Figures(_Section):
    """Input of planning: measured values, prices, quotas and resources, with their sources."""

    measured: Measured
    prices: Prices
    quotas: Quotas
    deployment: Deployment
    function: Function
    sources: tuple[Source, ...]

    def source(self, figure: str) -> Source:
        """Return the source of a price or quota."""
        return next(each for each in self.sources if figure in each.figures)

    def unconfirmed(self, figures: Iterable[str]) -> list[str]:
        """Return those of some prices and quotas that no AWS document confirmed, sorted."""
        return sorted({each for each in figures if not self.source(each).confirmed})


@cache
def shipped() -> Figures:
    """Return the values shipped with the program."""
    text = files("worker.aws").joinpath("prices.toml").read_text("utf-8")
    return Figures.model_validate(tomllib.loads(text))


def with_prices(figures: Figures, file: Path) -> Figures:
    """Return figures with the prices that a file overrides.

    Args:
        figures: Source of the prices that the file does not have.
        file: TOML file with some of the prices of the section `[prices]`.

    Returns:
        A copy of the figures with the overridden prices.

    Raises:
        UsageError: The file cannot be read, or a price is unknown or not a number.
    """
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{file}: invalid TOML: {error}") from None
    overrides = document.get("prices", document)
    try:
        prices = Prices.model_validate({**figures.prices.model_dump(), **overrides})
    except (TypeError, ValidationError) as error:
        raise UsageError(f"{file}: {_problem(error)}") from None
    named = tuple(name for name in overrides if name not in _DESCRIPTION)
    own = Source(title=str(file), date=prices.date, confirmed=True, figures=named)
    sources = (own, *(_without(each, own.figures) for each in figures.sources))
    return figures.model_copy(update={"prices": prices, "sources": sources})


def _without(source: Source, figures: Container[str]) -> Source:
    left = tuple(each for each in source.figures if each not in figures)
    return source.model_copy(update={"figures": left})


def _problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "prices must be lines of NAME = NUMBER"
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] != "extra_forbidden":
        return f"{name} = {first['input']}: {describe(first)}"
    close = difflib.get_close_matches(name, Prices.model_fields, n=1)
    return f"unknown price {name}" + (f" (did you mean {close[0]}?)" if close else "")
