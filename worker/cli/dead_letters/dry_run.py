"""Report of a dry run of a replay, on the screen or as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from worker.cli import screen
from worker.cli.dead_letters.scanning import note_missing, note_unseen
from worker.cli.tables import Column, Kind
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import SUCCEEDS, Verdict
from worker.runtime.clock import utc_now

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


@dataclass(slots=True)
class DryRunReport:
    """Result of a dry run.

    Attributes:
        dead_letters: Dead letters as they would be replayed, each with its verdict.
        unreadable: Why the policies cannot be read; empty if they can.
        missing: Number of ids that are not among the dead letters.
        unseen: Dead letters that SQS reports but did not return.
    """

    dead_letters: list[tuple[DeadLetter, Verdict]] = field(default_factory=list)
    unreadable: str = ""
    missing: int = 0
    unseen: int = 0

    @property
    def verdicts(self) -> Counter[str]:
        """Number of dead letters by verdict code."""
        return Counter(verdict.code for _, verdict in self.dead_letters)

    def report(self) -> dict[str, Any]:
        """Return the JSON report."""
        at = utc_now()
        return {
            "matched": len(self.dead_letters),
            "dry_run": True,
            "verdicts": dict(self.verdicts.most_common()),
            "policies_unreadable": self.unreadable,
            "missing": self.missing,
            "not_seen": self.unseen,
            "dead_letters": [
                {**each.summary(at), "verdict": verdict.code, "verdict_detail": verdict.detail}
                for each, verdict in self.dead_letters
            ],
        }


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
    screen.note(
        f"{len(report.dead_letters):,} selected, {report.verdicts[SUCCEEDS]:,} would succeed; "
        "nothing was sent"
        + ("" if rows or as_json or not report.dead_letters else "; --verbose lists each message")
    )
    if report.unreadable:
        screen.note(f"cannot read the policies, so some outcomes are unknown: {report.unreadable}")
    missing, unseen = note_missing(report.missing), note_unseen(report.unseen)
    if missing or unseen or report.unreadable:
        raise typer.Exit(1)


def _print_counts(report: DryRunReport) -> None:
    """Print the counts by reason and verdict, with the detail of one dead letter of each."""
    counts = Counter((each.reason, verdict.code) for each, verdict in report.dead_letters)
    examples = {
        (each.reason, verdict.code): verdict.detail for each, verdict in report.dead_letters
    }
    rows = (
        (reason, code, f"{count:,}", examples[reason, code])
        for (reason, code), count in counts.most_common()
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
