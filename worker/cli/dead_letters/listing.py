"""Verb that lists dead letters."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import nsmallest
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from worker.cli import screen
from worker.cli.dead_letters.scanning import expiry, note_unseen, scan_with_progress
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, expand_options
from worker.cli.running import run_async
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.runtime.clock import utc_now

_FIRST_LINE: Final = ("id", "reason", "age", "expires in", "receives", "replays")
_DETAILS: Final = ("user", "policy", "version", "detail")


class _Summaries:
    """Counts of all matching dead letters, and the ones to show: those that expire first.

    Args:
        limit: Maximum number to show; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[str] = Counter()
        self.first_expiry: dict[str, datetime] = {}
        self._limit = limit
        self._kept: list[DeadLetter] = []

    def add(self, dead_letter: DeadLetter) -> None:
        """Count a dead letter, and keep it if it may be shown."""
        self.counts[dead_letter.reason] += 1
        first = self.first_expiry.setdefault(dead_letter.reason, dead_letter.expires_at)
        self.first_expiry[dead_letter.reason] = min(first, dead_letter.expires_at)
        self._kept.append(dead_letter.without_content())
        if self._limit is not None and len(self._kept) > 2 * self._limit:
            self._kept = self.shown()

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
    selected = replace(options.dead_letter_filter(), limit=None)
    out = screen.stdout()
    fit = sys.stdout.isatty() and not as_json and options.limit is None
    found = _Summaries(out.height if fit else options.limit)
    summary = run_async(scan_with_progress("scanning", selected, found.add))
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
        _print_found(out, found, at, fit=fit)
    else:
        others = f" match; {summary.seen:,} others seen" if summary.seen else ""
        out.print(f"no dead letters{others}")
    if note_unseen(summary.unseen):
        raise typer.Exit(1)


def _print_found(out: Console, found: _Summaries, at: datetime, *, fit: bool) -> None:
    """Print counts and dead letters; if `fit`, only as many as fit on the screen."""
    counts = (
        (reason, f"{count:,}", expiry(found.first_expiry[reason], at))
        for reason, count in found.counts.most_common()
    )
    table = screen.table(("reason", "count", "first expires in"), counts, right={1})
    matching = found.counts.total()
    table.add_row("total", f"{matching:,}", "", style="bold")
    out.print(table)
    out.print()
    lines = screen.lines_left(out, len(found.counts)) if fit else sys.maxsize
    records = [_record(dead_letter, at) for dead_letter in found.shown()]
    shown = screen.print_records(out, records, _FIRST_LINE, _DETAILS, lines)
    if shown < matching:
        screen.note(f"{shown:,} shown of {matching:,}; use --limit to show more")


def _record(dead_letter: DeadLetter, at: datetime) -> dict[str, str | Text]:
    return {
        "id": dead_letter.message_id,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "user": dead_letter.user_id or "",
        "policy": dead_letter.policy_id or "",
        "version": dead_letter.version or "",
        "age": screen.duration((at - dead_letter.sent_at).total_seconds()),
        "expires in": expiry(dead_letter.expires_at, at),
        "receives": str(dead_letter.receive_count),
        "replays": str(dead_letter.history.count),
    }
