"""The verb that lists dead letters."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime
from heapq import nsmallest
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from worker.cli import screen
from worker.cli.dead_letters.scanning import AsJSON, Sight, expiry, look, note_unseen, now
from worker.cli.filters import Grep, Policies, Reasons, Since, Until, Users, Versions, choice
from worker.cli.running import run_async
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter

_TABLE_MIN_COLUMNS: Final = 150
_CELL_MAX_COLUMNS: Final = 36
# On a terminal, however low it is.
_SHOWN_MIN: Final = 5
# Two headings, the sum, a blank line, a note and the prompt.
_OTHER_LINES: Final = 7
_COLUMNS: Final = (
    "id", "reason", "detail", "user", "policy", "version", "age", "expires in", "receives",
    "replays",
)  # fmt: skip
_FIRST_LINE: Final = (0, 1, 6, 7, 8, 9)
_SECOND_LINE: Final = (3, 4, 5, 2)


class _Summaries:
    """Counts over all that match, and those to show: whatever expires first."""

    def __init__(self, chosen: DeadLetterFilter, most: int | None) -> None:
        self.counts: Counter[str] = Counter()
        self.first_expiry: dict[str, datetime] = {}
        self._chosen = chosen
        self._most = most
        self._kept: list[DeadLetter] = []

    def take(self, letter: DeadLetter) -> bool:
        """Note a letter; go on."""
        if self._chosen.matches(letter):
            self.counts[letter.reason] += 1
            first = self.first_expiry.setdefault(letter.reason, letter.expires_at)
            self.first_expiry[letter.reason] = min(first, letter.expires_at)
            self._kept.append(letter.without_content())
            if self._most is not None and len(self._kept) > 2 * self._most:
                self._kept = self.shown()
        return True

    def shown(self) -> list[DeadLetter]:
        """Give those to show, the first to expire first."""
        most = len(self._kept) if self._most is None else self._most
        return nsmallest(most, self._kept, key=lambda each: (each.expires_at, each.message_id))


def list_(  # noqa: PLR0913, PLR0917 - one parameter an option
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            help="How many are shown; on a terminal what it has room for. All are counted.",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List dead letters, the first to expire first; nothing is taken.

    Counts by reason come first and are over all that match, however few are shown. Exit codes: 0
    done, 1 not all dead letters were seen.

    Example: aup-worker dead-letters list --reason unknown_policy --since 3d
    """
    chosen = choice(
        reasons=reason,
        users=user,
        policies=policy,
        versions=version,
        since=since,
        until=until,
        grep=grep,
    )
    on_terminal = sys.stdout.isatty() and not as_json
    out = screen.stdout()
    found = _Summaries(chosen, out.height if on_terminal and limit is None else limit)
    sight = run_async(look("looking", found.take))
    letters, at = found.shown(), now()
    if as_json:
        report = {
            "counts": dict(found.counts.most_common()),
            "seen": sight.seen,
            "approximate_number": sight.known,
            "not_seen": sight.unseen,
            "dead_letters": [letter.summary(at) for letter in letters],
        }
        screen.print_json(report)
    elif letters:
        _print_found(out, found, at, fitted=on_terminal and limit is None)
    else:
        _print_none(out, sight)
    if note_unseen(sight.unseen):
        raise typer.Exit(1)


def _print_found(out: Console, found: _Summaries, at: datetime, *, fitted: bool) -> None:
    """Print counts and dead letters, only as many as the screen has room for if `fitted`."""
    letters = found.shown()
    _print_counts(out, found, at)
    if fitted:
        letters = letters[: _room(out, len(found.counts))]
    _print_letters(out, letters, at)
    matching = found.counts.total()
    if len(letters) < matching:
        screen.note(f"{len(letters):,} shown of {matching:,}: --limit N shows more")


def _room(out: Console, reasons: int) -> int:
    """Say for how many letters the screen has room beside the counts."""
    lines_each = 1 if out.width >= _TABLE_MIN_COLUMNS else 2
    return max(_SHOWN_MIN, (out.height - reasons - _OTHER_LINES) // lines_each)


def _print_none(out: Console, sight: Sight) -> None:
    seen = f" match; {sight.seen:,} others are there" if sight.seen else ""
    out.print(f"no dead letters{seen}")


def _print_counts(out: Console, found: _Summaries, at: datetime) -> None:
    table = screen.table("reason", "count", "first expires in")
    table.columns[1].justify = "right"
    for reason, count in found.counts.most_common():
        first = found.first_expiry[reason]
        table.add_row(screen.plain(reason), f"{count:,}", expiry(first, at))
    table.add_row("in all", f"{found.counts.total():,}", "", style="bold")
    out.print(table)
    out.print()


def _print_letters(out: Console, letters: list[DeadLetter], at: datetime) -> None:
    rows = [_cells(letter, at) for letter in letters]
    if out.width < _TABLE_MIN_COLUMNS:
        _print_narrow(out, rows)
        return
    table = screen.table(*_COLUMNS)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _print_narrow(out: Console, rows: list[list[Text]]) -> None:
    """Give each letter two lines: ten columns find no room."""
    names = [Text(name, style="bold") for name in _COLUMNS]
    widths = [max(row[index].cell_len for row in (names, *rows)) for index in _FIRST_LINE]
    for row in (names, *rows):
        cells = [row[index].copy() for index in _FIRST_LINE]
        for cell, width in zip(cells, widths, strict=True):
            cell.truncate(min(width, _CELL_MAX_COLUMNS), pad=True)
        out.print(Text("  ").join(cells), no_wrap=True, overflow="ellipsis")
        if row is not names:
            about = Text("  ", style="dim") + Text("  ").join(
                row[index] or Text("-") for index in _SECOND_LINE
            )
            out.print(about, no_wrap=True, overflow="ellipsis")


def _cells(letter: DeadLetter, at: datetime) -> list[Text]:
    texts = (
        letter.message_id,
        letter.reason,
        letter.detail,
        letter.user_id or "",
        letter.policy_id or "",
        letter.version or "",
        screen.duration((at - letter.sent_at).total_seconds()),
    )
    return [
        *map(screen.plain, texts),
        expiry(letter.expires_at, at),
        Text(str(letter.receive_count)),
        Text(str(letter.history.count)),
    ]
