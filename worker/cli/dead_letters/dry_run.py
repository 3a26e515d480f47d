"""What a dry run found, on the screen or as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console

from worker.cli import screen
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import Verdict

# On a terminal, however low it is.
_SHOWN_MIN: Final = 5
# Two headings, a blank line, three notes and the prompt.
_OTHER_LINES: Final = 7


@dataclass(slots=True)
class DryRunReport:
    """What a dry run found.

    Attributes:
        letters: as they would be replayed, each with its verdict.
        unreadable: why the policies cannot be read; empty if they can.
        missing: ids that are no dead letters.
        unseen: dead letters that the queue reports and did not hand out.
    """

    letters: list[tuple[DeadLetter, Verdict]] = field(default_factory=list)
    unreadable: str = ""
    missing: int = 0
    unseen: int = 0

    @property
    def verdicts(self) -> Counter[str]:
        """Count the verdicts by their codes."""
        return Counter(verdict.code for _, verdict in self.letters)

    def report(self, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        """Give it for a script; the summaries are the letters' own, in their order."""
        return {
            "matched": len(self.letters),
            "dry_run": True,
            "verdicts": dict(self.verdicts.most_common()),
            "policies_unreadable": self.unreadable,
            "missing": self.missing,
            "not_seen": self.unseen,
            "dead_letters": [
                {**summary, "verdict": verdict.code, "verdict_detail": verdict.detail}
                for summary, (_, verdict) in zip(summaries, self.letters, strict=True)
            ],
        }


def print_rehearsal(found: DryRunReport) -> None:
    """Print the verdicts counted, then letter by letter as far as a terminal has room."""
    if not found.letters:
        return
    out = screen.stdout()
    lines = _print_counts(out, found)
    shown = len(found.letters)
    if sys.stdout.isatty():
        shown = min(shown, max(_SHOWN_MIN, out.height - lines - _OTHER_LINES))
    _print_letters(out, found.letters[:shown])
    if shown < len(found.letters):
        screen.note(f"{shown:,} shown of {len(found.letters):,}: --json tells of all")


def _print_counts(out: Console, found: DryRunReport) -> int:
    """Print how many go which way; give how many lines that took."""
    counts = Counter((letter.reason, verdict.code) for letter, verdict in found.letters)
    table = screen.table("died of", "now", "count")
    table.columns[2].justify = "right"
    for (reason, code), count in counts.most_common():
        table.add_row(screen.plain(reason), screen.plain(code), f"{count:,}")
    out.print(table)
    out.print()
    return len(counts)


def _print_letters(out: Console, letters: list[tuple[DeadLetter, Verdict]]) -> None:
    table = screen.table("id", "died of", "now", "why")
    rows = [
        list(map(screen.plain, (letter.message_id, letter.reason, verdict.code, verdict.detail)))
        for letter, verdict in letters
    ]
    for index, column in enumerate(table.columns[:3]):
        # Or the last one would take their room.
        column.min_width = max(row[index].cell_len for row in rows)
        column.no_wrap = True
    if sys.stdout.isatty():
        table.columns[3].no_wrap, table.columns[3].overflow = True, "ellipsis"
    for row in rows:
        table.add_row(*row)
    out.print(table)
