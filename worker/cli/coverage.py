"""Verb that counts who accepted a policy version."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any, Final

import typer
from rich.bar import Bar

from worker.cli import screen
from worker.cli.options import AsJSON, PolicyId, PolicyVersion
from worker.cli.running import run_async
from worker.errors import PolicyNotFoundError, UsageError
from worker.operations.evidence.coverage import (
    DAYS_SHOWN_MAX,
    READ_UNITS_PER_SECOND,
    SEGMENTS,
    Coverage,
    CoverageScan,
    Estimate,
    by_period,
    estimate,
)
from worker.operations.names import check_policy
from worker.repository import AUPRepository, TableSize
from worker.settings import load

_BAR_WIDTH: Final = 40


def coverage(
    policy: PolicyId,
    version: PolicyVersion,
    read_units_per_second: Annotated[
        float,
        typer.Option(metavar="UNITS", min=1, max=1_000_000, help="Maximum read units per second."),
    ] = READ_UNITS_PER_SECOND,
    segments: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=32, help="Number of parallel scan segments.")
    ] = SEGMENTS,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the cost without asking.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Count the users who accepted a policy version, by day.

    Scans the whole users' table at a limited rate, after printing the estimated cost and asking
    for confirmation. Days are UTC days of `accepted_at`. Requires dynamodb:Scan and
    dynamodb:DescribeTable.

    Example: aup-worker coverage --policy acceptable-use --version 2026-01
    """
    check_policy(policy, version)
    size = run_async(_size(policy, version))
    expected = estimate(size, read_units_per_second)
    _confirm(expected, yes=yes)
    found = run_async(
        _count(f"{policy}#{version}", size, units=read_units_per_second, segments=segments)
    )
    if as_json:
        screen.print_json(_report(policy, version, expected, found))
    else:
        _show(policy, version, found)


async def _size(policy: str, version: str) -> TableSize:
    async with AUPRepository(load().aws) as repository:
        if await repository.policy(policy, version) is None:
            raise PolicyNotFoundError(
                f"{policy} {version} is not published: see `aup-worker policy list`"
            )
        return await repository.user_table_size()


def _confirm(expected: Estimate, *, yes: bool) -> None:
    cost = f"${expected.usd:.2f}" if expected.usd >= 0.01 else "less than $0.01"  # noqa: PLR2004 - a cent
    summary = (
        f"about {math.ceil(expected.read_units):,} read units for about {expected.items:,} "
        f"records (DynamoDB updates the table size every 6 hours), {cost} on demand in us-east-1, "
        f"{screen.duration(expected.seconds)} at this rate"
    )
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            f"stdin is not a terminal; pass --yes to confirm. Estimated cost: {summary}"
        )
    screen.note(f"estimated cost: {summary}")
    if not yes and not typer.confirm("Scan the table?", err=True):
        raise UsageError("not confirmed; nothing was read")


async def _count(policy_version: str, size: TableSize, *, units: float, segments: int) -> Coverage:
    with screen.progress("scanning") as bar:
        task = bar.add_task("scanning", total=size.items or None, rate="")

        def show(found: Coverage) -> None:
            total = max(size.items, found.scanned)
            bar.update(
                task, completed=found.scanned, total=total, rate=f"{found.read_units:,.0f} units"
            )

        async with AUPRepository(load().aws) as repository:
            scan = CoverageScan(
                repository,
                policy_version,
                size,
                units_per_second=units,
                segments=segments,
                progress=show,
            )
            return await scan.run()


def _report(policy: str, version: str, expected: Estimate, found: Coverage) -> dict[str, Any]:
    return {
        "policy_id": policy,
        "version": version,
        "users": found.users,
        "days": {day.isoformat(): found.days[day] for day in sorted(found.days)},
        "undated": found.undated,
        "scanned": found.scanned,
        "read_units": found.read_units,
        "throttled": found.throttled,
        "estimate": {
            "records": expected.items,
            "read_units": expected.read_units,
            "usd": expected.usd,
        },
    }


def _show(policy: str, version: str, found: Coverage) -> None:
    out = screen.stdout()
    months = len(found.days) > DAYS_SHOWN_MAX
    if found.days:
        rows = by_period(found.days, months=months)
        highest = max(rows.values())
        bars = (
            (period, f"{users:,}", Bar(highest, 0, users, width=_BAR_WIDTH))
            for period, users in rows.items()
        )
        columns = ("month" if months else "day (UTC)", "users", "")
        out.print(screen.table(columns, bars, right={1}))
    out.print(screen.plain(f"accepted {policy} {version}: {found.users:,} users in total"))
    if months:
        out.print("grouped by month; use --json for each day")
    if found.undated:
        out.print(f"{found.undated:,} of them have an invalid accepted_at: verify their records")
    screen.note(f"read {found.scanned:,} records, using {found.read_units:,.1f} read units")
