"""Verb that estimates tasks, capacity and cost for a message rate."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from worker.aws.prices import Measured, shipped, with_prices
from worker.cli import screen
from worker.cli.bars import Bar
from worker.cli.charts import ChartFile, Months, chart_writer
from worker.cli.options import expand_options
from worker.cli.tables import Column, Kind
from worker.errors import UsageError
from worker.planning.cost import Cost
from worker.planning.formats import figure, money
from worker.planning.limits import Limit
from worker.planning.plan import (
    Plan,
    decision,
    functions,
    limit_remarks,
    make_plan,
    remarks,
    report,
    requests,
    requirements,
)
from worker.planning.sizing import TASK_SIZES, Demand, rate_per_second
from worker.planning.variants import INFREQUENT, MONTHS

_BAR_COLUMNS: Final = 10


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
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show requirements, quotas and the items of the bill.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how each number is calculated, and its source.")
    ] = False,
    chart: ChartFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to stdout, with explanations.")
    ] = False,
) -> None:
    """Estimate tasks, capacity and monthly cost for a message rate.

    Makes no network calls. Uses benchmark results and list prices of us-east-1.

    Example: aup-worker plan --rate 10000/min
    """
    draw = chart_writer(chart)
    figures = shipped() if prices is None else with_prices(shipped(), prices)
    demand = demanded.demand(rate, figures.measured)
    planned = make_plan(demand, figures, architecture=architecture, network=network, spot=spot)
    if as_json:
        screen.print_json(report(planned))
    else:
        _show(planned, details=verbose or explain, explain=explain)
    if draw is not None:
        draw(_chart(planned))


def _show(planned: Plan, *, details: bool, explain: bool) -> None:
    out = screen.stdout()
    for line in decision(planned):
        out.print(screen.plain(line))
    out.print()
    _print_variants(planned, explain=explain)
    out.print()
    if details:
        _print_details(planned, explain=explain)
    for sentence, command in requests(planned):
        out.print(screen.plain(f"{sentence}:"))
        out.print(screen.plain(f"  {command}"), soft_wrap=True)
    for line in (*remarks(planned), *(limit_remarks(planned) if details else ())):
        out.print(screen.plain(line))
    if not details:
        screen.note("use --verbose for requirements, quotas and bills, --explain for calculations")


def _print_variants(planned: Plan, *, explain: bool) -> None:
    names = [f"monthly cost, {planned.figures.prices.currency}", *map(_month_name, MONTHS), ""]
    highest = max(each.total(MONTHS[-1]) for each in planned.variants)
    rows: list[tuple[str | Bar, ...]] = [
        (
            _marked(planned, each.name, each.prices),
            *(f"{each.total(month):,.0f}" for month in MONTHS),
            Bar(each.total(MONTHS[-1]), highest, columns=_BAR_COLUMNS),
            each.why,
        )
        for each in planned.variants
    ]
    _print_rows(names, rows, explain=explain, right=range(1, 1 + len(MONTHS)))


def _print_details(planned: Plan, *, explain: bool) -> None:
    out = screen.stdout()
    value = Column("", kind=Kind.PROSE)
    _print_rows(("requirement", value), requirements(planned), explain=explain)
    out.print()
    columns = ("quota", "needed", "default", "reached at", "")
    limits = (_limit_row(planned, each) for each in planned.limits)
    _print_rows(columns, limits, explain=explain, right={1, 2, 3})
    out.print()
    _print_bill(planned, explain=explain)
    out.print()
    _print_functions(planned, explain=explain)
    out.print()
    if explain:
        _print_sources(planned)
        out.print()


def _print_bill(planned: Plan, *, explain: bool) -> None:
    plan, once = planned.variants[0], planned.once
    rows = _parts(planned, [plan.bill(month) for month in MONTHS])
    per_million = f"{money(planned.per_million)} per million messages"
    rows.append(("total", *(money(plan.total(month)) for month in MONTHS), per_million))
    if once.amount:
        name = _marked(planned, once.name, once.prices)
        rows.append((name, money(once.amount), "", "", once.why))
    heading = (f"this plan in {planned.figures.prices.region}", *map(_month_name, MONTHS))
    _print_rows(heading, rows, explain=explain, right={1, 2, 3})


def _print_functions(planned: Plan, *, explain: bool) -> None:
    found = functions(planned)
    rows = _parts(planned, [each.bill(1) for each in found])
    rows.append(
        (
            "total",
            *(money(each.total(1)) for each in found),
            "the explanations are those of the first column",
        )
    )
    names = [each.name.replace("batch ", "").replace("window ", "") for each in found]
    heading = ("batch and window, month 1", *names)
    _print_rows(heading, rows, explain=explain, right=range(1, 1 + len(found)))


def _parts(planned: Plan, bills: Sequence[Sequence[Cost]]) -> list[tuple[str, ...]]:
    """Return a row for each item of several bills, explained as in the first one."""
    return [
        (
            _marked(planned, parts[0].name, parts[0].prices),
            *(money(each.amount) for each in parts),
            parts[0].why,
        )
        for parts in zip(*bills, strict=True)
    ]


def _print_sources(planned: Plan) -> None:
    for each in planned.figures.sources:
        if each.figures:
            confirmed = "" if each.confirmed else ", not confirmed"
            names = ", ".join(each.figures)
            line = f"source: {each.title}, {each.date}{confirmed}: {names}"
            screen.stdout().print(screen.plain(line))


def _month_name(month: int) -> str:
    return f"month {month}"


def _marked(planned: Plan, name: str, prices: Iterable[str]) -> str:
    """Return a name, with an asterisk if a price could not be confirmed."""
    return f"{name} *" if planned.figures.unconfirmed(prices) else name


def _chart(planned: Plan) -> Months:
    plan, *others = planned.variants
    infrequent = next(each for each in others if each.name == INFREQUENT)
    cheapest = min(others, key=lambda each: each.total(MONTHS[-1]))
    prices, months = planned.figures.prices, range(1, MONTHS[-1] + 1)
    return Months(
        title=f"{figure(planned.demand.rate)} messages per second in {prices.region}",
        y_label=f"cost of the month, {prices.currency}",
        series={
            each.name: [each.total(month) for month in months]
            for each in dict.fromkeys((plan, infrequent, cheapest))
        },
    )


def _limit_row(planned: Plan, limit: Limit) -> tuple[str, ...]:
    source = planned.figures.source(limit.figure).title
    return (
        limit.name,
        figure(limit.needed),
        f"{limit.quota:,.0f}",
        f"{figure(limit.reached_at)}/s",
        "INCREASE" if limit.to_raise else "",
        f"{limit.why}; {source}",
    )


def _print_rows(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[str | Bar]],
    *,
    explain: bool,
    right: Container[int] = (),
) -> None:
    """Print a table; the last cell of each row explains the others."""
    if explain:
        columns = (*columns, Column("explanation", kind=Kind.PROSE))
    cells = (row[: len(columns)] for row in rows)
    screen.stdout().print(screen.table(columns, cells, right=right))
