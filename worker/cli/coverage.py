"""Verb that counts who accepted a policy version."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any

import typer

from worker.cli import screen
from worker.cli.bars import Bar
from worker.cli.charts import ChartFile, Days, chart_writer
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
from worker.runtime.quantities import counted, duration
from worker.settings import load


def coverage(  # noqa: PLR0913, PLR0917 - one parameter per option
    policy: PolicyId,
    version: PolicyVersion,
    read_units_per_second: Annotated[
        float,
        typer.Option(metavar="UNITS", min=1, max=1_000_000, help="Maximum read units per second."),
    ] = READ_UNITS_PER_SECOND,
    segments: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=32, help="Number of parallel scan segments.")
    ] = SEGMENTS,
    expected_users: Annotated[
        int | None,
        typer.Option(metavar="COUNT", min=1, help="Users expected to accept; shows their share."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the cost without asking.")] = False,
    chart: ChartFile = None,
    as_json: AsJSON = False,
) -> None:
    """Count the users who accepted a policy version, by day.

    Scans the whole users' table at a limited rate, after printing the estimated cost and asking
    for confirmation. Days are UTC days of `accepted_at`. Requires dynamodb:Scan and
    dynamodb:DescribeTable.

    Example: aup-worker coverage --policy acceptable-use --version 2026-01
    """
    check_policy(policy, version)
    draw = chart_writer(chart)
    size = run_async(_size(policy, version))
    expected = estimate(size, read_units_per_second, expected_users or 0)
    _confirm(expected, read_units_per_second, yes=yes)
    found = run_async(
        _count(f"{policy}#{version}", size, units=read_units_per_second, segments=segments)
    )
    if as_json:
        share = {} if expected_users is None else {"expected_users": expected_users}
        screen.print_json(_report(policy, version, expected, found) | share)
    else:
        _show(policy, version, found, expected_users)
    if draw is not None:
        draw(_chart(policy, version, found, expected_users))


async def _size(policy: str, version: str) -> TableSize:
    async with AUPRepository(load().aws) as repository:
        if await repository.policy(policy, version) is None:
            raise PolicyNotFoundError(
                f"{policy} {version} is not published: see `aup-worker policy list`"
            )
        return await repository.user_table_size()


def summary_of(expected: Estimate, units_per_second: float) -> str:
    """Return an estimate as a sentence."""
    units = counted(math.ceil(expected.read_units), "read unit")
    cost = f"${expected.usd:.2f}" if expected.usd >= 0.01 else "less than $0.01"  # noqa: PLR2004 - a cent
    time = duration(expected.seconds) if expected.seconds >= 1 else "less than 1 s"
    price = f"{cost} on demand in us-east-1, {time} at {units_per_second:g} read units per second"
    if expected.is_known:
        records = counted(expected.items, "record")
        return f"about {units} for about {records}: {price}; DynamoDB counts records every 6 hours"
    unknown = "unknown, because DynamoDB counts records every 6 hours and reports none yet"
    if not expected.items:
        return unknown
    users = counted(expected.items, "expected user")
    return f"{unknown}; one record for each of {users} would need about {units}: {price}"


def _confirm(expected: Estimate, units_per_second: float, *, yes: bool) -> None:
    summary = summary_of(expected, units_per_second)
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


def _show(policy: str, version: str, found: Coverage, expected_users: int | None) -> None:
    out = screen.stdout()
    months = len(found.days) > DAYS_SHOWN_MAX
    if found.days:
        rows = by_period(found.days, months=months)
        highest = max(rows.values())
        bars = ((period, f"{users:,}", Bar(users, highest)) for period, users in rows.items())
        columns = ("month" if months else "day (UTC)", "users", "")
        out.print(screen.table(columns, bars, right={1}))
    out.print(screen.plain(f"accepted {policy} {version}: {share(found.users, expected_users)}"))
    if months:
        out.print("grouped by month; use --json for each day")
    if found.undated:
        records = counted(found.undated, "record")
        out.print(f"{records} with an invalid accepted_at, not in the table above: verify")
    records = counted(found.scanned, "record")
    screen.note(f"read {records}, using {found.read_units:,.1f} read units")


def share(users: int, expected_users: int | None) -> str:
    """Return a number of users as text, and as a share of those expected if that is known."""
    if expected_users is None:
        return f"{counted(users, 'user')} in total"
    percent = f"{100 * users / expected_users:.1f} %"
    return f"{users:,} of {counted(expected_users, 'expected user')} ({percent})"


def _chart(policy: str, version: str, found: Coverage, expected_users: int | None) -> Days:
    return Days(
        title=f"{policy} {version}: accepted by {share(found.users, expected_users)}",
        y_label="users per day",
        counts={day: found.days[day] for day in sorted(found.days)},
    )
