"""Verb that estimates tasks, capacity and cost for a message rate."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from worker.aws.prices import Measured, shipped, with_prices
from worker.cli import screen
from worker.cli.options import expand_options
from worker.cli.tables import Column, Kind
from worker.errors import UsageError
from worker.planning.limits import Limit
from worker.planning.plan import (
    Plan,
    figure,
    make_plan,
    money,
    remarks,
    report,
    requirements,
)
from worker.planning.sizing import TASK_SIZES, Demand, rate_per_second


@dataclass(frozen=True, slots=True)
class DemandOptions:
    """Options for the demand that a plan meets, except its rate."""

    record_bytes: Annotated[
        int | None, typer.Option(min=1, max=409_600, help="Size of a record (default: 801).")
    ] = None
    latency_ms: Annotated[
        float | None,
        typer.Option(min=0, max=10_000, help="Latency of SQS and DynamoDB (default: 8 and 5)."),
    ] = None
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Target CPU utilisation.")] = (
        0.6
    )
    burst: Annotated[
        float, typer.Option(min=1, max=100, help="Peak rate as a multiple of --rate.")
    ] = 2.0
    task_vcpu: Annotated[
        float | None,
        typer.Option(help="Task size: 0.25 to 16 (default: the smallest sufficient up to 1)."),
    ] = None

    def demand(self, rate: str, measured: Measured) -> Demand:
        """Return the demand of a rate; what is not given is as measured.

        Raises:
            UsageError: The rate or the size of a task is invalid.
        """
        vcpu = self.task_vcpu
        if vcpu is not None and vcpu not in [each for each, _ in TASK_SIZES]:
            raise UsageError(
                f"--task-vcpu {vcpu:g}: expected 0.25, 0.5, 1, 2, 4, 8 or 16, as Fargate has them"
            )
        return Demand(
            rate=rate_per_second(rate),
            record_bytes=self.record_bytes or measured.body_bytes + measured.record_overhead_bytes,
            utilisation=self.utilisation,
            burst=self.burst,
            sqs_ms=measured.sqs_ms if self.latency_ms is None else self.latency_ms,
            dynamodb_ms=measured.dynamodb_ms if self.latency_ms is None else self.latency_ms,
            task_vcpu=vcpu,
        )


@expand_options
def plan(  # noqa: PLR0913, PLR0917 - one parameter per option
    rate: Annotated[
        str, typer.Option(help="Message rate such as 10000/min; unit s, min, h or day.")
    ],
    demanded: DemandOptions,
    architecture: Annotated[
        Literal["x86_64", "arm64"],
        typer.Option(help="CPU architecture for prices (measured: x86_64)."),
    ] = "arm64",
    spot: Annotated[
        bool, typer.Option("--spot", help="Run all tasks but one on Fargate Spot.")
    ] = False,
    network: Annotated[
        Literal["endpoints", "nat", "public"], typer.Option(help="Network path to AWS.")
    ] = "endpoints",
    prices: Annotated[
        Path | None, typer.Option(help="TOML file overriding the list prices.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how each number is calculated.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to stdout, with explanations.")
    ] = False,
) -> None:
    """Estimate tasks, capacity and monthly cost for a message rate.

    Makes no network calls. Uses benchmark results and list prices of us-east-1.

    Example: aup-worker plan --rate 10000/min
    """
    figures = shipped() if prices is None else with_prices(shipped(), prices)
    demand = demanded.demand(rate, figures.measured)
    planned = make_plan(demand, figures, architecture=architecture, network=network, spot=spot)
    if as_json:
        screen.print_json(report(planned))
    else:
        _show(planned, explain=explain)


def _show(planned: Plan, *, explain: bool) -> None:
    out, prices = screen.stdout(), planned.figures.prices
    value = Column("", kind=Kind.PROSE)
    _print_rows(("requirement", value), requirements(planned), explain=explain)
    out.print()
    columns = ("quota", "needed", "default", "reached at", "")
    limits = map(_limit_row, planned.limits)
    _print_rows(columns, limits, explain=explain, right={1, 2, 3})
    out.print()
    rows = [(each.name, money(each.amount), each.why) for each in planned.costs]
    per_million = f"{money(planned.per_million)} per million messages"
    rows.append(("total", money(planned.total), per_million))
    if planned.once.amount:
        rows.append((planned.once.name, money(planned.once.amount), planned.once.why))
    heading = (f"monthly cost in {prices.region}", prices.currency)
    _print_rows(heading, rows, explain=explain, right={1})
    out.print()
    for line in remarks(planned):
        out.print(screen.plain(line))
    if not explain:
        screen.note("use --explain to show how each number is calculated")


def _limit_row(limit: Limit) -> tuple[str, ...]:
    return (
        limit.name,
        figure(limit.needed),
        f"{limit.quota:,.0f}",
        f"{figure(limit.reached_at)}/s",
        "INCREASE" if limit.to_raise else "",
        f"{limit.why}; {limit.source}",
    )


def _print_rows(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[str]],
    *,
    explain: bool,
    right: Container[int] = (),
) -> None:
    """Print a table; the last cell of each row explains the others."""
    if explain:
        columns = (*columns, Column("explanation", kind=Kind.PROSE))
    cells = (row[: len(columns)] for row in rows)
    screen.stdout().print(screen.table(columns, cells, right=right))
