"""The verb that says how many tasks a rate takes, what it costs and where it ends."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.aws.prices import shipped, with_prices
from worker.cli import screen
from worker.errors import UsageError
from worker.planning.limits import Limit
from worker.planning.plan import Plan, Row, figure, make, money, needs, remarks, report
from worker.planning.sizing import TASK_SIZES, Demand, rate_per_second


class Architecture(StrEnum):
    """What the tasks run on."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


class Network(StrEnum):
    """How calls leave the tasks' subnets."""

    ENDPOINTS = "endpoints"
    NAT = "nat"
    PUBLIC = "public"


def plan(  # noqa: PLR0913, PLR0917 - one parameter an option
    rate: Annotated[str, typer.Option(help="Messages: 10000/min, or with /s, /h, /day.")],
    record_bytes: Annotated[
        int | None, typer.Option(min=1, max=409_600, help="Size of a record; 883, if absent.")
    ] = None,
    latency_ms: Annotated[
        float | None,
        typer.Option(min=0, max=10_000, help="Of SQS and DynamoDB; 8 and 5, if absent."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.05, max=1, help="Share of the CPU that is to be busy.")
    ] = 0.6,
    burst: Annotated[
        float, typer.Option(min=1, max=100, help="To how many times the rate it must grow.")
    ] = 2.0,
    task_vcpu: Annotated[
        float | None, typer.Option(help="Size of a task: 0.25, 0.5 or 1; the smallest that does.")
    ] = None,
    architecture: Annotated[
        Architecture, typer.Option(help="Whose price; x86_64 was measured.")
    ] = Architecture.ARM64,
    spot: Annotated[bool, typer.Option("--spot", help="All tasks but one on Spot.")] = False,
    network: Annotated[
        Network, typer.Option(help="How calls leave the subnets.")
    ] = Network.ENDPOINTS,
    prices: Annotated[Path | None, typer.Option(help="TOML with prices that go before.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how each number comes about.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, explained.")] = False,
) -> None:
    """Say what a rate of messages takes, from tasks to money.

    It calls nobody, and reckons with what the bench measured and list prices of us-east-1.

    Example: aup-worker plan --rate 10000/min
    """
    if task_vcpu is not None and task_vcpu not in [vcpu for vcpu, _ in TASK_SIZES]:
        raise UsageError(f"--task-vcpu {task_vcpu:g}: must be 0.25, 0.5 or 1, for a single process")
    figures = shipped() if prices is None else with_prices(shipped(), prices)
    measured = figures.measured
    demand = Demand(
        rate=rate_per_second(rate),
        record_bytes=record_bytes or measured.body_bytes + measured.record_bytes_beside_body,
        utilisation=utilisation,
        burst=burst,
        sqs_ms=measured.sqs_ms if latency_ms is None else latency_ms,
        dynamodb_ms=measured.dynamodb_ms if latency_ms is None else latency_ms,
        task_vcpu=task_vcpu,
    )
    made = make(demand, figures, architecture=architecture, network=network, spot=spot)
    if as_json:
        screen.print_json(report(made))
    else:
        _show(made, explain=explain)


def _show(made: Plan, *, explain: bool) -> None:
    out, prices = screen.stdout(), made.figures.prices
    _rows(("it takes", ""), needs(made), explain=explain, right=False)
    out.print()
    _show_limits(made.limits, explain=explain)
    out.print()
    rows = [Row(each.name, money(each.amount), each.why) for each in made.costs]
    rows.append(
        Row("in all", money(made.total), f"{money(made.per_million)} for a million messages")
    )
    if made.once.amount:
        rows.append(Row(made.once.name, money(made.once.amount), made.once.why))
    _rows((f"a month in {prices.region}", prices.currency), rows, explain=explain, right=True)
    out.print()
    for line in remarks(made):
        out.print(screen.plain(line))
    if not explain:
        screen.note("--explain says how each number comes about")


def _rows(head: tuple[str, str], rows: list[Row], *, explain: bool, right: bool) -> None:
    table = screen.table(*head, *(("because",) if explain else ()))
    if right:
        table.columns[1].justify = "right"
    for name, value, why in rows:
        table.add_row(name, screen.plain(value), *((screen.plain(why),) if explain else ()))
    screen.stdout().print(table)


def _show_limits(limits: list[Limit], *, explain: bool) -> None:
    columns = ("quota", "needed", "default", "reached at", "")
    table = screen.table(*columns, *(("because",) if explain else ()))
    for column in table.columns[1:4]:
        column.justify = "right"
    for each in limits:
        why = (screen.plain(f"{each.why}; {each.source}"),) if explain else ()
        table.add_row(
            each.name,
            figure(each.needed),
            f"{each.quota:,.0f}",
            f"{figure(each.reached_at)}/s",
            "RAISE IT" if each.to_raise else "",
            *why,
        )
    screen.stdout().print(table)
