"""Verb that checks the configuration."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from worker.cli import screen
from worker.cli.options import AsJSON
from worker.cli.running import run_async
from worker.cli.tables import Column, Kind, Table
from worker.operations.doctor.checks import Groups, run_checks
from worker.operations.doctor.result import CheckResult, CheckStatus
from worker.settings import load

_STYLES: Final = {
    CheckStatus.PASS: "green",
    CheckStatus.WARN: "yellow",
    CheckStatus.FAIL: "bold red",
    CheckStatus.UNKNOWN: "magenta",
}


def doctor(
    unit: Annotated[
        str | None,
        typer.Option(help="systemd unit of the service (default: the current unit)."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Check the configuration; report what to fix.

    Changes nothing. The result of each check is pass, warn, fail or unknown, with a remedy where
    one is needed. Exit code 1 if a check fails.

    Example: aup-worker doctor --unit aup-worker.service
    """
    groups = run_async(run_checks(load(), unit))
    counts = Counter(each.status for results in groups.values() for each in results)
    if as_json:
        screen.print_json(_document(groups, counts))
    else:
        out = screen.stdout()
        out.print(_table(groups))
        out.print(_summary(counts))
    if counts[CheckStatus.FAIL]:
        raise typer.Exit(1)


def _document(groups: Groups, counts: Counter[CheckStatus]) -> dict[str, Any]:
    return {
        "counts": {status: counts[status] for status in CheckStatus},
        "checks": [
            {
                "group": group,
                "check": result.check,
                "verdict": result.status,
                "found": result.found,
                "remedy": result.remedy,
            }
            for group, results in groups.items()
            for result in results
        ],
    }


def _table(groups: Groups) -> Table:
    table = screen.table(("", "", Column("", kind=Kind.PROSE)))
    for number, (group, results) in enumerate(groups.items()):
        if number:
            table.add_heading(Text())
        table.add_heading(Text(group, style="bold"))
        for result in results:
            status = Text(_label(result.status), style=_STYLES[result.status])
            table.add_row(status, screen.plain(result.check), _details(result))
    return table


def _label(status: CheckStatus) -> str:
    return status.name.lower()


def _details(result: CheckResult) -> Text:
    details = screen.plain(result.found)
    if result.remedy:
        # One line per check in a pipe; on a terminal the remedy stands out on its own line.
        details.append("\n→ " if sys.stdout.isatty() else " → ", style="bold")
        details.append_text(screen.plain(result.remedy))
    return details


def _summary(counts: Counter[CheckStatus]) -> Text:
    parts = [f"{counts[status]} {_label(status)}" for status in CheckStatus if counts[status]]
    return Text(f"\n{counts.total()} checks: {', '.join(parts)}")
