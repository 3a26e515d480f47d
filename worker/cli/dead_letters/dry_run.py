"""Report of a dry run of a replay, on the screen or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from worker.cli import screen
from worker.cli.dead_letters.scanning import note_missing, note_unseen
from worker.cli.tables import Column, Kind
from worker.operations.dead_letters.dry_run import SUCCEEDS
from worker.operations.dead_letters.dry_run_report import DryRunReport
from worker.operations.dead_letters.sentences import dry_run_result, unreadable_policies

_COUNT_COLUMNS: Final = (
    Column("reason"),
    Column("verdict"),
    Column("count", right=True),
    Column("example", kind=Kind.BELOW),
)
_COLUMNS: Final = (
    Column("id"),
    Column("reason", 1),
    Column("verdict"),
    Column("detail", kind=Kind.BELOW),
)


@dataclass(frozen=True, slots=True)
class DryRunOptions:
    """Options of a dry run."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Predict the outcome of each message; send nothing.")
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --dry-run, list each message, not only counts.")
    ] = False


def show_report(report: DryRunReport, *, rows: bool, as_json: bool) -> None:
    """Print the result of a dry run.

    Args:
        report: The result.
        rows: Whether to list each dead letter below the counts.
        as_json: Whether to print JSON.

    Raises:
        typer.Exit: With code 1 if the result is incomplete.
    """
    if as_json:
        screen.print_json(report.report())
    elif report.dead_letters:
        _print_counts(report)
        if rows:
            _print_verdicts(report)
    hint = "" if rows or as_json or not report.dead_letters else "; --verbose lists each message"
    screen.note(dry_run_result(len(report.dead_letters), report.verdicts[SUCCEEDS]) + hint)
    if report.unreadable:
        screen.note(unreadable_policies(report.unreadable))
    missing, unseen = note_missing(report.missing), note_unseen(report.unseen)
    if missing or unseen or report.unreadable:
        raise typer.Exit(1)


def _print_counts(report: DryRunReport) -> None:
    """Print the counts by reason and verdict, with the detail of one dead letter of each."""
    examples = {
        (each.reason, verdict.code): verdict.detail for each, verdict in report.dead_letters
    }
    rows = (
        (reason, code, f"{count:,}", examples[reason, code])
        for (reason, code), count in report.outcomes.most_common()
    )
    screen.print_rows(screen.stdout(), screen.table(_COUNT_COLUMNS, rows))


def _print_verdicts(report: DryRunReport) -> None:
    out = screen.stdout()
    out.print()
    records = (
        (each.message_id, each.reason, verdict.code, verdict.detail)
        for each, verdict in report.dead_letters
    )
    screen.print_rows(out, screen.table(_COLUMNS, records))
