"""The verb that checks the set-up."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from worker.cli import screen
from worker.cli.running import run_async
from worker.operations.doctor.checks import Groups, examine
from worker.operations.doctor.result import CheckResult, Verdict
from worker.settings import load

_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.UNKNOWN: "magenta",
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
    groups = run_async(examine(load(), unit=unit))
    counts = Counter(each.verdict for findings in groups.values() for each in findings)
    if as_json:
        screen.print_json(_document(groups, counts))
    else:
        out = screen.stdout()
        out.print(_table(groups))
        out.print(_sum(counts))
    if counts[Verdict.FAIL]:
        raise typer.Exit(1)


def _document(groups: Groups, counts: Counter[Verdict]) -> dict[str, Any]:
    return {
        "counts": {verdict: counts[verdict] for verdict in Verdict},
        "checks": [
            {"group": group, **asdict(finding)}
            for group, findings in groups.items()
            for finding in findings
        ],
    }


def _table(groups: Groups) -> Table:
    table = screen.table("", "", "")
    table.show_header = False
    for number, (group, findings) in enumerate(groups.items()):
        if number:
            table.add_row()
        table.add_row(Text(group, style="bold"))
        for finding in findings:
            verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
            table.add_row(verdict, screen.plain(finding.check), _told(finding))
    return table


def _told(finding: CheckResult) -> Text:
    told = screen.plain(finding.found)
    if finding.remedy:
        # In a pipe a check is a line; on a terminal what to do is to be seen at once.
        told.append("\n→ " if sys.stdout.isatty() else " → ", style="bold")
        told.append_text(screen.plain(finding.remedy))
    return told


def _sum(counts: Counter[Verdict]) -> Text:
    parts = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    return Text(f"\n{counts.total()} checks: {', '.join(parts)}")
