"""The verb that checks the set-up."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from worker.cli import screen
from worker.cli.running import run_async
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
        typer.Option(help="Unit of systemd that runs the service; else the one we run in."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Check the whole set-up and say what to mend.

    Nothing is changed. Each check passes, warns, fails or cannot tell, and says what to do. Exit
    code 1 if one fails.

    Example: aup-worker doctor --unit aup-worker.service
    """
    groups = run_async(run_checks(load(), unit=unit))
    counts = Counter(each.status for findings in groups.values() for each in findings)
    if as_json:
        screen.print_json(_document(groups, counts))
    else:
        out = screen.stdout()
        out.print(_table(groups))
        out.print(_sum(counts))
    if counts[CheckStatus.FAIL]:
        raise typer.Exit(1)


def _document(groups: Groups, counts: Counter[CheckStatus]) -> dict[str, Any]:
    return {
        "counts": {status: counts[status] for status in CheckStatus},
        "checks": [
            _row(group, finding) for group, findings in groups.items() for finding in findings
        ],
    }


def _row(group: str, result: CheckResult) -> dict[str, str]:
    return {
        "group": group,
        "check": result.check,
        "verdict": result.status,
        "found": result.found,
        "remedy": result.remedy,
    }


def _table(groups: Groups) -> Table:
    table = screen.table("", "", "")
    table.show_header = False
    for number, (group, findings) in enumerate(groups.items()):
        if number:
            table.add_row()
        table.add_row(Text(group, style="bold"))
        for finding in findings:
            status = Text(finding.status, style=_STYLES[finding.status])
            table.add_row(status, screen.plain(finding.check), _told(finding))
    return table


def _told(finding: CheckResult) -> Text:
    told = screen.plain(finding.found)
    if finding.remedy:
        # In a pipe a check is a line; on a terminal what to do is to be seen at once.
        told.append("\n→ " if sys.stdout.isatty() else " → ", style="bold")
        told.append_text(screen.plain(finding.remedy))
    return told


def _sum(counts: Counter[CheckStatus]) -> Text:
    parts = [f"{counts[status]} {status}" for status in CheckStatus if counts[status]]
    return Text(f"\n{counts.total()} checks: {', '.join(parts)}")
