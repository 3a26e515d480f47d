"""A dry run of a replay, and its report on the screen or as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

import typer
from rich.console import Console

from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.dead_letters.replay_request import (
    ReplayRequest,
    destination_name,
    note_missing,
    options_for,
)
from worker.cli.dead_letters.scanning import note_unseen
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import SUCCEEDS, Verdict
from worker.operations.dead_letters.journal import read_journal
from worker.operations.dead_letters.replay import replay_dry_run
from worker.operations.dead_letters.scan import Scan
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now

# Shown on a terminal of any height.
_SHOWN_MIN: Final = 5
# Two headings, a blank line, three notes and the prompt.
_OTHER_LINES: Final = 7


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

    def report(self, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON report.

        Args:
            summaries: Summary of each dead letter, in the order of `dead_letters`.
        """
        return {
            "matched": len(self.dead_letters),
            "dry_run": True,
            "verdicts": dict(self.verdicts.most_common()),
            "policies_unreadable": self.unreadable,
            "missing": self.missing,
            "not_seen": self.unseen,
            "dead_letters": [
                {**summary, "verdict": verdict.code, "verdict_detail": verdict.detail}
                for summary, (_, verdict) in zip(summaries, self.dead_letters, strict=True)
            ],
        }


async def run_dry(request: ReplayRequest) -> DryRunReport:
    """Predict the outcome of each message that a replay would send; send nothing."""
    settings = request.settings()
    report = DryRunReport()
    missing = set(request.selected.ids)
    with screen.progress("scanning") as bar:
        async with (
            open_queues(settings) as (source, queue),
            AUPRepository(settings.aws) as repository,
        ):
            options = await options_for(request, source)
            state = await queue.state()
            to = await destination_name(source)
            dry_run = request.dry_run(repository, settings)
            options = replace(options, dry_run=dry_run)
            task = bar.add_task("scanning", total=request.total or state.visible, rate="")
            journal = request.journal_path(state.arn)
            sent = read_journal(journal, state.arn, request.request_digest, to)
            scan = Scan(queue, now=utc_now, visibility_timeout_seconds=settings.look_seconds)
            async with scan:
                predictions = replay_dry_run(scan, request.selected, options, sent=sent)
                async for dead_letter, verdict in predictions:
                    missing -= {dead_letter.message_id, dead_letter.original_message_id}
                    report.dead_letters.append((dead_letter.without_content(), verdict))
                    bar.update(task, completed=len(report.dead_letters))
            report.unreadable = dry_run.error
    report.missing = len(missing)
    report.unseen = 0 if request.selected.ids and not missing else scan.unseen
    return report


def show_report(report: DryRunReport, *, as_json: bool) -> None:
    """Print the result of a dry run.

    Raises:
        typer.Exit: With code 1 if the result is incomplete.
    """
    if as_json:
        at = utc_now()
        screen.print_json(report.report([each.summary(at) for each, _ in report.dead_letters]))
    else:
        print_verdicts(report)
    screen.note(
        f"{len(report.dead_letters):,} selected, {report.verdicts[SUCCEEDS]:,} would succeed; "
        "nothing was sent"
    )
    if report.unreadable:
        screen.note(f"cannot read the policies, so some outcomes are unknown: {report.unreadable}")
    missing, unseen = note_missing(report.missing), note_unseen(report.unseen)
    if missing or unseen or report.unreadable:
        raise typer.Exit(1)


def print_verdicts(report: DryRunReport) -> None:
    """Print the counts by verdict, then as many dead letters as fit on the terminal."""
    if not report.dead_letters:
        return
    out = screen.stdout()
    lines = _print_counts(out, report)
    shown = len(report.dead_letters)
    if sys.stdout.isatty():
        shown = min(shown, max(_SHOWN_MIN, out.height - lines - _OTHER_LINES))
    _print_dead_letters(out, report.dead_letters[:shown])
    if shown < len(report.dead_letters):
        screen.note(f"{shown:,} shown of {len(report.dead_letters):,}; use --json to print all")


def _print_counts(out: Console, report: DryRunReport) -> int:
    """Print the counts by reason and verdict; return the number of rows."""
    counts = Counter((each.reason, verdict.code) for each, verdict in report.dead_letters)
    table = screen.table("reason", "verdict", "count")
    table.columns[2].justify = "right"
    for (reason, code), count in counts.most_common():
        table.add_row(screen.plain(reason), screen.plain(code), f"{count:,}")
    out.print(table)
    out.print()
    return len(counts)


def _print_dead_letters(out: Console, dead_letters: list[tuple[DeadLetter, Verdict]]) -> None:
    table = screen.table("id", "reason", "verdict", "detail")
    rows = [
        [
            screen.plain(text)
            for text in (each.message_id, each.reason, verdict.code, verdict.detail)
        ]
        for each, verdict in dead_letters
    ]
    for index, column in enumerate(table.columns[:3]):
        # Without a minimum width, Rich would shrink these columns in favor of the last one.
        column.min_width = max(row[index].cell_len for row in rows)
        column.no_wrap = True
    if sys.stdout.isatty():
        table.columns[3].no_wrap, table.columns[3].overflow = True, "ellipsis"
    for row in rows:
        table.add_row(*row)
    out.print(table)
