"""Report of a dry run of a replay, on the screen or as JSON."""

from __future__ import annotations

import typer

from worker.cli import screen
from worker.cli.dead_letters.scanning import note_missing, note_unseen
from worker.operations.dead_letters.dry_run import SUCCEEDS
from worker.operations.dead_letters.dry_run_report import DryRunReport
from worker.operations.dead_letters.sentences import dry_run_result, unreadable_policies


def show_report(report: DryRunReport, *, as_json: bool) -> None:
    """Print the result of a dry run.

    Raises:
        typer.Exit: With code 1 if the result is incomplete.
    """
    if as_json:
        screen.print_json(report.report())
    elif report.dead_letters:
        _print_verdicts(report)
    screen.note(dry_run_result(len(report.dead_letters), report.verdicts[SUCCEEDS]))
    if report.unreadable:
        screen.note(unreadable_policies(report.unreadable))
    missing, unseen = note_missing(report.missing), note_unseen(report.unseen)
    if missing or unseen or report.unreadable:
        raise typer.Exit(1)


def _print_verdicts(report: DryRunReport) -> None:
    """Print the counts by reason and verdict, then as many dead letters as fit on the terminal."""
    out = screen.stdout()
    counts = report.outcomes
    rows = ((reason, code, f"{count:,}") for (reason, code), count in counts.most_common())
    out.print(screen.table(("reason", "verdict", "count"), rows, right={2}))
    out.print()
    records = [
        {
            "id": each.message_id,
            "reason": each.reason,
            "verdict": verdict.code,
            "detail": verdict.detail,
        }
        for each, verdict in report.dead_letters
    ]
    lines = screen.lines_left(out, len(counts))
    shown = screen.print_records(out, records, ("id", "reason", "verdict"), ("detail",), lines)
    if shown < len(records):
        screen.note(f"{shown:,} shown of {len(records):,}; use --json to print all")
