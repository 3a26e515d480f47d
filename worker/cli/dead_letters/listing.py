"""Verb that lists dead letters."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from heapq import nsmallest
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from worker.cli import screen
from worker.cli.dead_letters.scanning import (
    ScanSummary,
    expiry,
    note_unseen,
    scan_with_progress,
)
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, expand_options
from worker.cli.running import run_async
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.runtime.clock import utc_now

_TABLE_MIN_COLUMNS: Final = 150
_CELL_MAX_COLUMNS: Final = 36
# Shown on a terminal of any height.
_SHOWN_MIN: Final = 5
# Two headings, the total, a blank line, a note and the prompt.
_OTHER_LINES: Final = 7
_COLUMNS: Final = (
    "id", "reason", "detail", "user", "policy", "version", "age", "expires in", "receives",
    "replays",
)  # fmt: skip
_FIRST_LINE: Final = (0, 1, 6, 7, 8, 9)
_SECOND_LINE: Final = (3, 4, 5, 2)


class _Summaries:
    """Counts of all matching dead letters, and the ones to show: those that expire first.

    Args:
        selected: Filter to match.
        limit: Maximum number to show; None for all.
    """

    def __init__(self, selected: DeadLetterFilter, limit: int | None) -> None:
        self.counts: Counter[str] = Counter()
        self.first_expiry: dict[str, datetime] = {}
        self._selected = selected
        self._limit = limit
        self._kept: list[DeadLetter] = []

    def add(self, dead_letter: DeadLetter) -> bool:
        """Count a dead letter if it matches; return True to continue the scan."""
        if self._selected.matches(dead_letter):
            self.counts[dead_letter.reason] += 1
            first = self.first_expiry.setdefault(dead_letter.reason, dead_letter.expires_at)
            self.first_expiry[dead_letter.reason] = min(first, dead_letter.expires_at)
            self._kept.append(dead_letter.without_content())
            if self._limit is not None and len(self._kept) > 2 * self._limit:
                self._kept = self.shown()
        return True

    def shown(self) -> list[DeadLetter]:
        """Return the dead letters to show, soonest to expire first."""
        count = len(self._kept) if self._limit is None else self._limit
        return nsmallest(count, self._kept, key=lambda each: (each.expires_at, each.message_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(FilterOptions):
    """Filter options of `list`, whose limit applies to what is shown, not to what is counted."""

    limit: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            help="Maximum number shown (default on a terminal: what fits). All are counted.",
        ),
    ] = None


@expand_options
def list_(options: ListOptions, as_json: AsJSON = False) -> None:
    """List dead letters, soonest to expire first.

    The dead letters stay in the queue. Counts by reason come first and include every match, even
    those not shown. Exit codes: 0 success, 1 not all dead letters were seen.

    Example: aup-worker dead-letters list --reason unknown_policy --since 3d
    """
    selected, limit = options.dead_letter_filter(), options.limit
    on_terminal = sys.stdout.isatty() and not as_json
    out = screen.stdout()
    found = _Summaries(selected, out.height if on_terminal and limit is None else limit)
    summary = run_async(scan_with_progress("scanning", found.add))
    dead_letters, at = found.shown(), utc_now()
    if as_json:
        report = {
            "counts": dict(found.counts.most_common()),
            "seen": summary.seen,
            "approximate_number": summary.known,
            "not_seen": summary.unseen,
            "dead_letters": [dead_letter.summary(at) for dead_letter in dead_letters],
        }
        screen.print_json(report)
    elif dead_letters:
        _print_found(out, found, at, fit=on_terminal and limit is None)
    else:
        _print_none(out, summary)
    if note_unseen(summary.unseen):
        raise typer.Exit(1)


def _print_found(out: Console, found: _Summaries, at: datetime, *, fit: bool) -> None:
    """Print counts and dead letters; if `fit`, only as many as fit on the screen."""
    dead_letters = found.shown()
    _print_counts(out, found, at)
    if fit:
        dead_letters = dead_letters[: _fitting(out, len(found.counts))]
    _print_dead_letters(out, dead_letters, at)
    matching = found.counts.total()
    if len(dead_letters) < matching:
        screen.note(f"{len(dead_letters):,} shown of {matching:,}; use --limit to show more")


def _fitting(out: Console, reasons: int) -> int:
    """Return how many dead letters fit on the screen below the counts."""
    lines_each = 1 if out.width >= _TABLE_MIN_COLUMNS else 2
    return max(_SHOWN_MIN, (out.height - reasons - _OTHER_LINES) // lines_each)


def _print_none(out: Console, summary: ScanSummary) -> None:
    seen = f" match; {summary.seen:,} others seen" if summary.seen else ""
    out.print(f"no dead letters{seen}")


def _print_counts(out: Console, found: _Summaries, at: datetime) -> None:
    table = screen.table("reason", "count", "first expires in")
    table.columns[1].justify = "right"
    for reason, count in found.counts.most_common():
        first = found.first_expiry[reason]
        table.add_row(screen.plain(reason), f"{count:,}", expiry(first, at))
    table.add_row("total", f"{found.counts.total():,}", "", style="bold")
    out.print(table)
    out.print()


def _print_dead_letters(out: Console, dead_letters: list[DeadLetter], at: datetime) -> None:
    rows = [_cells(dead_letter, at) for dead_letter in dead_letters]
    if out.width < _TABLE_MIN_COLUMNS:
        _print_narrow(out, rows)
        return
    table = screen.table(*_COLUMNS)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _print_narrow(out: Console, rows: list[list[Text]]) -> None:
    """Print each dead letter on two lines, because ten columns do not fit on one."""
    names = [Text(name, style="bold") for name in _COLUMNS]
    widths = [max(row[index].cell_len for row in (names, *rows)) for index in _FIRST_LINE]
    for row in (names, *rows):
        cells = [row[index].copy() for index in _FIRST_LINE]
        for cell, width in zip(cells, widths, strict=True):
            cell.truncate(min(width, _CELL_MAX_COLUMNS), pad=True)
        out.print(Text("  ").join(cells), no_wrap=True, overflow="ellipsis")
        if row is not names:
            details = Text("  ", style="dim") + Text("  ").join(
                row[index] or Text("-") for index in _SECOND_LINE
            )
            out.print(details, no_wrap=True, overflow="ellipsis")


def _cells(dead_letter: DeadLetter, at: datetime) -> list[Text]:
    texts = (
        dead_letter.message_id,
        dead_letter.reason,
        dead_letter.detail,
        dead_letter.user_id or "",
        dead_letter.policy_id or "",
        dead_letter.version or "",
        screen.duration((at - dead_letter.sent_at).total_seconds()),
    )
    return [
        *map(screen.plain, texts),
        expiry(dead_letter.expires_at, at),
        Text(str(dead_letter.receive_count)),
        Text(str(dead_letter.history.count)),
    ]
